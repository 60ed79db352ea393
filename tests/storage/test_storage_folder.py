"""A folder: what it lists, what it never leaves, and when it reads a file again."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.core.errors import Changed, Missing, Rejected, SettingError, StorageError
from pipeline.storage import _digests, _walk, folder, local_path, open_storage, read_url


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that `old` sets forward: a ctime cannot be set back."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + AHEAD["ns"])
    yield
    AHEAD["ns"] = 0


AHEAD = {"ns": 0}

MEMORY = Path("/proc/self/mem")
"""A file whose first bytes nobody can read: an input/output error."""


def old(path, data=b"bytes"):
    """Write a file whose last change is long enough ago to be trusted."""
    path.write_bytes(data)
    AHEAD["ns"] += 10_000_000_000
    return path


@pytest.fixture
def hashed(monkeypatch):
    """The paths that were read to be hashed."""
    seen = []
    real = folder._md5_of

    def counted(stream):
        seen.append(Path(stream.name).name)
        return real(stream)

    monkeypatch.setattr(folder, "_md5_of", counted)
    return seen


def versions(root, memory):
    storage = open_storage(str(root), memory=memory)
    return {item.key: item.version for item in storage.versioned(storage.list())}


def test_an_unchanged_file_is_read_once(root, tmp_path, hashed):
    old(root / "a")
    memory = tmp_path / "memory.sqlite"
    first = versions(root, memory)
    assert versions(root, memory) == first
    assert hashed == ["a"]


def test_a_file_just_written_is_not_trusted(root, tmp_path, hashed):
    """A second write within the clock's grain leaves size and time as they were."""
    (root / "a").write_bytes(b"bytes")
    memory = tmp_path / "memory.sqlite"
    versions(root, memory)
    versions(root, memory)
    assert hashed == ["a", "a"]


def test_a_file_hashed_while_young_is_not_trusted_however_late_it_is_remembered(
    root, tmp_path, hashed, monkeypatch
):
    """Between a young file's hash and the end of a long listing its clock may have stood still."""
    (root / "a").write_bytes(b"bytes")
    memory = tmp_path / "memory.sqlite"
    real, now = _digests.Digests.put, time.time_ns

    def late(self, found):
        monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
        real(self, found)

    monkeypatch.setattr(_digests.Digests, "put", late)
    versions(root, memory)
    versions(root, memory)
    assert hashed == ["a", "a"]


def test_parts_of_one_file_cost_one_hash(root, monkeypatch):
    old(root / "a", b"0123456789")
    seen = []
    real = folder._md5_of
    monkeypatch.setattr(folder, "_md5_of", lambda stream: seen.append(1) or real(stream))
    storage = open_storage(str(root))
    version = storage.head("a").version
    assert [storage.read("a", start=n, stop=n + 1, if_version=version) for n in range(3)] == [
        b"0",
        b"1",
        b"2",
    ]
    assert seen == [1]


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_other_bytes_of_the_same_size_and_time_are_seen(root, tmp_path, how):
    path = old(root / "a", b"one")
    memory = tmp_path / "memory.sqlite"
    before, stat = versions(root, memory), path.stat()
    other = path if how == "in place" else root / "b"
    other.write_bytes(b"two")
    other.replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert versions(root, memory)["a"] != before["a"]


@pytest.mark.parametrize("harm", ["garbage", "folder"])
def test_a_memory_that_cannot_be_used_costs_time_only(root, tmp_path, harm, caplog):
    old(root / "a")
    memory = tmp_path / "memory.sqlite"
    memory.mkdir() if harm == "folder" else memory.write_bytes(b"not a database" * 100)
    assert list(versions(root, memory)) == ["a"]
    assert "cannot be" in caplog.text


def test_two_processes_can_remember_at_once(root, tmp_path):
    old(root / "a")
    memory = tmp_path / "memory.sqlite"
    versions(root, memory)
    other = sqlite3.connect(memory)
    assert other.execute("SELECT count(*) FROM stamps").fetchone() == (1,)
    other.close()


def test_hidden_files_and_links_that_lead_out_are_not_listed(root, tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"x")
    (root / "in").mkdir()
    (root / "in" / "a").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "door").symlink_to(tmp_path / "outside")
    (root / "gone").symlink_to(tmp_path / "nothing")
    storage = open_storage(str(root))
    assert [item.key for item in storage.list()] == ["in/a"]
    for key in ("link", "door/f"):
        with pytest.raises(StorageError, match="leads out of it by a link"):
            storage.read(key)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../b", "a//b", ".", "", "a\0b"])
def test_a_key_that_is_no_path_below_the_root_is_refused(root, key):
    with pytest.raises(StorageError, match="is no path below it"):
        open_storage(str(root)).read(key)


