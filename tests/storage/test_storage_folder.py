"""A folder: what it lists, what it never leaves, and when it reads a file again."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.core.errors import Changed, Missing, Rejected, SettingError, StorageError
from pipeline.storage import (
    content_digests,
    directory_walk,
    folder,
    local_path,
    open_storage,
    read_url,
)


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
    real = folder.hash_file

    def counted(stream):
        seen.append(Path(stream.name).name)
        return real(stream)

    monkeypatch.setattr(folder, "hash_file", counted)
    return seen


def versions(root, cache):
    storage = open_storage(str(root), digest_cache=cache)
    return {item.key: item.version for item in storage.versioned(storage.list())}


def test_an_unchanged_file_is_read_once(root, tmp_path, hashed):
    old(root / "a")
    cache = tmp_path / "digests.sqlite"
    first = versions(root, cache)
    assert versions(root, cache) == first
    assert hashed == ["a"]


def test_a_file_just_written_is_not_trusted(root, tmp_path, hashed):
    """A second write within the clock's grain leaves size and time as they were."""
    (root / "a").write_bytes(b"bytes")
    cache = tmp_path / "digests.sqlite"
    versions(root, cache)
    versions(root, cache)
    assert hashed == ["a", "a"]


def test_a_file_hashed_soon_after_a_change_is_not_trusted_however_late_it_is_remembered(
    root, tmp_path, hashed, monkeypatch
):
    """Between a young file's hash and the end of a long listing its clock may have stood still."""
    (root / "a").write_bytes(b"bytes")
    cache = tmp_path / "digests.sqlite"
    real, now = content_digests.ContentDigests.put, time.time_ns

    def late(self, files):
        monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
        real(self, files)

    monkeypatch.setattr(content_digests.ContentDigests, "put", late)
    versions(root, cache)
    versions(root, cache)
    assert hashed == ["a", "a"]


def test_parts_of_one_file_cost_one_hash(root, monkeypatch):
    old(root / "a", b"0123456789")
    seen = []
    real = folder.hash_file
    monkeypatch.setattr(folder, "hash_file", lambda stream: seen.append(1) or real(stream))
    storage = open_storage(str(root))
    version = storage.head("a").version
    assert [storage.read("a", start=n, stop=n + 1, if_version=version) for n in range(3)] == [
        b"0",
        b"1",
        b"2",
    ]
    assert seen == [1]


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_change_that_keeps_size_and_mtime_is_detected(root, tmp_path, how):
    path = old(root / "a", b"one")
    cache = tmp_path / "digests.sqlite"
    before, stat = versions(root, cache), path.stat()
    other = path if how == "in place" else root / "b"
    other.write_bytes(b"two")
    other.replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert versions(root, cache)["a"] != before["a"]


@pytest.mark.parametrize("harm", ["garbage", "folder"])
def test_a_digest_cache_that_cannot_be_used_costs_time_only(root, tmp_path, harm, caplog):
    old(root / "a")
    cache = tmp_path / "digests.sqlite"
    cache.mkdir() if harm == "folder" else cache.write_bytes(b"not a database" * 100)
    assert list(versions(root, cache)) == ["a"]
    assert "cannot be" in caplog.text


def test_another_process_can_read_the_digest_cache(root, tmp_path):
    old(root / "a")
    cache = tmp_path / "digests.sqlite"
    versions(root, cache)
    other = sqlite3.connect(cache)
    assert other.execute("SELECT count(*) FROM stamps").fetchone() == (1,)
    other.close()


def test_hidden_files_and_links_out_of_the_folder_are_not_listed(root, tmp_path):
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
def test_a_key_that_is_not_a_path_below_the_root_is_refused(root, key):
    with pytest.raises(StorageError, match="is not a path below it"):
        open_storage(str(root)).read(key)


def test_files_whose_names_are_not_utf8_are_skipped_and_logged(root, caplog):
    (root / "a").write_bytes(b"x")
    with open(os.fsencode(root) + b"/\xff.png", "wb"):
        pass
    assert [item.key for item in open_storage(str(root)).list()] == ["a"]
    assert "1 file skipped ('\\udcff.png'): names must be UTF-8" in caplog.text


def test_the_error_of_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(Missing, match="no such folder; set bucket.url to where the images are"):
        list(open_storage(str(tmp_path / "none")).list())


def test_a_file_removed_during_a_listing_hides_no_other(root, monkeypatch):
    for name in "abcd":
        (root / name).write_bytes(b"x")
    real = directory_walk._entries

    def racing(here):
        entries = sorted(real(here), key=lambda entry: entry.name)
        (root / "a").unlink()
        return entries

    monkeypatch.setattr(directory_walk, "_entries", racing)
    assert [item.key for item in open_storage(str(root)).list()] == ["b", "c", "d"]


def test_a_file_removed_after_the_listing_is_an_error(root):
    (root / "a").write_bytes(b"x")
    storage = open_storage(str(root))
    listed = list(storage.list())
    (root / "a").unlink()
    with pytest.raises(Missing, match="/a: removed after it was listed; run dvc repro again"):
        storage.versioned(listed)


def test_a_folder_is_not_an_object_and_a_file_contains_none(root):
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


