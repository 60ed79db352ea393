"""A user's extractor, and settings of extractors that are errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from pipeline.config import registry
from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError, SettingError
from pipeline.extract import extractors


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def chips(size, count=4):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_naming_weights_for_an_extractor_without_any_is_an_error():
    with pytest.raises(SettingError, match="filters takes no weights; set it to null"):
        extractors.choose(ExtractParams(extractor="filters", weights="x.pt"), machine())


def test_an_unknown_model_or_weights_is_an_error_that_lists_the_available_ones():
    with pytest.raises(SettingError, match="no classification model 'resnet55' .*resnet50"):
        extractors.choose(ExtractParams(extractor="torchvision/resnet55"), machine())
    with pytest.raises(SettingError, match="resnet18 has no 'IMAGENET1K_V7' among IMAGENET1K_V1"):
        extractors.choose(
            ExtractParams(extractor="torchvision/resnet18", weights="IMAGENET1K_V7"), machine()
        )


OWN = """
from pipeline.extract.extractors import Identity

class Mean:
    dim, size = 3, 8

    def __init__(self, extract, weights):
        pass

    def identity(self):
        return Identity("mean", "", "none", "plain", 1)

    def to(self, device):
        return self

    def __call__(self, chips):
        return chips.float().mean((1, 2))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's own extractor in a file; every test's has a name of its own, since it is loaded."""
    name = f"mine_{tmp_path.name}"
    path = tmp_path / f"{name}.py"
    path.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return path, ExtractParams(extractor=f"{name}:Mean")


def identity_elsewhere(path, extract):
    """The extractor's identity, and a feature, in a process that starts now."""
    code = f"""if True:
        import json, torch
        from pipeline.extract import extractors
        from pipeline.config.machine import machine
        from pipeline.config.sections import ExtractParams
        extract = ExtractParams(extractor={extract.extractor!r})
        extractor = extractors.choose(extract, machine())
        chips = torch.arange(192).reshape(1, 8, 8, 3)
        print(json.dumps([extractor.identity(), extractor.build()(chips).tolist()]))
    """
    env = os.environ | {"PYTHONPATH": f"{path.parent}:{ROOT}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_a_users_class_is_loaded_from_its_module(own):
    path, extract = own
    assert extractors.choose(extract, machine()).weights is None
    assert extractors.choose(extract, machine()).build()(chips(8)).shape == (4, 3)
    module = extract.extractor.partition(":")[0]
    with pytest.raises(SettingError, match=f"module '{module}' has no 'Other'"):
        extractors.choose(ExtractParams(extractor=f"{module}:Other"), machine())
    with pytest.raises(SettingError, match="'not_there:Mean' cannot be imported"):
        extractors.choose(ExtractParams(extractor="not_there:Mean"), machine())
    path.with_name("no_python.py").write_text("class Mean\n")
    with pytest.raises(SettingError, match="'no_python:Mean' cannot be imported"):
        extractors.choose(ExtractParams(extractor="no_python:Mean"), machine())


@pytest.mark.parametrize("name", ["os:system", "os:path", "pathlib:Path", "math:pi"])
def test_what_is_no_extractor_is_an_error_in_one_sentence(name):
    with pytest.raises(SettingError) as stop:
        extractors.choose(ExtractParams(extractor=name), machine())
    assert str(stop.value) == (
        f"extract.extractor: {name!r} is no extractor: a class with identity(), dim and size "
        "(docs/how-to/own-extractor.md)"
    )


def test_the_identity_is_that_of_the_code_that_was_loaded(own):
    """A worker that stays must not call what it has loaded by the name of what came later."""
    path, extract = own
    before = extractors.choose(extract, machine()).identity()
    path.write_text(OWN.replace(".mean(", ".amax("))
    assert extractors.choose(extract, machine()).identity() == before
    assert identity_elsewhere(path, extract)[0] != before


def test_new_code_with_the_same_size_and_mtime_is_what_runs(own):
    """Python trusts its compiled file by the source's size and time."""
    path, extract = own
    stat = path.stat()
    before = identity_elsewhere(path, extract)
    assert list(path.parent.glob("__pycache__/*.pyc"))
    path.write_text(OWN.replace(".mean(", ".amax("))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = identity_elsewhere(path, extract)
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_code_that_changes_while_it_is_loaded_is_an_error(own):
    path, extract = own
    path.write_text(OWN + "\nwith open(__file__, 'a') as stream:\n    stream.write('# another')\n")
    with pytest.raises(InputError, match="changed while it was loaded; run again"):
        extractors.choose(extract, machine()).identity()


LIBRARY = {
    "{mine}.py": """
from lib.nets import Mean as Mean
import json, pipeline.extract.extractors
try:
    from . import unused
except ImportError:
    pass
""",
    "lib/nets.py": "from .deep import layers\n" + OWN.replace("mean(", "mean(layers."),
    "lib/deep/__init__.py": "",
    "lib/deep/layers.py": "from ..other.dims import *\ndef late():\n    import lib.late as late",
    "lib/other/dims.py": "from . import more",
    "lib/other/more.py": "",
    "lib/late.py": "",
    "lib/unused.py": "",
    "unused.py": "",
}


def test_the_users_modules_that_a_class_imports_are_part_of_its_identity(own):
    """With and without __init__.py, by whatever form of import, at the top or in a function."""
    path, extract = own
    names = {name.format(mine=path.stem): text for name, text in LIBRARY.items()}
    for name, text in names.items():
        file = path.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("layers.(1, 2)", "(1, 2)"))
    files = registry.find_user_plugin(extract.extractor, key="").files.values()
    found = {file.relative_to(path.parent).as_posix() for file in files}
    assert found == {name for name in names if "unused" not in name}
