"""Weights: from wherever they are to checked tensors, and never a pickle run, nor a stale file."""

import hashlib
import http.server
import io
import json
import logging
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import servers
import torch
from safetensors.torch import save, save_file

from pipeline.core.errors import InputError, SettingError, StorageError
from pipeline.extract import weights
from pipeline.extract.weights import Weights, WeightsSource, apply, fetch, load

WAYS = (
    "a file's path in extract.weights",
    "an s3:// or https:// address in extract.weights",
    "with extract.weights_sha256",
    "weights_mirror in luigi.cfg (QUADRAT_WEIGHTS_MIRROR)",
)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def named(path):
    return Weights(path, sha256(path.read_bytes()))


@pytest.fixture
def web(tmp_path):
    """A folder that a server on loopback shows, its address, and what was asked of it."""
    folder = tmp_path / "web"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *args):
            asked.append(self.path)

    with servers.answering(Handler) as address:
        yield folder, address, asked


def test_a_path_is_used_where_it_is(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"some weights")
    assert fetch(WeightsSource(str(path)), tmp_path / "cache") == Weights(
        path, sha256(b"some weights")
    )
    assert not (tmp_path / "cache").exists()


def test_a_changed_file_has_another_digest_at_once(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"one")
    before = path.stat()
    assert fetch(WeightsSource(str(path)), tmp_path).sha256 == sha256(b"one")
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fetch(WeightsSource(str(path)), tmp_path).sha256 == sha256(b"two")


@pytest.mark.parametrize(
    "expected", [{"sha256": sha256(b"right")}, {"prefix": sha256(b"right")[:8]}]
)
def test_an_address_with_a_known_digest_is_downloaded_once(web, tmp_path, expected):
    folder, url, asked = web
    (folder / "w.pth").write_bytes(b"right")
    source = WeightsSource(f"{url}/w.pth?signature=secret", **expected)
    first = fetch(source, tmp_path / "cache")
    assert first == Weights(tmp_path / "cache" / sha256(b"right") / "w.pth", sha256(b"right"))
    (folder / "w.pth").unlink()
    assert fetch(source, tmp_path / "cache") == first
    assert len(asked) == 1
    kept = "".join(path.read_text() for path in (tmp_path / "cache").rglob("*.json"))
    assert "secret" not in kept


def test_an_address_of_unknown_digest_is_never_stale(web, tmp_path, caplog):
    folder, url, _ = web
    source = WeightsSource(f"{url}/w.pth")
    with caplog.at_level(logging.INFO):
        for content in (b"one", b"two"):
            (folder / "w.pth").write_bytes(content)
            assert fetch(source, tmp_path).path.read_bytes() == content
    assert f"set extract.weights_sha256: {sha256(b'one')}" in caplog.text


def test_a_damaged_file_in_the_cache_is_fetched_again(web, tmp_path):
    folder, url, asked = web
    (folder / "w.pth").write_bytes(b"right")
    source = WeightsSource(f"{url}/w.pth", sha256(b"right"))
    kept = fetch(source, tmp_path / "cache").path
    kept.write_bytes(b"wrong")
    assert fetch(source, tmp_path / "cache").path.read_bytes() == b"right"
    assert len(asked) == 2


def test_another_expected_digest_does_not_find_the_old_file(web, tmp_path):
    folder, url, _ = web
    for content in (b"one", b"two"):
        (folder / "w.pth").write_bytes(content)
        found = fetch(WeightsSource(f"{url}/w.pth", sha256(content)), tmp_path / "cache")
        assert found.path.read_bytes() == content


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        ({"sha256": "0" * 64}, "0" * 64),
        ({"prefix": "abcdef12"}, "abcdef12…"),
    ],
)
def test_another_digest_than_expected_is_an_error_that_names_both(web, tmp_path, expected, shown):
    folder, url, _ = web
    (folder / "w.pth").write_bytes(b"w")
    (tmp_path / "w.pth").write_bytes(b"w")
    for place in (f"{url}/w.pth", str(tmp_path / "w.pth")):
        with pytest.raises(InputError) as stop:
            fetch(WeightsSource(place, **expected), tmp_path / "cache")
        assert str(stop.value) == (
            f"{place}: has SHA-256 {sha256(b'w')}, not {shown}; get the right file, or set "
            "extract.weights_sha256 to what it has"
        )


