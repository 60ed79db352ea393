"""The contract of every storage, for a folder and two S3 servers."""

import hashlib
import itertools
import subprocess
import sys
import time

import pytest
import servers
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import Changed, Missing, SettingError, StorageError
from pipeline.storage import open_storage, read_url

PARTS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(
    lambda part: part.strip() == part and not part.startswith(".") and len(part.encode()) < 200
)
NUMBERS = itertools.count()
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module", params=["folder", *servers.SERVERS])
def place(request, tmp_path_factory):
    """The URL of a storage, in the environment in which it can be reached."""
    folder = tmp_path_factory.mktemp("place")
    patch = pytest.MonkeyPatch()
    if request.param == "folder":
        yield str(folder)
    else:
        with servers.SERVERS[request.param](folder) as endpoint:
            for name, value in servers.environment(endpoint).items():
                patch.setenv(name, value)
            yield f"s3://{servers.BUCKET}/below"
    patch.undo()


@pytest.fixture
def storage(place):
    return open_storage(place)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=KEYS, data=st.binary(max_size=200))
def test_an_object_that_is_put_is_listed_and_read_back(storage, key, data):
    # Apart from the others': a folder cannot hold a file and a folder of one name.
    key = f"{next(NUMBERS)}/{key}"
    storage.put(key, data)
    try:
        listed = {item.key: item for item in storage.list()}
        assert listed[key].size == len(data)
        assert storage.read(key) == data
        assert storage.versioned([listed[key]])[0] == storage.head(key)
    finally:
        storage.delete(key)
    with pytest.raises(Missing):
        storage.head(key)


def test_a_version_is_the_md5_of_the_content_in_a_folder_and_on_s3_alike(storage):
    storage.put("v.bin", b"content")
    assert storage.head("v.bin").version == hashlib.md5(b"content").hexdigest()


def test_parts_of_an_object_are_read(storage):
    storage.put("p.bin", bytes(range(100)))
    assert storage.read("p.bin", start=10, stop=20) == bytes(range(10, 20))
    assert storage.read("p.bin", start=90) == bytes(range(90, 100))
    assert storage.read("p.bin", start=95, stop=500) == bytes(range(95, 100))
    assert storage.read("p.bin", start=500) == b""


def test_an_empty_part_is_no_bytes(storage):
    storage.put("p.bin", bytes(range(100)))
    assert storage.read("p.bin", start=10, stop=10) == b""
    storage.put("p.bin", b"")
    assert storage.read("p.bin") == storage.read("p.bin", start=0, stop=10) == b""


@pytest.mark.parametrize("part", [{}, {"start": 1, "stop": 3}, {"start": 1_000}])
def test_another_version_is_never_read(storage, part):
    storage.put("c.bin", b"before")
    version = storage.head("c.bin").version
    assert storage.read("c.bin", if_version=version, **part) in {b"before", b"ef", b""}
    storage.put("c.bin", b"after!")
    with pytest.raises(Changed, match="changed while it was read"):
        storage.read("c.bin", if_version=version, **part)


WRITER = """
import sys
from pipeline.storage import open_storage
storage = open_storage(sys.argv[1])
while True:
    for byte in b"abc":
        storage.put("shared.bin", bytes([byte]) * 3_000_000)
        print(flush=True)
"""


def test_a_reader_never_sees_half_of_an_object_whose_writer_is_killed(place, storage):
    whole = {bytes([byte]) * 3_000_000 for byte in b"abc"}
    for wait_s in (0.05, 0.12):
        command = [sys.executable, "-c", WRITER, place]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"\n", "the first write is done"
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            assert storage.read("shared.bin") in whole
        writer.kill()
        writer.communicate()
        assert storage.read("shared.bin") in whole
        assert [item.key for item in storage.list("shared")] == ["shared.bin"]
    storage.delete("shared.bin")


def test_listings_are_sorted_by_bytes_and_begin_with_their_prefix(storage):
    keys = ["s/b", "s/B", "s/a/z", "s/a!", "s/é", "s/~", "s/a0"]
    for key in keys:
        storage.put(key, b"x")
    listed = [item.key for item in storage.list("s/")]
    assert listed == sorted(keys, key=str.encode)
    assert [item.key for item in storage.list("s/a")] == ["s/a!", "s/a/z", "s/a0"]
    assert list(storage.list("nothing/")) == []


def test_an_object_that_is_not_there_is_missing(storage):
    for ask in (storage.read, storage.head):
        with pytest.raises(Missing):
            ask("no/such/key")
    storage.delete("no/such/key")


def test_one_object_is_read_by_its_whole_address(place, storage):
    storage.put("deep/w.bin", b"weights")
    assert read_url(f"{place}/deep/w.bin")[0] == b"weights"
    with pytest.raises(Missing):
        read_url(f"{place}/deep/other.bin")


@pytest.mark.slow
def test_a_listing_of_many_pages_is_complete(tmp_path, monkeypatch):
    with servers.moto(tmp_path) as endpoint:
        for name, value in servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        storage = open_storage(f"s3://{servers.BUCKET}")
        for number in range(1_050):
            storage.put(f"{number:05d}", b"")
        assert [item.key for item in storage.list()] == [f"{n:05d}" for n in range(1_050)]


def test_the_error_of_wrong_credentials_does_not_show_them(tmp_path, monkeypatch):
    with servers.rclone(tmp_path) as endpoint:
        for name, value in servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")
        with pytest.raises(StorageError) as stop:
            list(open_storage(f"s3://{servers.BUCKET}").list())
    assert "check the AWS credentials" in str(stop.value)
    assert "not-the-secret" not in str(stop.value)


def test_a_public_bucket_needs_no_credentials_where_anonymous_is_set(tmp_path, monkeypatch):
    with servers.moto(tmp_path) as endpoint:
        servers.client(endpoint).put_object(
            Bucket=servers.BUCKET, Key="a", Body=b"open", ACL="public-read"
        )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("QUADRAT_ENDPOINT", endpoint)
        with pytest.raises(StorageError, match="set QUADRAT_ANONYMOUS=true for a public bucket"):
            open_storage(f"s3://{servers.BUCKET}").read("a")
        monkeypatch.setenv("QUADRAT_ANONYMOUS", "true")
        assert open_storage(f"s3://{servers.BUCKET}").read("a") == b"open"


def test_the_error_of_a_server_that_is_down_names_it(monkeypatch):
    for name, value in servers.environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pipeline.storage.s3_client.TRIES", 1)
    with pytest.raises(StorageError, match=r"127.0.0.1:9.*check the endpoint"):
        list(open_storage("s3://bucket").list())


def test_an_address_of_no_storage_is_refused():
    with pytest.raises(SettingError, match="no storage for 'ftp://'"):
        open_storage("ftp://x/y")
    with pytest.raises(SettingError, match="names no bucket"):
        open_storage("s3://")
