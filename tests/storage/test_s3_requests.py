"""Requests to S3: their keys, signatures, credentials and addresses."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest
import servers
from botocore.awsrequest import AWSResponse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.storage import open_storage

BODY = b"an object's bytes"
ETAG = hashlib.md5(BODY).hexdigest()
DIFFERENT_EACH_TIME = {"amz-sdk-invocation-id", "amz-sdk-request", "authorization", "x-amz-date"}


@pytest.fixture
def server():
    """A server with the same response to every request, and the list of the requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(200)
            self.send_header("ETag", f'"{ETAG}"')
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *args):
            pass

    with servers.answering(Handler) as endpoint:
        yield endpoint, requests


@pytest.fixture
def user(monkeypatch, tmp_path):
    """A function that sets up a user with an AWS configuration file, and returns the storage."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def of(endpoint, config="", url="s3://images/below", **more):
        (tmp_path / "config").write_text(f"[default]\n{config}\n")
        environment = servers.environment(endpoint)
        if "credential_process" in config:
            environment = {k: v for k, v in environment.items() if "KEY" not in k}
        for name, value in (environment | more).items():
            monkeypatch.setenv(name, value)
        return open_storage(url)

    return of


@pytest.fixture
def reader(user, server):
    """A storage that has read an object."""
    storage = user(server[0], url="s3://images")
    storage.read("plain")
    return storage


def signed(headers):
    """Return what a request was signed for, without what differs from one to the next."""
    credential, names, _ = headers["authorization"].split(", ")
    return credential, names


def test_every_request_carries_its_range_version_and_token_and_signs_the_same(user, server):
    endpoint, requests = server
    storage = user(endpoint, AWS_SESSION_TOKEN="a-token")
    for _ in range(3):
        assert storage.read("k", start=2, stop=9, if_version=ETAG) == BODY[2:9]
    (path, first), *others = requests
    assert first["range"] == "bytes=2-8"
    assert first["if-match"] == f'"{ETAG}"'
    assert first["x-amz-security-token"] == "a-token"
    for other_path, other in others:
        assert other_path == path
        assert signed(other) == signed(first)
        assert {k: v for k, v in other.items() if k not in DIFFERENT_EACH_TIME} == {
            k: v for k, v in first.items() if k not in DIFFERENT_EACH_TIME
        }


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
@example("a b/é+%20&=?#~*'();:@,[]/.././/x")
@example("/")
def test_every_key_is_spelled_as_boto3_does(reader, server, key):
    endpoint, requests = server
    requests.clear()
    servers.client(endpoint).get_object(Bucket="images", Key=key)["Body"].read()
    assert reader.read(key) == BODY
    assert requests[1][0] == requests[0][0]


def test_an_anonymous_reader_never_signs(user, server):
    endpoint, requests = server
    storage = user(endpoint, QUADRAT_ANONYMOUS="true")
    assert [storage.read("k") for _ in range(2)] == [BODY] * 2
    assert len(requests) == 2
    assert not any("authorization" in headers for _, headers in requests)


def test_credentials_that_are_about_to_expire_are_renewed(user, server, tmp_path):
    """boto3 renews credentials that expire within five minutes before each request."""
    endpoint, requests = server
    expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    credentials = json.dumps({"Version": 1, "SecretAccessKey": "s", "Expiration": expires})
    program = tmp_path / "program.py"
    program.write_text(f"""
import json, uuid
print(json.dumps(json.loads({credentials!r}) | {{"AccessKeyId": uuid.uuid4().hex}}))
""")
    storage = user(endpoint, f"credential_process = {sys.executable} {program}")
    assert [storage.read("k") for _ in range(3)] == [BODY] * 3
    keys = [headers["authorization"].partition("=")[2].partition("/")[0] for _, headers in requests]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("header", "value"),
    [("x-amz-request-payer", "requester"), ("authorization", "AWS me:a-signature-of-another-kind")],
)
def test_headers_that_a_hook_of_boto3_sets_are_sent_every_time(user, server, header, value):
    endpoint, requests = server
    storage = user(endpoint)

    def add(request, **_):
        if header in request.headers:
            del request.headers[header]
        request.headers[header] = value

    storage._client.meta.events.register("before-send.s3.GetObject", add)
    assert [storage.read("k") for _ in range(3)] == [BODY] * 3
    assert [headers[header] for _, headers in requests] == [value] * 3


def test_every_request_goes_through_the_proxy(user, server):
    endpoint, requests = server
    storage = user("http://s3.reef.example", HTTP_PROXY=endpoint, http_proxy=endpoint, NO_PROXY="")
    assert [storage.read("k") for _ in range(2)] == [BODY] * 2
    assert [path for path, _ in requests] == ["http://s3.reef.example/images/below/k"] * 2


class Stream:
    """A body with the methods of urllib3's."""

    def __init__(self):
        self.left = [BODY, b""]

    def read1(self, size):
        return self.left.pop(0)

    def close(self):
        assert not self.left


@pytest.mark.parametrize(
    ("bucket", "base"),
    [
        ("reef-images", "https://reef-images.s3.eu-north-1.amazonaws.com/"),
        ("reef.images", "https://s3.eu-north-1.amazonaws.com/reef.images/"),
    ],
)
def test_amazons_addresses_name_the_region_and_the_bucket(user, bucket, base):
    """There is no access to Amazon here: a hook answers in place of its servers."""
    sent = []

    def answer(request, **_):
        sent.append(request)
        headers = {"ETag": f'"{ETAG}"', "Content-Length": str(len(BODY))}
        return AWSResponse(request.url, 200, headers, Stream())

    storage = user("", url=f"s3://{bucket}", AWS_DEFAULT_REGION="eu-north-1")
    storage._client.meta.events.register("before-send.s3.GetObject", answer)
    for _ in range(2):
        assert storage.read("a b") == BODY
    assert [request.url for request in sent] == [f"{base}a%20b"] * 2
    assert b"/eu-north-1/s3/aws4_request" in sent[1].headers["Authorization"]