def test_a_name_that_is_too_long_is_an_error(root):
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


def test_links_that_are_not_followed_are_logged(root, tmp_path, caplog):
    (tmp_path / "outside").mkdir()
    (root / "a").write_bytes(b"x")
    (root / "within").mkdir()
    (root / "door").symlink_to(tmp_path / "outside")
    (root / "side").symlink_to(root / "within")
    assert [item.key for item in open_storage(str(root)).list()] == ["a"]
    assert (
        f"{root}: 2 links skipped ('door', …): links to folders or out of this one need "
        "bucket.follow_symlinks: true"
    ) in caplog.text


@pytest.mark.parametrize("follow", [False, True])
def test_circular_links_and_special_files_are_skipped_and_logged(root, caplog, follow):
    (root / "a").write_bytes(b"x")
    (root / "self").symlink_to("self")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    os.mkfifo(root / "pipe.png")
    assert [item.key for item in open_storage(str(root), follow_symlinks=follow).list()] == ["a"]
    assert "3 broken links skipped ('one', …)" in caplog.text
    assert "1 special file skipped ('pipe.png'): pipes, sockets and devices are" in caplog.text


@pytest.mark.skipif(not MEMORY.exists(), reason="no file whose bytes cannot be read")
def test_a_file_that_the_disk_has_lost_is_rejected_and_the_others_are_read(root):
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
def test_a_folder_of_which_nothing_can_be_read_stops_the_run(root):
    for number in range(20):
        (root / f"lost{number}").symlink_to(MEMORY)
    storage = open_storage(str(root), follow_symlinks=True)
    with pytest.raises(StorageError, match="cannot be read"):
        storage.versioned(storage.list())
    (root / "a").write_bytes(b"x")
    storage = open_storage(str(root), follow_symlinks=True)
    assert len(storage.versioned(storage.list())) == 21


def test_follow_symlinks_follows_links_and_ends_in_circles(root, tmp_path, caplog):
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
        f"{root}: 1 broken link skipped ('gone')"
    ] * 2
    with pytest.raises(StorageError, match="is not a path below it"):
        storage.read("2024/../../secret")


def test_a_link_to_a_folder_can_be_the_root(root, tmp_path):
    (root / "a").write_bytes(b"x")
    (tmp_path / "alias").symlink_to(root)
    storage = open_storage(str(tmp_path / "alias"))
    assert [item.key for item in storage.list()] == ["a"]
    assert storage.read("a") == b"x"


@pytest.mark.parametrize("name", ["my images", "50%", "a#b", "a?b"])
def test_the_file_address_and_the_path_of_a_file_are_the_same(root, name):
    (root / name).write_bytes(b"x")
    assert local_path((root / name).as_uri()) == root / name
    assert read_url((root / name).as_uri()) == read_url(str(root / name))


def test_a_single_file_that_is_missing_is_named_by_its_absolute_path(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(Missing, match=f"^{root}/points.csv: no such file$"):
        read_url("points.csv")


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "/dev/null"])
def test_a_single_file_that_is_a_pipe_or_a_device_is_an_error_at_once(root, name):
    os.mkfifo(root / "pipe")
    path = root / name
    with pytest.raises(StorageError, match=rf"^{path}: cannot be read \(it is a pipe or a device"):
        read_url(str(path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "~nobody-of-that-name/x",
            r"^'~nobody-of-that-name/x': not a valid path \(Could not determine",
        ),
        ("a\0b", r"^'a\\x00b': not a valid path \(it contains a NUL\)$"),
        ("file:///%00", r"^'file:///%00': not a valid path \(it contains a NUL\)$"),
        ("n" * 300, rf"^'{'n' * 100}…': not a valid path \(File name too long\)$"),
        (
            "file://host/x",
            r"^'file://host/x': not a valid path \(it is on another machine, 'host'\)$",
        ),
        ("s3://[x", r"^s3://…: not a valid address \(Invalid IPv6 URL\)$"),
        ("https://me:secret@[", r"^https://…: not a valid address \(Invalid IPv6 URL\)$"),
    ],
)
def test_invalid_paths_and_addresses_are_setting_errors(url, message):
    for ask in (open_storage, read_url):
        with pytest.raises(SettingError, match=message):
            ask(url)


def test_a_path_that_is_too_long_cannot_be_listed():
    with pytest.raises(StorageError, match=r"cannot be listed \(File name too long\)"):
        list(open_storage("/" + "n" * 300).list())


def test_the_error_of_a_single_file_that_is_a_folder_says_so(root):
    with pytest.raises(Missing, match=f"^{root}: no such file; it is a folder$"):
        read_url(str(root))


def test_the_error_of_a_full_disk_gives_the_size_that_was_to_be_written(root, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"5 bytes cannot be written \(No space left on device\)"
    ):
        open_storage(str(root)).put("a", b"bytes")
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_relative_path_is_looked_for_in_the_original_checkout_too(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "origin" / "bucket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "origin"))
    assert local_path("bucket") == tmp_path / "origin" / "bucket"
    (tmp_path / "here" / "bucket").mkdir()
    assert local_path("bucket") == tmp_path / "here" / "bucket"
    assert local_path("file:///x/y").as_posix() == "/x/y"