def test_s3_is_asked_for_its_version_and_read_again_only_when_that_changed(tmp_path, monkeypatch):
    with servers.moto(tmp_path) as endpoint:
        for name, value in servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        put = servers.client(endpoint).put_object
        url = f"s3://{servers.BUCKET}/models/w.pth"
        reads = []
        plain = weights.read_url
        monkeypatch.setattr(weights, "read_url", lambda url: reads.append(url) or plain(url))
        for content in (b"one", b"two"):
            put(Bucket=servers.BUCKET, Key="models/w.pth", Body=content)
            for _ in range(2):
                assert fetch(WeightsSource(url), tmp_path / "cache").path.read_bytes() == content
        assert len(reads) == 2
        with pytest.raises(InputError) as stop:
            fetch(WeightsSource(f"s3://{servers.BUCKET}/none.pth"), tmp_path / "cache")
        assert all(way in str(stop.value) for way in WAYS)


def test_what_cannot_be_had_names_the_three_ways(web, tmp_path):
    for place in (f"{web[1]}/none.pth", str(tmp_path / "none.pth")):
        with pytest.raises(InputError) as stop:
            fetch(WeightsSource(place), tmp_path / "cache")
        assert str(stop.value).startswith("extract.weights: ")
        assert "none.pth" in str(stop.value)
        assert all(way in str(stop.value) for way in WAYS)


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_pipe_or_a_device_is_no_file_of_weights(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=rf"{name} cannot be read \(it is a pipe or a device"):
        fetch(WeightsSource(str(tmp_path / name)), tmp_path / "cache")


def test_an_address_without_encryption_is_refused(tmp_path):
    with pytest.raises(SettingError, match="not a safe address; use https://"):
        fetch(WeightsSource("http://example.org/w.pth"), tmp_path)


def test_a_broken_write_leaves_nothing_behind(web, tmp_path, monkeypatch):
    folder, url, _ = web
    (folder / "w.pth").write_bytes(b"w")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        fetch(WeightsSource(f"{url}/w.pth"), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.steps": torch.tensor(4)}


def same(found):
    return list(found) == list(TENSORS) and all(torch.equal(found[k], TENSORS[k]) for k in TENSORS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"net": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state, "args": {"seed": 1}},
        lambda state: {
            "net": state,
            "acc": np.float64(0.5),
            "seen": np.int64(9),
            "loss": np.float32(1),
        },
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.tar"])
def test_the_usual_layouts_are_unwrapped(tmp_path, wrap, name):
    torch.save(wrap(TENSORS), tmp_path / name)
    assert same(load(named(tmp_path / name)))


def test_safetensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    found = load(named(tmp_path / "w.safetensors"))
    assert {name: value.tolist() for name, value in found.items()} == {
        "a.weight": [[0, 1, 2], [3, 4, 5]],
        "a.steps": 4,
    }


def test_numbers_pickled_before_numpy_2_are_read(tmp_path):
    """NumPy 2 moved their constructor; CoralNet's file is from before."""
    path = tmp_path / "w.pt"
    torch.save({"net": TENSORS, "acc": np.float64(0.5)}, path)
    old = io.BytesIO()
    with zipfile.ZipFile(path) as here, zipfile.ZipFile(old, "w") as there:
        for item in here.namelist():
            data = here.read(item)
            if item.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            there.writestr(item, data)
    path.write_bytes(old.getvalue())
    assert same(load(named(path)))


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize(
    "write",
    [
        lambda evil, path: torch.save({"a": torch.ones(1), "b": evil}, path),
        lambda evil, path: torch.save(
            {"net": {"a": evil}}, path, _use_new_zipfile_serialization=False
        ),
        lambda evil, path: path.write_bytes(pickle.dumps({"a": evil})),
        lambda evil, path: torch.save(torch.nn.Linear(2, 2), path),
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.tar", "w.bin"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, write, name):
    path = tmp_path / name
    write(Evil(tmp_path / "canary"), path)
    with pytest.raises(InputError) as stop:
        load(named(path))
    assert str(stop.value) == (
        f"{path}: holds pickled objects, not only tensors; save it again with "
        "safetensors.torch.save_file"
    )
    assert not (tmp_path / "canary").exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "canary")))
    with pytest.raises(InputError, match="w.safetensors: not a file of weights: "):
        load(named(path))
    assert not (tmp_path / "canary").exists()


