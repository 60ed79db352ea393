"""An out directory: exactly what it should hold, and a manifest only where that is so."""

import json

import pytest

from pipeline.core.errors import InputError, StorageError
from pipeline.store import outputs
from pipeline.store.outputs import Out, out

FACTS = {"stage": "test"}


def publish(folder, files, *arguments):
    outputs.publish(folder, {folder / name: file for name, file in files.items()}, *arguments)


def test_a_file_with_the_right_bytes_is_not_touched(tmp_path):
    publish(tmp_path, {"a": out(b"one"), "deep/b": out(b"two")}, FACTS)
    before = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
    publish(tmp_path, {"a": out(b"one"), "deep/b": out(b"three")}, FACTS)
    assert (tmp_path / "a").stat().st_mtime_ns == before[tmp_path / "a"].st_mtime_ns
    assert (tmp_path / "a").stat().st_ino == before[tmp_path / "a"].st_ino
    assert (tmp_path / "deep" / "b").read_bytes() == b"three"
    files = [str(tmp_path / name) for name in ("a", "deep/b")]
    assert outputs.read_manifest(tmp_path) == {**FACTS, "files": files}


def test_a_file_with_other_bytes_of_the_same_length_is_replaced(tmp_path):
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    (tmp_path / "a").write_bytes(b"eno")
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    assert (tmp_path / "a").read_bytes() == b"one"


def test_other_files_in_the_folder_are_removed(tmp_path):
    (tmp_path / "old.parquet").write_bytes(b"x")
    (tmp_path / ".left.123.tmp").write_bytes(b"x")
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "manifest.json"]


def test_an_interrupted_run_leaves_no_manifest(tmp_path):
    publish(tmp_path, {"a": out(b"one")}, FACTS)

    def broken():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, {"a": Out("0" * 64, broken)}, FACTS)
    assert outputs.read_manifest(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_stage_leaves_its_files_but_no_manifest(tmp_path):
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    with pytest.raises(InputError, match="too bad"):
        publish(tmp_path, {"a": out(b"two")}, FACTS, InputError("too bad"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert outputs.read_manifest(tmp_path) is None


def test_a_linked_file_is_replaced_and_never_written_through(tmp_path):
    stored = tmp_path / "stored"
    stored.write_bytes(b"one")
    folder = tmp_path / "out"
    linked = Out(out(b"one").sha256, lambda: b"one", link=stored)
    publish(folder, {"a": linked}, FACTS)
    assert (folder / "a").read_bytes() == b"one"
    publish(folder, {"a": out(b"two")}, FACTS)
    assert stored.read_bytes() == b"one"


def test_a_damaged_link_is_replaced_by_a_copy(tmp_path):
    stored = tmp_path / "stored"
    stored.write_bytes(b"harmed")
    publish(tmp_path / "o", {"a": Out(out(b"one").sha256, lambda: b"one", stored)}, FACTS)
    assert (tmp_path / "o" / "a").read_bytes() == b"one"
    assert stored.read_bytes() == b"harmed"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "place", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
        publish(tmp_path / "out", {"a": out(b"one")}, FACTS)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_file_that_is_no_manifest_counts_as_missing(tmp_path, text, monkeypatch):
    monkeypatch.setattr(outputs, "STAGES", {tmp_path: "chip"})
    (tmp_path / "manifest.json").write_text(text)
    assert outputs.read_manifest(tmp_path) is None
    with pytest.raises(InputError, match=r"has no manifest; run the chip stage first"):
        outputs.require_manifest(tmp_path)


def test_json_does_not_depend_on_the_order_of_keys(tmp_path):
    assert outputs.pretty({"b": 1, "a": "é"}) == outputs.pretty({"a": "é", "b": 1})
    assert json.loads(outputs.pretty({"a": "é"})) == {"a": "é"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04",
        b"[]",
        b"[" * 200_000,
        b"{}",
        b'{"stage": 5}',
        b'{"stage": "chip", "shards": 5}',
        b'{"stage": "chip", "shards": [5]}',
        b'{"stage": "chip", "shards": [{"shard": "../x", "rows": 1, "sha256": "", "input": ""}]}',
    ],
    ids=["empty", "binary", "list", "depth", "nothing", "number", "count", "lines", "path"],
)
def test_a_manifest_of_another_form_counts_as_missing(tmp_path, data, monkeypatch):
    monkeypatch.setattr(outputs, "STAGES", {tmp_path: "chip"})
    (tmp_path / "manifest.json").write_bytes(data)
    assert outputs.read_manifest(tmp_path) is None
    with pytest.raises(InputError, match="has no manifest; run the chip stage first"):
        outputs.require_manifest(tmp_path)


def test_a_folder_of_shards_holds_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {outputs.CHIPS / "0000.parquet": out(b"rows"), outputs.rejects_path("chip"): out(b"no")}
    outputs.publish(outputs.CHIPS, files, {"stage": "chip"})
    assert [path.name for path in outputs.CHIPS.iterdir()] == ["0000.parquet"]
    manifest = json.loads((tmp_path / "data/manifests/chips.json").read_text())
    assert manifest["files"] == ["data/chips/0000.parquet", "data/rejects/chip.parquet"]
    assert outputs.is_complete(outputs.CHIPS, manifest)
    (tmp_path / "data/rejects/chip.parquet").unlink()
    assert not outputs.is_complete(outputs.CHIPS, manifest)
