"""Access points, and buckets whose readers pay: the requests that a server gets."""

from __future__ import annotations

import hashlib
import socket
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import servers

from pipeline.config.machine import machine
from pipeline.core.errors import Missing, SettingError
from pipeline.storage import open_storage, read_url, s3_client
from pipeline.store.context import open_store
from pipeline.store.objects import Piece

ARN = "arn:aws:s3:us-west-2:123456789012:accesspoint/reef"
PIECE = Piece("chips", "a" * 64, "p0", "b" * 64)


class Handler(BaseHTTPRequestHandler):
    """Keeps objects, in whichever bucket, and notes requests."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict] = {}
    requests: ClassVar[list] = []

    def do_PUT(self):
        address, headers = self.noted()
        self.objects[address.path] = self.rfile.read(int(headers["content-length"]))
        self.reply(200, b"")

    def do_DELETE(self):
        self.objects.pop(self.noted()[0].path, None)
        self.reply(204, b"")

    def do_GET(self):
        address, _ = self.noted()
        if "list-type" in address.query:
            self.reply(200, self.listing(address.path.rstrip("/")))
        elif address.path in self.objects:
            self.reply(200, self.objects[address.path])
        else:
            self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self):
        self.do_GET()

    def noted(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.requests.append((self.command, self.path, headers))
        return urlsplit(self.path), headers

    def listing(self, bucket):
        items = "".join(
            f"<Contents><Key>{unquote(path[len(bucket) + 1 :])}</Key><Size>{len(data)}</Size>"
            f"<ETag>{hashlib.md5(data).hexdigest()}</ETag></Contents>"
            for path, data in sorted(self.objects.items())
        )
        return f"<ListBucketResult><Name>x</Name>{items}</ListBucketResult>".encode()

    def reply(self, status, data):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server for every host name, and the list of the requests that it gets."""
    Handler.objects.clear()
    Handler.requests.clear()
    look_up = socket.getaddrinfo

    def here(host, *arguments, **named):
        return look_up("127.0.0.1", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with servers.answering(Handler) as endpoint:
        for name, value in servers.environment(endpoint.replace("127.0.0.1", "s3.test")).items():
            monkeypatch.setenv(name, value)
        yield Handler.requests


def use(storage):
    """Make one request of each kind."""
    storage.put("a/b c.txt", b"bytes")
    assert [item.key for item in storage.list("a/")] == ["a/b c.txt"]
    version = storage.head("a/b c.txt").version
    assert storage.read("a/b c.txt", if_version=version) == b"bytes"
    storage.delete("a/b c.txt")
    with pytest.raises(Missing):
        storage.head("a/b c.txt")


@pytest.mark.parametrize("prefix", ["", "/2024/dives"])
def test_an_access_point_is_reached_under_its_own_host_in_its_own_region(server, prefix):
    use(open_storage(f"s3://{ARN}{prefix}"))
    assert {method for method, _, _ in server} == {"GET", "HEAD", "PUT", "DELETE"}
    for method, path, headers in server:
        assert headers["host"].split(":")[0] == "reef-123456789012.s3.test"
        assert "/us-west-2/s3/aws4_request" in headers["authorization"]
        if "list-type" in path:
            assert parse_qs(urlsplit(path).query)["prefix"] == [f"{prefix[1:]}/a/".lstrip("/")]
        else:
            assert path == f"{prefix}/a/b%20c.txt", method
    assert not any("x-amz-request-payer" in headers for _, _, headers in server)


def test_amazons_own_host_of_an_access_point_is_that_of_its_region(monkeypatch):
    for name, value in servers.environment("").items():
        monkeypatch.setenv(name, value)
    client = s3_client.new_client(f"s3://{ARN}/2024")
    url = client.generate_presigned_url("get_object", {"Bucket": ARN, "Key": "2024/a.png"})
    address = "https://reef-123456789012.s3-accesspoint.us-west-2.amazonaws.com/2024/a.png?"
    assert url.startswith(address)


def test_a_store_and_a_file_can_be_at_an_access_point(server, monkeypatch):
    monkeypatch.setenv("QUADRAT_STORE", f"s3://{ARN}/store")
    store = open_store(machine())
    store.put(PIECE, {"parquet": (b"rows", 1)}, {"run": "r"})
    assert store.finished("chips", "a" * 64) == {"p0": ["b" * 64]}
    assert store.read(PIECE, "parquet") == b"rows"
    assert read_url(f"s3://{ARN}/store/{PIECE.path('parquet')}")[0] == b"rows"


@pytest.mark.parametrize("url", ["s3://images/below", f"s3://{ARN}"])
def test_whoever_asks_pays_if_that_is_set(server, monkeypatch, url):
    monkeypatch.setenv("QUADRAT_REQUESTER_PAYS", "true")
    use(open_storage(url))
    assert len(server) > 5
    for method, path, headers in server:
        assert headers["x-amz-request-payer"] == "requester", (method, path)
        assert "x-amz-request-payer" in headers["authorization"]  # it is signed, too


@pytest.mark.parametrize(
    "url",
    [
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint",
        "s3://arn:aws:s3:::images/below",
        "s3://arn:aws:iam::123456789012:role/reader",
    ],
)
def test_another_arn_is_refused(url):
    with pytest.raises(SettingError, match="not the ARN of an access point; write s3://arn:aws"):
        open_storage(url)


def test_nobody_pays_anonymously(monkeypatch):
    monkeypatch.setenv("QUADRAT_REQUESTER_PAYS", "true")
    monkeypatch.setenv("QUADRAT_ANONYMOUS", "true")
    with pytest.raises(SettingError, match="requester_pays: nobody can be charged for anonymous"):
        machine()