def test_reading_allows_nothing_for_the_rest_of_the_process(tmp_path):
    torch.save({"net": TENSORS, "acc": np.float64(0.5)}, tmp_path / "w.pt")
    before = set(torch.serialization.get_safe_globals())
    load(named(tmp_path / "w.pt"))
    assert set(torch.serialization.get_safe_globals()) == before


def header(found):
    text = json.dumps(found).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pt", b""),
        ("w.pt", b"<html><title>404</title></html>"),
        ("passwd", b"root:x:0:0:root:/root:/bin/bash\n"),
        ("w.pt", b"PK\x03\x04 torn"),
        ("w.safetensors", b""),
        ("w.safetensors", (2**62).to_bytes(8, "little") + b"{}"),
        ("w.safetensors", save(TENSORS)[:-4]),
        (
            "w.safetensors",
            header({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4]}}) + b"abcd",
        ),
    ],
)
def test_a_file_that_holds_no_weights_is_a_one_line_error(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as stop:
        load(named(path))
    assert str(stop.value).startswith(f"{path}: not a file of weights: ")
    assert "\n" not in str(stop.value)
    assert "weights_only" not in str(stop.value)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([torch.ones(1)], "holds a list, not tensors by name"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"epoch": 3}, "holds no tensors"),
        (
            {"a": torch.ones(2), "b": torch.tensor([1, torch.nan]), "c": torch.tensor([torch.inf])},
            "b holds values that are not finite",
        ),
        (
            {"a": torch.tensor([-torch.inf], dtype=torch.bfloat16)},
            "a holds values that are not finite",
        ),
    ],
)
def test_a_file_without_usable_tensors_is_an_error(tmp_path, found, message):
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(InputError) as stop:
        load(named(tmp_path / "w.pt"))
    assert str(stop.value) == f"{tmp_path / 'w.pt'}: {message}"


def test_weights_replaced_after_they_were_named_are_refused(tmp_path):
    """The recipe has the old digest: features of the new file would be kept under it."""
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path)
    before = named(path)
    save_file({"a.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(InputError) as stop:
        load(before)
    assert str(stop.value) == (
        f"{path}: changed while the run went on (SHA-256 was {before.sha256}, is "
        f"{named(path).sha256}); run dvc repro again"
    )


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def test_apply_puts_every_tensor_where_it_belongs():
    module, other = network(), network()
    state = {**other.state_dict(), "head.weight": torch.ones(9)}
    apply(module, state, head=["head."], name="w.pt")
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_batchnorms_counter_may_be_missing():
    """Files from before it was there; it shapes no feature."""
    state = {name: value for name, value in network().state_dict().items() if "tracked" not in name}
    module = network()
    apply(module, state, head=[], name="w.pt")
    assert torch.equal(module[0].weight, state["0.weight"])


def test_apply_names_the_first_three_of_each_fault_and_changes_nothing():
    module = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(3)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"0.weight": torch.ones(5, 1), **{f"x{number}": torch.ones(1) for number in range(5)}}
    with pytest.raises(InputError) as stop:
        apply(module, state, head=["head."], name="w.pt")
    assert str(stop.value) == (
        "w.pt: not the weights of this extractor: it lacks 0.bias, 1.weight, 1.bias; "
        "it has no use for x0, x1, x2; it has another shape for 0.weight"
    )
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
