"""S3: what can go wrong between here and the server, and the errors that users see."""

import hashlib
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
import servers

from pipeline.core.errors import Changed, SettingError, StorageError
from pipeline.storage import open_storage, retries, s3_client

BODY = bytes(range(256)) * 400
KMS = "0" * 32
ETAG = hashlib.md5(BODY).hexdigest()
URL = "s3://images/below"


@contextmanager
def server(*script, etag=ETAG):
    """A server that treats each request as *script* says, and all after it as the last one."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            what = script[min(len(requests), len(script) - 1)]
            requests.append(dict(self.headers))
            if what == "busy":
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("ETag", f'"{etag}"')
            if etag == KMS:
                self.send_header("x-amz-server-side-encryption", "aws:kms")
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if what == "whole" else BODY[: len(BODY) // 2])
            self.close_connection = True
            if what == "reset":
                now = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
                self.wfile.flush()
                self.connection.close()

        def log_message(self, *args):
            pass

    with servers.answering(Handler) as endpoint:
        yield endpoint, requests


@pytest.fixture
def reach(monkeypatch):
    """Set the environment of a user of the server at an endpoint, and return the storage."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)

    def to(endpoint, url=URL, **more):
        for name, value in (servers.environment(endpoint) | more).items():
            monkeypatch.setenv(name, value)
        return open_storage(url)

    return to


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """An environment in which boto3 finds no credentials."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.mark.parametrize("fault", ["short", "reset", "busy"])
def test_a_response_that_breaks_off_is_requested_again(reach, fault):
    with server(fault, "whole") as (endpoint, requests):
        assert reach(endpoint).read("k", if_version=ETAG) == BODY
        assert len(requests) == 2


def test_a_body_that_always_ends_early_is_an_error_after_six_tries(reach):
    with server("short") as (endpoint, requests):
        with pytest.raises(StorageError, match=r"^s3://images/below/k: 6 tries failed, the last"):
            reach(endpoint).read("k")
        assert len(requests) == 6


def test_a_part_is_read_from_a_server_that_knows_no_ranges(reach):
    with server("whole") as (endpoint, _):
        assert reach(endpoint).read("k", start=10, stop=20) == BODY[10:20]


def test_an_empty_range_is_no_bytes_and_not_the_whole_object(reach):
    with server("whole") as (endpoint, _):
        assert reach(endpoint).read("k", start=5, stop=5) == b""


def test_an_etag_that_is_not_an_md5_is_compared_as_it_is(reach):
    """Multipart uploads have a dash; KMS gives 32 digits that are the digest of nothing."""
    for etag in ("9f3c-12", KMS):
        with server("whole", etag=etag) as (endpoint, _):
            storage = reach(endpoint)
            for _ in range(2):
                assert storage.read("k", if_version=etag) == BODY
            with pytest.raises(Changed, match=rf"index has '{ETAG}', bucket has '{etag}'"):
                storage.read("k", if_version=ETAG)


def test_the_expected_version_is_sent_as_if_match(reach):
    with server("whole") as (endpoint, requests):
        reach(endpoint).read("k", if_version=ETAG)
    assert requests[0]["If-Match"] == f'"{ETAG}"'


@pytest.mark.parametrize(("anonymous", "signed"), [("true", False), ("false", True)])
def test_an_anonymous_reader_signs_nothing(reach, anonymous, signed):
    with server("whole") as (endpoint, requests):
        reach(endpoint, QUADRAT_ANONYMOUS=anonymous).read("k")
    assert ("Authorization" in requests[0]) == signed


@pytest.mark.usefixtures("nobody")
def test_the_error_of_missing_credentials_says_what_to_do():
    with pytest.raises(StorageError) as stop:
        open_storage("s3://images/below").read("k")
    assert str(stop.value) == (
        "s3://images/below/k: access refused (NoCredentialsError); check the AWS credentials, or "
        "set QUADRAT_ANONYMOUS=true for a public bucket, QUADRAT_REQUESTER_PAYS=true if its "
        "readers pay"
    )


def test_the_output_of_a_credentials_program_is_never_shown(nobody):
    nobody.write_text("[default]\ncredential_process = sh -c 'echo my-secret >&2; exit 1'\n")
    with pytest.raises(StorageError, match=r"access refused \(CredentialRetrievalError\)") as stop:
        list(open_storage("s3://images").list())
    assert "my-secret" not in str(stop.value)


def test_an_endpoint_without_a_scheme_is_a_setting_error(reach):
    storage = reach("localhost:9000")
    with pytest.raises(SettingError, match="Invalid endpoint: localhost:9000.*check QUADRAT_ENDP"):
        storage.read("k")


def test_a_missing_profile_is_a_setting_error(reach):
    storage = reach("http://127.0.0.1:9", AWS_PROFILE="nobody")
    with pytest.raises(SettingError, match=r"config profile \(nobody\) could not be found"):
        storage.read("k")


def test_credentials_in_an_address_are_refused_and_not_shown(reach):
    with pytest.raises(SettingError, match="holds a user name or password; take it out") as stop:
        reach("http://me:my-secret@127.0.0.1:9").read("k")
    assert "my-secret" not in str(stop.value)
    with pytest.raises(SettingError, match="names no bucket") as stop:
        open_storage("s3://me:my-secret@images/below")
    assert "my-secret" not in str(stop.value)


def test_many_threads_share_one_client(reach, monkeypatch):
    made = []
    real = s3_client.new_client
    monkeypatch.setattr(s3_client, "new_client", lambda url: made.append(url) or real(url))
    with server("whole") as (endpoint, _), ThreadPoolExecutor(8) as pool:
        storage = reach(endpoint)
        assert set(pool.map(storage.read, ["k"] * 16)) == {BODY}
    assert made == [URL]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_its_own_client(reach):
    with server("whole") as (endpoint, _):
        storage = reach(endpoint)
        storage.read("k")
        before = id(storage._client)
        child = os.fork()
        if not child:
            own = id(storage._client) != before and storage.read("k") == BODY
            os._exit(0 if own else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert id(storage._client) == before


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with servers.moto(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/./b", "-rf", "x" * 1000, "é", "e\u0301"])
def test_keys_that_no_folder_could_hold_are_read_as_they_are_spelled(reach, moto, key):
    storage = reach(moto)
    storage.put(key, key.encode())
    assert storage.read(key) == key.encode()
    assert key in [item.key for item in storage.list()]
    storage.delete(key)


def test_markers_of_folders_are_not_listed(reach, moto):
    servers.client(moto).put_object(Bucket="images", Key="below/folder/", Body=b"")
    assert "folder/" not in [item.key for item in reach(moto).list()]


def test_a_prefix_ends_at_a_slash(reach, moto):
    """`below` must not list what is in `below2/`."""
    servers.client(moto).put_object(Bucket="images", Key="below2/a", Body=b"")
    assert [item.key for item in reach(moto).list() if item.key.startswith(("2", "/"))] == []


def test_the_error_of_a_missing_bucket_names_it(reach, moto):
    storage = reach(moto, url="s3://no-such-bucket/below")
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'; check the addr"):
        list(storage.list())
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
        storage.read("k")
