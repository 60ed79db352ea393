"""GETs of S3 that are sent without boto3's client: they are as it would send them."""

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

from pipeline.storage import _client, open_storage

BODY = b"an object's bytes"
ETAG = hashlib.md5(BODY).hexdigest()
FROM_RUN_TO_RUN = {"amz-sdk-invocation-id", "amz-sdk-request", "authorization", "x-amz-date"}


@pytest.fixture
def server():
    """A server that gives the same for everything, and notes how it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(200)
            self.send_header("ETag", f'"{ETAG}"')
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *args):
            pass

    with servers.answering(Handler) as endpoint:
        yield endpoint, asked


@pytest.fixture
def user(monkeypatch, tmp_path):
    """A user of AWS's files, who has nothing in the environment."""
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
def read(user, server):
    """A client that has read something, and what it asks from then on."""
    client = user(server[0])._client
    client.get_object(Bucket="images", Key="plain")["Body"].read()
    return client, server[1]


def signed(headers):
    """Give what a request was signed for, without what differs from one to the next."""
    credential, names, _ = headers["authorization"].split(", ")
    return credential, names


def test_a_later_request_is_as_boto3s_own(user, server):
    endpoint, asked = server
    storage = user(endpoint, AWS_SESSION_TOKEN="a-token")
    for _ in range(3):
        assert storage.read("k", start=2, stop=9, if_version=ETAG) == BODY[2:9]
    (path, first), *others = asked
    assert "amz-sdk-request" in first  # boto3's client
    for other_path, other in others:
        assert other_path == path
        assert "amz-sdk-request" not in other
        for headers in (first, other):
            assert headers["range"] == "bytes=2-8"
            assert headers["if-match"] == f'"{ETAG}"'
            assert headers["x-amz-security-token"] == "a-token"
        assert signed(other) == signed(first)
        assert {k: v for k, v in other.items() if k not in FROM_RUN_TO_RUN} == {
            k: v for k, v in first.items() if k not in FROM_RUN_TO_RUN
        }


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
@example("a b/é+%20&=?#~*'();:@,[]/.././/x")
@example("/")
def test_every_key_is_spelled_as_boto3_does(read, key):
    client, asked = read
    asked.clear()
    client.boto3.get_object(Bucket="images", Key=key)["Body"].read()
    client.get_object(Bucket="images", Key=key)["Body"].read()
    assert asked[1][0] == asked[0][0]
    assert ["amz-sdk-request" in headers for _, headers in asked] == [True, False]


def test_an_anonymous_reader_signs_no_later_request_either(user, server):
    endpoint, asked = server
    storage = user(endpoint, QUADRAT_ANONYMOUS="true")
    assert [storage.read("k") for _ in range(2)] == [BODY] * 2
    assert ["amz-sdk-request" in headers for _, headers in asked] == [True, False]
    assert not any("authorization" in headers for _, headers in asked)


def test_credentials_that_end_are_asked_for_anew(user, server, tmp_path):
    """Those that end in five minutes boto3 asks for before each request."""
    endpoint, asked = server
    ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    found = json.dumps({"Version": 1, "SecretAccessKey": "s", "Expiration": ends})
    program = tmp_path / "program.py"
    program.write_text(f"""
import json, uuid
print(json.dumps(json.loads({found!r}) | {{"AccessKeyId": uuid.uuid4().hex}}))
""")
    storage = user(endpoint, f"credential_process = {sys.executable} {program}")
    assert [storage.read("k") for _ in range(3)] == [BODY] * 3
    assert ["amz-sdk-request" in headers for _, headers in asked] == [True, False, False]
    found = [headers["authorization"].partition("=")[2].partition("/")[0] for _, headers in asked]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("header", "value"),
    [("x-amz-request-payer", "requester"), ("authorization", "AWS me:a-signature-of-another-kind")],
)
def test_what_somebody_adds_or_signs_in_another_way_stays_boto3s(user, server, header, value):
    endpoint, asked = server
    storage = user(endpoint)

    def add(request, **_):
        if header in request.headers:
            del request.headers[header]
        request.headers[header] = value

    storage._client.boto3.meta.events.register("before-send.s3.GetObject", add)
    assert [storage.read("k") for _ in range(3)] == [BODY] * 3
    assert [headers[header] for _, headers in asked] == [value] * 3


def test_a_proxy_is_asked_every_time(user, server):
    endpoint, asked = server
    storage = user("http://s3.reef.example", HTTP_PROXY=endpoint, http_proxy=endpoint, NO_PROXY="")
    assert [storage.read("k") for _ in range(2)] == [BODY] * 2
    assert [path for path, _ in asked] == ["http://s3.reef.example/images/below/k"] * 2
    assert ["amz-sdk-request" in headers for _, headers in asked] == [True, False]


class Stream:
    """A body as urllib3 has it."""

    def __init__(self):
        self.left = [BODY, b""]

    def read1(self, size):
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("bucket", "base"),
    [
        ("reef-images", "https://reef-images.s3.eu-north-1.amazonaws.com/"),
        ("reef.images", "https://s3.eu-north-1.amazonaws.com/reef.images/"),
    ],
)
def test_amazons_own_addresses_are_kept(monkeypatch, user, bucket, base):
    """Amazon is not to be had here: a hook and a session that answer stand for its servers."""
    sent = []

    def answer(request, **_):
        sent.append(request)
        headers = {"ETag": f'"{ETAG}"', "Content-Length": str(len(BODY))}
        return AWSResponse(request.url, 200, headers, Stream())

    storage = user("", url=f"s3://{bucket}", AWS_DEFAULT_REGION="eu-north-1")
    client = storage._client
    client.boto3.meta.events.register("before-send.s3.GetObject", answer)
    monkeypatch.setattr(type(client.boto3._endpoint.http_session), "send", lambda _, r: answer(r))
    for _ in range(2):
        assert storage.read("a b") == BODY
    assert [request.url for request in sent] == [f"{base}a%20b"] * 2
    first, second = ({k.lower(): v for k, v in request.headers.items()} for request in sent)
    assert "/eu-north-1/s3/aws4_request" in second["authorization"]
    assert "amz-sdk-request" in first
    assert "amz-sdk-request" not in second


def test_what_boto3_hides_one_day_costs_only_time(monkeypatch, user, server):
    endpoint, asked = server
    storage = user(endpoint)
    client = storage._client

    class Hidden:
        """boto3's client without what is not promised of it."""

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(made, name)

    made = client.boto3
    monkeypatch.setattr(client, "boto3", Hidden())
    assert [storage.read("k") for _ in range(3)] == [BODY] * 3
    assert all("amz-sdk-request" in headers for _, headers in asked)
    assert isinstance(client, _client.Client)
