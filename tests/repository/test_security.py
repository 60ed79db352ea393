"""Hostile files and settings: nothing is unpickled or run, whatever calls itself whatever."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import save

from pipeline.commands import pyspacer_features
from pipeline.config import loader
from pipeline.config.machine import machine
from pipeline.core.errors import InputError, SettingError
from pipeline.core.urls import holds_credentials
from pipeline.extract import weights
from pipeline.extract.extractors.precomputed import PrecomputedFeatures
from pipeline.storage import open_storage
from pipeline.store.objects import Damaged, Piece, Store
from pipeline.train import model

OURS = [
    path
    for folder in ("pipeline", "stages", "demo", "benchmarks", "examples", "docs", ".ci")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
READS_PICKLES = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "dill.loads",
    "cloudpickle.load", "cloudpickle.loads", "joblib.load", "marshal.load", "marshal.loads",
    "shelve.open", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "os.system", "os.popen",
}  # fmt: skip
IF = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""Calls that are safe by one argument, which must be written."""

UNSAFE = {"shell": True, "weights_only": False, "allow_pickle": True}


def dangers(tree):
    """Give every call by which a file's content could run, and where it stands."""
    imported, modules = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported |= {
                name.asname or name.name: f"{node.module}.{name.name}" for name in node.names
            }
        elif isinstance(node, ast.Import):
            modules |= {name.asname or name.name for name in node.names}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in calls:
        called = ast.unparse(node.func)
        called = imported.get(called, called)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if called.startswith("yaml.") and "yaml" not in modules:
            continue  # an object of ruamel's, whose making is looked at
        if is_dangerous(called, given):
            yield called, node.lineno


def is_dangerous(called, given):
    if called in READS_PICKLES or any(given.get(name) is value for name, value in UNSAFE.items()):
        return True
    if called.endswith("YAML"):
        return given.get("typ", "rt") not in {"safe", "rt"}
    return called in IF and given.get(IF[called][0]) is not IF[called][1]


def test_nothing_of_ours_calls_what_runs_a_files_content():
    found = {}
    for path in OURS:
        calls = list(dangers(ast.parse(path.read_text(encoding="utf-8"))))
        if path.relative_to(ROOT).parts[0] == "benchmarks":
            calls = [call for call in calls if call[0] != "np.load"]  # of files they have just made
        if calls:
            found[str(path)] = calls
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle; pickle.loads(b'')",
        "from pickle import load as read; read(f)",
        "import torch; torch.load('w.pt')",
        "import torch; torch.load('w.pt', weights_only=False)",
        "import numpy as np; np.load('w.npy', allow_pickle=True)",
        "import numpy as np; np.load('w.npy')",
        "from ruamel.yaml import YAML; YAML(typ='unsafe')",
        "import yaml; yaml.load(f)",
        "import subprocess; subprocess.run('ls', shell=True)",
        "import pandas as pd; pd.read_pickle('x')",
    ],
)
def test_the_test_before_knows_such_calls(code):
    assert list(dangers(ast.parse(code)))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def lying_header(claim):
    text = json.dumps(claim).encode()
    return len(text).to_bytes(8, "little") + text + b"abcd"


@pytest.fixture
def hostile(tmp_path):
    """Files that would make `canary` if they were unpickled, or that lie about their size."""
    evil = Evil(tmp_path / "canary")
    pt, npy, npz = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"a": evil}, pt)
    np.save(npy, np.array([evil], dtype=object), allow_pickle=True)
    np.savez(npz, feat=np.array([[evil]], dtype=object), meta=np.array([False]))
    tensor = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    files = {
        "pt": pt.getvalue(),
        "pkl": pickle.dumps(evil),
        "protocol 0": pickle.dumps(evil, protocol=0),
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "longer than it is": (2**62).to_bytes(8, "little") + b"{}",
        "larger than it is": lying_header({"a": tensor}),
        "overlapping": lying_header({
            name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"
        }),
        "nested": lying_header({"a": "b"}),
    }  # fmt: skip
    yield files
    assert not (tmp_path / "canary").exists()
    pickle.loads(files["pkl"])  # it does bite
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "w.pkl", "w.npy", "w"])
def test_hostile_weights_are_refused(hostile, tmp_path, name):
    for kind, data in hostile.items():
        path = tmp_path / name
        path.write_bytes(data)
        found = weights.Weights(path, hashlib.sha256(data).hexdigest())
        with pytest.raises(InputError, match=name) as stop:
            weights.load(found)
        assert "\n" not in str(stop.value), kind


