"""An out directory: exactly what it should hold, and a manifest only where that is so."""

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from pipeline.core import signals
from pipeline.core.errors import InputError, StorageError, TransientError
from pipeline.store import outputs
from pipeline.store.outputs import Out, out

FACTS = {"stage": "test"}


def publish(folder, files, *arguments, **options):
    files = {folder / name: file for name, file in files.items()}
    outputs.publish(folder, files, *arguments, **options)


def times(folder):
    """When each file was written."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


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


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(StorageError) as error:
        publish(tmp_path / "out", {"a": out(b"one")}, FACTS)
    assert str(error.value).startswith(
        f"{tmp_path}/out: cannot be written (File exists); free some space or give this user"
    )
    assert isinstance(error.value.__cause__, FileExistsError)


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


def test_nothing_is_written_if_all_is_as_it_should_be(tmp_path):
    for _ in range(2):
        publish(tmp_path / "out" / "deep", {"a": out(b"one"), "b/c": out(b"two")}, FACTS)
        first = times(tmp_path)
    publish(tmp_path / "out" / "deep", {"b/c": out(b"two"), "a": out(b"one")}, FACTS)
    assert times(tmp_path) == first


@pytest.mark.parametrize("harm", ["gone", "other"])
def test_a_manifest_that_is_gone_or_says_something_else_is_written_anew(tmp_path, harm):
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    manifest = tmp_path / "manifest.json"
    manifest.unlink() if harm == "gone" else manifest.write_text('{"stage": "other"}')
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    assert outputs.read_manifest(tmp_path) == {**FACTS, "files": [f"{tmp_path}/a"]}


def test_a_folder_has_no_manifest_while_it_is_not_what_the_manifest_says(tmp_path):
    publish(tmp_path, {"a": out(b"one"), "b": out(b"two")}, FACTS)
    manifest = tmp_path / "manifest.json"

    def data():
        assert not manifest.exists()
        return b"new"

    publish(tmp_path, {"a": Out(out(b"new").sha256, data)}, FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "manifest.json"]


def test_a_file_that_somebody_else_removes_meanwhile_is_no_error(tmp_path):
    (tmp_path / "extra").write_bytes(b"extra")

    def data():
        (tmp_path / "extra").unlink()
        return b"one"

    publish(tmp_path, {"a": Out(out(b"one").sha256, data)}, FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "manifest.json"]


def test_of_an_out_that_shares_its_folder_only_what_a_killed_run_has_left_is_removed(tmp_path):
    """Users keep their own files beside the results."""
    left, mine = tmp_path / "deep" / f".a.123{outputs.TEMPORARY}", tmp_path / "deep" / "mine"
    left.parent.mkdir()
    left.write_bytes(b"half")
    mine.write_bytes(b"mine")
    publish(tmp_path, {"a": out(b"one")}, FACTS, keep_others=True)
    assert not left.exists()
    assert mine.read_bytes() == b"mine"
    publish(tmp_path, {"a": out(b"one")}, FACTS)
    assert not mine.exists()


def test_every_damaged_file_is_found_before_the_first_error_is_raised(tmp_path):
    """All of their pieces are then made again at once."""

    def damaged(name):
        def data():
            found.append(name)
            raise TransientError(f"{name}: damaged")

        return Out("0" * 64, data)

    found = []
    files = {"c": damaged("c"), "a": damaged("a"), "b": out(b"whole")}
    with pytest.raises(TransientError, match="a: damaged"):
        publish(tmp_path, files, FACTS)
    assert found == ["a", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_file_is_replaced_whole_and_whoever_ends_the_process_knows_the_other(tmp_path):
    path = tmp_path / "new" / "deep" / "a"

    def data():
        (unfinished,) = map(Path, signals.unfinished)
        assert unfinished.parent == path.parent
        assert unfinished.name == f".a.{os.getpid()}{outputs.TEMPORARY}"
        assert not path.exists() or path.read_bytes() == b"one"
        return b"two"

    before = set(signals.unfinished)
    signals.unfinished.clear()
    outputs.place(path, Out(out(b"two").sha256, data))
    assert path.read_bytes() == b"two"
    path.write_bytes(b"one")
    outputs.place(path, Out(out(b"two").sha256, data))
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["a"]
    assert not signals.unfinished
    signals.unfinished.update(before)


def never():
    raise AssertionError("the file is read, though it can be linked")


def test_a_file_of_the_store_is_linked_and_not_copied(tmp_path, monkeypatch):
    def no_clone(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", no_clone)
    stored = tmp_path / "stored"
    stored.write_bytes(b"one")
    publish(tmp_path / "out", {"a": Out(out(b"one").sha256, never, stored)}, FACTS)
    assert stored.samefile(tmp_path / "out" / "a")
    assert outputs.read_manifest(tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other calls for this")
def test_where_files_can_share_their_blocks_an_out_is_a_file_of_its_own(tmp_path, monkeypatch):
    """As on btrfs and XFS, which this machine need not have: what it does is done for it."""

    def clone(new, request, old):
        assert request == 0x40049409  # FICLONE of linux/fs.h
        os.write(new, os.pread(old, 100, 0))

    monkeypatch.setattr(fcntl, "ioctl", clone)
    stored = tmp_path / "stored"
    stored.write_bytes(b"one")
    publish(tmp_path / "out", {"a": Out(out(b"one").sha256, never, stored)}, FACTS)
    assert (tmp_path / "out" / "a").read_bytes() == b"one"
    assert not stored.samefile(tmp_path / "out" / "a")


def test_a_link_to_a_file_that_is_gone_is_replaced_by_a_copy(tmp_path):
    gone = Out(out(b"one").sha256, lambda: b"one", tmp_path / "gone")
    publish(tmp_path / "out", {"a": gone}, FACTS)
    assert (tmp_path / "out" / "a").read_bytes() == b"one"


def test_a_manifest_is_set_aside_until_the_out_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs.set_manifest_aside(outputs.CHIPS)
    assert outputs.known_manifests(outputs.CHIPS) == []
    for number in (1, 2):
        outputs.publish(outputs.CHIPS, {}, {"stage": "chip", "number": number})
        outputs.set_manifest_aside(outputs.CHIPS)
        outputs.set_manifest_aside(outputs.CHIPS)
        assert outputs.read_manifest(outputs.CHIPS) is None
        known = outputs.known_manifests(outputs.CHIPS)
        assert known == [{"stage": "chip", "number": number, "files": []}]
    outputs.publish(outputs.CHIPS, {}, {"stage": "chip", "number": 3})
    assert [each["number"] for each in outputs.known_manifests(outputs.CHIPS)] == [3, 2]
    assert outputs.known_manifests(outputs.LABELS) == []


def test_an_out_is_complete_if_its_folder_and_all_of_its_files_exist(tmp_path):
    assert outputs.is_complete(tmp_path, {"files": []})
    assert outputs.is_complete(tmp_path, {})
    assert not outputs.is_complete(tmp_path / "none", {})
    publish(tmp_path, {"a": out(b"one"), "b": out(b"two")}, FACTS)
    manifest = outputs.read_manifest(tmp_path)
    assert outputs.is_complete(tmp_path, manifest)
    (tmp_path / "a").unlink()
    assert not outputs.is_complete(tmp_path, manifest)


def test_the_files_of_shards_sort_as_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"shard": n, "rows": 1, "sha256": "", "input": ""} for n in (0, 7, 1023)]
    outputs.publish(outputs.CHIPS, {}, {"stage": "chip", "shards": lines})
    paths = [path.as_posix() for path in outputs.shard_paths(outputs.CHIPS)]
    assert paths == [f"data/chips/{number}.parquet" for number in ("0000", "0007", "1023")]


def test_json_for_people_has_lines_and_their_own_letters():
    assert outputs.pretty({"b": [1], "a": "é"}).decode() == '{\n "a": "é",\n "b": [\n  1\n ]\n}\n'


LINE = {"shard": 0, "rows": 1, "sha256": "", "input": ""}


@pytest.mark.parametrize("field", LINE)
def test_a_manifest_whose_shards_lack_a_field_counts_as_missing(tmp_path, field):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"stage": "chip", "shards": [LINE, LINE]}))
    assert outputs.read_manifest(tmp_path) is not None
    other = {name: value for name, value in LINE.items() if name != field}
    path.write_text(json.dumps({"stage": "chip", "shards": [LINE, other]}))
    assert outputs.read_manifest(tmp_path) is None
