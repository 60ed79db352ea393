"""Runtimes: which one is chosen, that its features equal torch's, and what happens if not."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from torchvision import models

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError, SettingError
from pipeline.core.hardware import device_kind
from pipeline.extract import recipe, runtime, trial

OWN = """
import torch
from pipeline.extract.extractors import Identity

class {name}(torch.nn.Module):
    dim, size = 3, 16

    def __init__(self, extract, weights):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.eye_(self.linear.weight)

    def identity(self):
        return Identity("{name}", "", "none", "plain", 1)

    def forward(self, chips):
        x = self.linear(chips.float().mean((1, 2)))
        {line}
        return x
"""


def requested(extract):
    return recipe.request(extract, machine())


def network_of(extract):
    embedding = recipe.embedding(extract, machine())
    return runtime.load(embedding)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Where trials are remembered; a trial takes seconds."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def here(state, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(state))
    monkeypatch.setenv("QUADRAT_DEVICE", "cpu")


USUAL = 2 if "avx512f" in device_kind("cpu") else 1
"""OpenVINO's chips in a batch if extract.batch is null."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.manual_seed(0)
    torch.save(models.mobilenet_v3_small(weights=None).state_dict(), path)
    return path


@pytest.fixture
def mobilenet(weights):
    def extract(**settings):
        name = "torchvision/mobilenet_v3_small"
        return ExtractParams(extractor=name, weights=str(weights), **settings)

    return extract


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's own class, with one line of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(line, **settings):
        name = f"Own{tmp_path.name.replace('_', '')}"
        (tmp_path / f"{name.lower()}.py").write_text(OWN.format(name=name, line=line))
        return ExtractParams(extractor=f"{name.lower()}:{name}", **settings)

    return write


def features(extract, chips):
    network = network_of(extract)
    batches = chips.reshape(-1, network.batch, *chips.shape[1:])
    return np.concatenate([network(batch) for batch in batches])


def test_a_processor_computes_with_openvino_and_its_features_are_torchs(mobilenet):
    chosen = runtime.choose(requested(mobilenet()))
    assert (chosen.name, chosen.batch) == ("openvino", USUAL)
    chips = trial.pictures(32, 224)
    exact = features(mobilenet(runtime="torch"), chips)
    found = features(mobilenet(), chips)
    assert not np.array_equal(found, exact)  # it is another program
    assert trial.difference(found, exact) < 1e-5


def test_the_runtime_and_its_batch_are_in_the_recipe(mobilenet):
    def numerics(**settings):
        extract = mobilenet(**settings)
        return recipe.embedding(extract, machine()).recipe.parts["numerics"]

    assert numerics(runtime="torch")["runtime"] == "torch"
    assert numerics(runtime="torch")["batch"] == 16
    chosen = numerics()
    assert chosen["runtime"].startswith("openvino 20")
    assert chosen["batch"] == USUAL
    assert numerics(runtime="openvino", batch=USUAL) == chosen
    assert numerics(batch=8)["batch"] == 8


@pytest.mark.slow
def test_bf16_is_as_near_to_fp32_as_torchs_bf16(mobilenet):
    chips = trial.pictures(16, 224)
    exact = features(mobilenet(runtime="torch"), chips)
    theirs = features(mobilenet(runtime="torch", precision="bf16"), chips)
    found = features(mobilenet(precision="bf16"), chips)
    assert trial.difference(found, exact) <= 3 * trial.difference(theirs, exact) + 1e-5