def test_a_hostile_classifier_is_refused(hostile, tmp_path):
    folder = tmp_path / "classifier"
    folder.mkdir()
    for kind, data in hostile.items():
        (folder / "model.safetensors").write_bytes(data)
        card = {"format": model.FORMAT, "classes": ["a"], "tensors": model.sha256(data)}
        (folder / "model.json").write_text(json.dumps(card))
        with pytest.raises(
            InputError, match=r"classifier: not a classifier that can be read"
        ) as no:
            model.read(folder)
        assert "\n" not in str(no.value), kind
        (folder / "model.json").write_bytes(data)
        with pytest.raises(InputError, match=r"model.json: not "):
            model.read(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_pipe_in_a_classifiers_place_is_refused_at_once(tmp_path, name):
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="it is a pipe or a device"):
        model.read(tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"mean": torch.tensor(1.0)},
        {"layers.0.weight": torch.ones(3)},
        {"layers.0.bias": torch.ones(7)},
        {"temperature": torch.zeros(0)},
        {"scale": torch.ones(9)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_classifier_whose_parts_do_not_fit_is_refused(tmp_path, tensors):
    fitting = {
        "mean": torch.zeros(4),
        "scale": torch.ones(4),
        "temperature": torch.ones(1),
        "layers.0.weight": torch.ones(2, 4),
        "layers.0.bias": torch.ones(2),
    }
    for given, refused in ((fitting, False), (fitting | tensors, True)):
        data = save(given)
        (tmp_path / "model.safetensors").write_bytes(data)
        card = {"format": model.FORMAT, "classes": ["a", "b"]}
        card["tensors"] = model.sha256(data)
        (tmp_path / "model.json").write_text(json.dumps(card))
        if refused:
            with pytest.raises(InputError):
                model.read(tmp_path)
        else:
            assert model.read(tmp_path).sizes == (4, 2)


def test_a_hostile_feature_file_is_refused(hostile):
    for kind, data in hostile.items():
        with pytest.raises(InputError) as stop:
            pyspacer_features.parse(data)
        assert "\n" not in str(stop.value), kind


def archive(**members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(f"{name}.npy", data)
    return sink.getvalue()


def npy(shape, body=b""):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body


def test_bombs_that_call_themselves_features_are_refused_unpacked():
    point = {"point_features": [{"data": [1], "row": 2**32, "col": 1}], "valid_rowcol": True}
    zeros = archive(feat=npy("(67108865,)", bytes(8)), meta=npy("(1,)", bytes(8)))
    claims = zeros.replace((136).to_bytes(4, "little"), (2**30).to_bytes(4, "little"))
    for data in (
        b"[" * 200_000,
        b"[[1" + b"0" * 400 + b"]]",
        json.dumps(point).encode(),
        claims,
        archive(feat=npy("(1099511627776,)"), meta=npy("(1,)", bytes(8))),
        zeros.replace(b"\x08\x00", b"\x63\x00"),  # packed in a way that nobody knows
    ):
        with pytest.raises(InputError, match="is not a feature file of PySpacer"):
            pyspacer_features.parse(data)


@pytest.mark.parametrize(
    "card",
    [
        b"[" * 200_000,
        b'{"format": 3, "tensors": "", "classes": 5}',
        b'{"format": 3, "tensors": "", "classes": ["a", "a"]}',
        b'{"format": 3, "tensors": "", "classes": ["\\ud800"]}',
        b'{"format": 3, "tensors": "", "classes": ["a"], "extractor": []}',
        b'{"format": 3, "tensors": "", "classes": ["a"], "extractor": {"made_by": 1}}',
    ],
    ids=["depth", "number", "twice", "half a character", "list", "number of parts"],
)
def test_a_mangled_card_of_a_classifier_is_refused(tmp_path, card):
    (tmp_path / "model.json").write_bytes(card)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.json: "):
        model.read(tmp_path)


def test_a_hostile_table_of_features_is_refused(hostile, tmp_path):
    path = tmp_path / "features.parquet"
    section = loader.load(ROOT / "params.yaml").extract
    for data in hostile.values():
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"features\.parquet: not a Parquet file"):
            PrecomputedFeatures(path, section)


def test_a_hostile_piece_of_the_store_is_set_aside(hostile, tmp_path):
    store = Store(open_storage(str(tmp_path / "store")))
    piece = Piece("features", "r", "p0", "i")
    for data in hostile.values():
        store.put(piece, {"parquet": (b"rows", 1)}, {"run": "r", "computed": 1})
        (tmp_path / "store" / piece.path("parquet")).write_bytes(data)
        with pytest.raises(Damaged):
            store.read(piece, "parquet")
        store.put(piece, {"parquet": (b"rows", 1)}, {"run": "r", "computed": 1})
        (tmp_path / "store" / piece.path("json")).write_bytes(data)
        with pytest.raises(Damaged):
            store.record(piece)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [{canary}]",
        "bucket: {{url: !!python/object/apply:os.mkdir [{canary}]}}",
        "bucket: !!python/object/new:os.mkdir [{canary}]",
    ],
)
def test_hostile_yaml_runs_nothing(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text.format(canary=tmp_path / "canary"))
    with pytest.raises(SettingError):
        loader.load(path)
    assert not (tmp_path / "canary").exists()