def test_names_that_are_not_utf8_are_left_out_and_said(root, caplog):
    (root / "a").write_bytes(b"x")
    with open(os.fsencode(root) + b"/\xff.png", "wb"):
        pass
    assert [item.key for item in open_storage(str(root)).list()] == ["a"]
    assert "1 file left out: its name is not UTF-8" in caplog.text


def test_a_folder_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(Missing, match="no such folder; set bucket.url to where the images are"):
        list(open_storage(str(tmp_path / "none")).list())


def test_a_file_removed_during_a_listing_takes_no_other_with_it(root, monkeypatch):
    for name in "abcd":
        (root / name).write_bytes(b"x")
    real = _walk._entries

    def racing(here):
        found = sorted(real(here), key=lambda entry: entry.name)
        (root / "a").unlink()
        return found

    monkeypatch.setattr(_walk, "_entries", racing)
    assert [item.key for item in open_storage(str(root)).list()] == ["b", "c", "d"]


def test_a_file_removed_after_the_listing_is_said(root):
    (root / "a").write_bytes(b"x")
    storage = open_storage(str(root))
    listed = list(storage.list())
    (root / "a").unlink()
    with pytest.raises(Missing, match="/a: removed after it was listed; run dvc repro again"):
        storage.versioned(listed)


def test_a_folder_is_no_object_and_a_file_holds_none(root):
    (root / "folder").mkdir()
    (root / "file").write_bytes(b"x")
    storage = open_storage(str(root))
    for key in ("folder", "file/below"):
        for ask in (storage.head, storage.read):
            with pytest.raises(Missing, match="no such file"):
                ask(key)
        storage.delete(key)
    assert list(storage.list("file/b")) == []
    assert (root / "folder").is_dir()


def test_a_name_that_is_too_long_is_said(root):
    storage = open_storage(str(root))
    for ask in (storage.head, storage.read):
        with pytest.raises(StorageError, match=r"cannot be read \(File name too long\)"):
            ask("x" * 300)


def test_a_link_to_a_file_within_the_folder_is_followed(root):
    (root / "a").write_bytes(b"x")
    (root / "link").symlink_to(root / "a")
    (root / "loop").symlink_to(root)
    storage = open_storage(str(root))
    assert [item.key for item in storage.list()] == ["a", "link"]
    assert storage.read("link") == b"x"


def test_links_that_are_not_followed_are_said(root, tmp_path, caplog):
    (tmp_path / "outside").mkdir()
    (root / "a").write_bytes(b"x")
    (root / "within").mkdir()
    (root / "door").symlink_to(tmp_path / "outside")
    (root / "side").symlink_to(root / "within")
    assert [item.key for item in open_storage(str(root)).list()] == ["a"]
    assert (
        f"{root}: 2 links left out, as 'door': they lead out of the folder, or to a folder; "
        "bucket.follow_symlinks takes what they lead to"
    ) in caplog.text


@pytest.mark.parametrize("follow", [False, True])
def test_links_in_a_circle_and_what_is_no_file_are_left_out_and_said(root, caplog, follow):
    (root / "a").write_bytes(b"x")
    (root / "self").symlink_to("self")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    os.mkfifo(root / "pipe.png")
    assert [item.key for item in open_storage(str(root), follow_symlinks=follow).list()] == ["a"]
    assert "3 links left out, as 'one': they lead to nothing" in caplog.text
    assert "1 entry left out, 'pipe.png': it is a pipe, a socket or" in caplog.text


@pytest.mark.skipif(not MEMORY.exists(), reason="no file whose bytes cannot be read")
def test_a_file_that_the_disk_has_lost_is_refused_and_takes_no_other_with_it(root):
    (root / "lost").symlink_to(MEMORY)
    (root / "a").write_bytes(b"x")
    storage = open_storage(str(root), follow_symlinks=True)
    listed = {item.key: item for item in storage.versioned(storage.list())}
    assert storage.read("a", if_version=listed["a"].version) == b"x"
    for part in ({}, {"start": 0, "stop": 9}):
        with pytest.raises(Rejected) as stop:
            storage.read("lost", if_version=listed["lost"].version, **part)
        assert stop.value.args == ("unreadable", "lost: cannot be read (Input/output error)")
    with pytest.raises(StorageError, match="lost: cannot be read"):
        storage.read("lost")  # which nobody has listed
    (root / "lost").unlink()
    (root / "lost").write_bytes(b"found")
    with pytest.raises(Changed, match="run dvc repro again"):
        storage.read("lost", if_version=listed["lost"].version)