def test_fp16_is_a_precision_and_tf32_is_for_cards(own, mobilenet):
    chips = trial.pictures(16, 16)
    extract = own("x = x + 1")
    half = extract.model_copy(update={"precision": "fp16"})
    exact = features(extract.model_copy(update={"runtime": "torch"}), chips)
    assert runtime.choose(requested(half)).name == "torch"
    assert 0 < trial.difference(features(half, chips), exact) < 2**-9
    with pytest.raises(SettingError, match="openvino has no fp16; set it to auto"):
        runtime.choose(requested(mobilenet(precision="fp16", runtime="openvino")))
    with pytest.raises(
        SettingError, match="tf32 is for NVIDIA's cards, and the device here is cpu"
    ):
        runtime.choose(requested(mobilenet(precision="tf32")))


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_memory_between_layers_is_reused(mobilenet, state):
    """Asked of the system page by page, it takes torch a quarter of its time or more."""
    code = """if True:
        import resource, sys
        import numpy as np
        from pipeline.config.machine import machine
        from pipeline.config.sections import ExtractParams
        from pipeline.core import hardware
        from pipeline.extract import recipe, runtime
        if sys.argv[2] == "given back":
            hardware.keep_freed_memory = lambda: None
        extract = ExtractParams.model_validate_json(sys.argv[1])
        embedding = recipe.embedding(extract, machine())
        network = runtime.load(embedding)
        chips = np.zeros((16, network.size, network.size, 3), np.uint8)
        network(chips), network(chips)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            network(chips)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    said = mobilenet(runtime="torch").model_dump_json()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, said]
    faults = [
        int(subprocess.check_output([*command, how], env=env)) for how in ("given back", "kept")
    ]
    assert faults[1] < faults[0] / 4


def test_a_feature_depends_on_its_chip_alone(mobilenet):
    chips = trial.pictures(8, 224)
    order = np.random.default_rng(0).permutation(8)
    found = features(mobilenet(), chips)
    assert np.array_equal(features(mobilenet(), chips[order]), found[order])


def test_the_trial_runs_once_and_its_network_needs_no_torch(
    mobilenet, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    caplog.set_level(logging.INFO)
    extract = mobilenet()
    chips = trial.pictures(USUAL, 224)
    wanted = features(extract, chips)
    assert caplog.text.count("trying openvino") == 1
    assert "differ from torch's by" in caplog.text
    np.save(tmp_path / "chips.npy", chips)
    code = f"""if True:
        import sys
        import numpy as np
        from pipeline.config.machine import machine
        from pipeline.config.sections import ExtractParams
        from pipeline.extract import recipe, runtime
        extract = ExtractParams.model_validate_json({extract.model_dump_json()!r})
        embedding = recipe.embedding(extract, machine())
        network = runtime.load(embedding)
        np.save("features.npy", network(np.load("chips.npy")))
        print([name for name in ("torch", "openvino_telemetry") if sys.modules.get(name)])
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert np.array_equal(np.load(tmp_path / "features.npy"), wanted)


@pytest.mark.slow
def test_a_damaged_network_is_exported_again(own, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    extract = own("x = x * 2")
    chips = trial.pictures(4, 16)
    wanted = features(extract, chips)
    (path,) = (tmp_path / ".quadrat" / "runtimes").glob("*/model.bin")
    path.write_bytes(bytes(byte ^ 0x40 for byte in path.read_bytes()))
    assert np.array_equal(features(extract, chips), wanted)


@pytest.mark.slow
def test_a_users_class_can_run_in_openvino(own):
    assert runtime.choose(requested(own("x = x + 1"))).name == "openvino"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x = x if float(x.sum()) > 0 else -x", "openvino cannot run"),
        ("x = x + (0.01 if torch.compiler.is_exporting() else 0)", "differ from torch's by"),
        ("x = x * float('nan')", "differ from torch's by nan"),
    ],
)
def test_a_network_that_openvino_cannot_match_stays_in_torch(own, line, why, caplog):
    caplog.set_level(logging.INFO)
    extract = own(line)
    chosen = runtime.choose(requested(extract))
    assert (chosen.name, chosen.batch) == ("torch", 16)
    assert why in caplog.text
    with pytest.raises(InputError, match=r"extract.runtime: .*; set it to auto or torch"):
        runtime.choose(requested(extract.model_copy(update={"runtime": "openvino"})))


def test_a_trial_that_dies_is_logged_and_torch_is_used(own, caplog):
    caplog.set_level(logging.INFO)
    line = "import os; os._exit(9) if torch.compiler.is_exporting() else None"
    assert runtime.choose(requested(own(line))).name == "torch"
    assert "openvino did not survive its trial: exit code 9" in caplog.text


def test_weights_that_cannot_be_used_end_the_run_with_their_own_message(own):
    line = "from pipeline.core.errors import InputError; raise InputError('w.pt: not weights')"
    with pytest.raises(InputError, match=r"^w\.pt: not weights$"):
        runtime.choose(requested(own(line)))


def test_an_extractor_can_opt_out_of_other_runtimes():
    assert runtime.choose(requested(ExtractParams(extractor="filters"))).name == "torch"
    with pytest.raises(SettingError, match="extractors that can be exported from torch"):
        runtime.choose(requested(ExtractParams(extractor="filters", runtime="openvino")))


def test_a_runtime_that_is_not_installed(mobilenet, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    requests = requested(mobilenet()), requested(mobilenet(runtime="openvino"))
    assert runtime.choose(requests[0]).name == "torch"
    with pytest.raises(SettingError, match="openvino is not installed; pip install openvino"):
        runtime.choose(requests[1])