MANY = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (MANY.encode(), "more than 100,000 values, by anchors in anchors"),
        (b"bucket: \xe9\n", "'utf-8' codec can't decode byte 0xe9"),
        (b"bucket: \x01\n", "unacceptable character #x0001"),
        (b"bucket: " + b"9" * 5000, "Exceeds the limit"),
        ("\n".join(" " * depth + "a:" for depth in range(1500)).encode(), "maximum recursion"),
    ],
    ids=["anchors", "latin-1", "control", "digits", "depth"],
)
def test_yaml_that_is_none_or_a_bomb_is_one_sentence(tmp_path, data, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    with pytest.raises(SettingError, match=f"^params.yaml: not YAML: {message}") as stop:
        loader.load(path)
    assert "\n" not in str(stop.value)


SECRET = "CANARY0123456789"
ADDRESSES = [
    f"https://me:{SECRET}@example.org/points.csv",
    f"s3://AKIA:{SECRET}@reef/images",
    f"https://example.org/p.csv?X-Amz-Algorithm=a&X-Amz-Signature={SECRET}",
    f"https://example.org/p.csv?sv=2024&sig={SECRET}",
    f"https://example.org/p.csv?token={SECRET}",
    f"https://example.org/p.csv?ACCESS_TOKEN={SECRET}",
    f"https://example.org/p.csv?AWSAccessKeyId=a&Signature={SECRET}",
    f"https://[{SECRET}@x/p.csv",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("setting", ["bucket.url", "annotations.path", "extract.weights"])
def test_an_address_with_credentials_is_refused_and_not_shown(tmp_path, address, setting):
    section, _, key = setting.partition(".")
    text = (ROOT / "params.yaml").read_text().splitlines()
    begin = text.index(f"{section}:")
    at = next(n for n in range(begin, len(text)) if text[n].startswith(f"  {key}:"))
    text[at] = f'  {key}: "{address}"'
    text.append("unknown: 1")
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(text))
    with pytest.raises(SettingError) as stop:
        loader.load(path)
    assert str(stop.value).startswith(f"params.yaml:{at + 1}: {setting}: the address holds a user")
    assert SECRET not in str(stop.value)


@pytest.mark.parametrize("setting", ["store", "endpoint", "weights_mirror"])
def test_a_machines_setting_with_credentials_is_refused_and_not_shown(tmp_path, setting):
    for address in ADDRESSES[:3]:
        path = tmp_path / "luigi.cfg"
        path.write_text(f"[quadrat]\n{setting} = {address}\n")
        for env in ({"LUIGI_CONFIG_PATH": str(path)}, {f"QUADRAT_{setting.upper()}": address}):
            with pytest.raises(SettingError, match=f"{setting}: the address holds a user") as stop:
                machine(env)
            assert SECRET not in str(stop.value)


@pytest.mark.parametrize(
    "text",
    [
        "demo/points.csv",
        "s3://reef/images",
        "https://example.org/points.csv?version=3&design=b",
        "https://example.org/a@b.csv",
        "module:Class",
        "/data/a?token=b@c",
    ],
)
def test_an_address_without_credentials_is_none_with_them(text):
    assert not holds_credentials(text)


def test_no_page_has_luigid_listen_on_every_interface():
    """That is luigid's own default, and whoever reaches it hands out work."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "luigid --" in line:
                assert "luigid --address " in line, (path, line)
                assert "0.0.0.0" not in line


def test_an_endpoint_of_a_profile_with_a_password_is_refused_and_not_shown(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = http://me:{SECRET}@127.0.0.1:9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(SettingError, match="the endpoint holds a user name or password") as stop:
        open_storage("s3://reef/images").head("a.jpg")
    assert SECRET not in str(stop.value)