@pytest.mark.skipif(not MEMORY.exists(), reason="no file whose bytes cannot be read")
def test_a_folder_of_which_nothing_can_be_read_is_no_matter_of_its_files(root):
    for number in range(20):
        (root / f"lost{number}").symlink_to(MEMORY)
    storage = open_storage(str(root), follow_symlinks=True)
    with pytest.raises(StorageError, match="cannot be read"):
        storage.versioned(storage.list())
    (root / "a").write_bytes(b"x")
    storage = open_storage(str(root), follow_symlinks=True)
    assert len(storage.versioned(storage.list())) == 21


def test_links_are_followed_where_that_is_asked_for_and_circles_end(root, tmp_path, caplog):
    survey, other = tmp_path / "survey", tmp_path / "other"
    for place in (survey, other):
        place.mkdir()
        (place / "f").write_bytes(place.name.encode())
    (survey / "other").symlink_to(other)
    (other / "survey").symlink_to(survey)
    (root / "2024").symlink_to(survey)
    (root / "one").symlink_to(other / "f")
    (root / "home").symlink_to(root)
    (root / "sub").mkdir()
    (root / "sub" / "self").symlink_to(root / "sub")
    (root / "gone").symlink_to(tmp_path / "nothing")
    storage = open_storage(str(root), follow_symlinks=True)
    assert [item.key for item in storage.list()] == ["2024/f", "2024/other/f", "one"]
    assert storage.read("2024/other/f") == b"other"
    assert len(storage.versioned(storage.list())) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}: 1 link left out, 'gone': it leads to nothing"
    ] * 2
    with pytest.raises(StorageError, match="is no path below it"):
        storage.read("2024/../../secret")


def test_a_folder_reached_by_a_link_is_a_root_like_any_other(root, tmp_path):
    (root / "a").write_bytes(b"x")
    (tmp_path / "alias").symlink_to(root)
    storage = open_storage(str(tmp_path / "alias"))
    assert [item.key for item in storage.list()] == ["a"]
    assert storage.read("a") == b"x"


@pytest.mark.parametrize("name", ["my images", "50%", "a#b", "a?b"])
def test_the_address_of_a_file_and_its_path_are_one(root, name):
    (root / name).write_bytes(b"x")
    assert local_path((root / name).as_uri()) == root / name
    assert read_url((root / name).as_uri()) == read_url(str(root / name))


def test_a_single_file_that_is_missing_is_named_by_its_absolute_path(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(Missing, match=f"^{root}/points.csv: no such file$"):
        read_url("points.csv")


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "/dev/null"])
def test_a_single_file_that_is_a_pipe_or_a_device_is_said_at_once(root, name):
    os.mkfifo(root / "pipe")
    path = root / name
    with pytest.raises(StorageError, match=rf"^{path}: cannot be read \(it is a pipe or a device"):
        read_url(str(path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("~nobody-of-that-name/x", r"^'~nobody-of-that-name/x': is no path \(Could not determine"),
        ("a\0b", r"^'a\\x00b': is no path \(it holds a NUL\)$"),
        ("file:///%00", r"^'file:///%00': is no path \(it holds a NUL\)$"),
        ("n" * 300, rf"^'{'n' * 100}…': is no path \(File name too long\)$"),
        ("file://host/x", r"^'file://host/x': is no path \(it names another machine, 'host'\)$"),
        ("s3://[x", r"^s3://…: is no address \(Invalid IPv6 URL\)$"),
        ("https://me:secret@[", r"^https://…: is no address \(Invalid IPv6 URL\)$"),
    ],
)
def test_what_is_no_path_and_no_address_is_said(url, message):
    for ask in (open_storage, read_url):
        with pytest.raises(SettingError, match=message):
            ask(url)


def test_a_path_that_is_too_long_cannot_be_listed():
    with pytest.raises(StorageError, match=r"cannot be listed \(File name too long\)"):
        list(open_storage("/" + "n" * 300).list())


def test_a_single_file_that_is_a_folder_is_said_to_be_one(root):
    with pytest.raises(Missing, match=f"^{root}: no such file; it is a folder$"):
        read_url(str(root))


def test_a_full_or_read_only_store_is_said_with_its_size(root, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"5 bytes cannot be written \(No space left on device\)"
    ):
        open_storage(str(root)).put("a", b"bytes")
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_relative_path_that_is_not_here_is_the_original_checkouts(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "origin" / "bucket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "origin"))
    assert local_path("bucket") == tmp_path / "origin" / "bucket"
    (tmp_path / "here" / "bucket").mkdir()
    assert local_path("bucket") == tmp_path / "here" / "bucket"
    assert local_path("file:///x/y").as_posix() == "/x/y"
