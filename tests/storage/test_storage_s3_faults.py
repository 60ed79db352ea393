"""Faults of S3, each by itself, of a real server behind a proxy that breaks its responses."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import servers
from faults import Drip, Flip, Headers, Less, Other, Proxy, Reset, Short, Slow, Status, at_random

from pipeline.core.errors import Changed, Missing, Rejected, StorageError, TransientError
from pipeline.storage import open_storage, read_url, retries, s3, s3_client

URL = f"s3://{servers.BUCKET}/reef"
KEYS = [f"{number:02d}.bin" for number in range(25)]
BODIES = {key: f"{key} ".encode() * 500 for key in KEYS}
SIZE = len(BODIES[KEYS[0]])

BUSY = [
    Status(503, "SlowDown"),
    Status(500, "InternalError"),
    Status(502, "BadGateway"),
    Status(429, "TooManyRequests"),
]
BROKEN = [Reset(), Slow(0.6)]
OF_A_BODY = [Short(0), Short(10), Less(1), Less(SIZE)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as endpoint:
        client = servers.client(endpoint)
        for key, body in BODIES.items():
            client.put_object(Bucket=servers.BUCKET, Key=f"reef/{key}", Body=body)
        yield endpoint


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(s3_client, "TIMEOUT_S", 0.3)
    with Proxy(server) as running:
        for name, value in servers.environment(running.endpoint).items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture(params=[pytest.param("first", marks=pytest.mark.slow), "later"])
def reef(proxy, request):
    """The bucket, over a new connection or over one that was used before."""
    storage = open_storage(URL)
    if request.param == "later":
        assert storage.read(KEYS[-1]) == BODIES[KEYS[-1]]
        proxy.forget()
    return storage


def first(n, fault, method="GET", path=""):
    """Return a rule that orders *fault* for the first *n* requests of a kind."""
    left = [n]
    lock = threading.Lock()

    def rule(asked, where, number):
        with lock:
            if asked != method or path not in where or not left[0]:
                return None
            left[0] -= 1
            return fault

    return rule


def version(reef, key):
    return next(item.version for item in reef.list() if item.key == key)


def test_a_read_that_fails_twice_succeeds_at_the_third_try(proxy, reef):
    etag = version(reef, KEYS[0])
    for fault in [*BUSY, Status(400, "RequestTimeout"), *BROKEN, *OF_A_BODY]:
        proxy.rule = first(2, fault, path=KEYS[0])
        assert reef.read(KEYS[0], if_version=etag) == BODIES[KEYS[0]], fault
        assert proxy.rule("GET", KEYS[0], 0) is None, fault


def test_a_body_that_drips_is_abandoned_and_the_object_read_again(proxy, reef):
    """Each byte arrives in time, and all of them would take six minutes."""
    proxy.rule = first(2, Drip(0.1), path=KEYS[0])
    assert reef.read(KEYS[0]) == BODIES[KEYS[0]]
    proxy.rule = first(-1, Drip(0.1), path=KEYS[0])
    with pytest.raises(
        TransientError, match=r"6 tries failed, the last with: only \d bytes arrived in 0 s"
    ):
        reef.read(KEYS[0])


@pytest.mark.parametrize("fault", [Headers(0.1), Drip(0.1)], ids=["headers", "body"])
def test_a_response_that_drips_is_not_waited_for(proxy, reef, monkeypatch, fault):
    """Each byte arrives in time; headers, and what is read whole, would take minutes."""
    monkeypatch.setattr(s3, "RESPONSE_S", 1)
    proxy.rule = first(1, fault)
    assert [item.key for item in reef.list()] == KEYS
    proxy.rule = first(-1, fault)
    monkeypatch.setattr(s3_client, "TRIES", 2)
    with pytest.raises(
        TransientError, match="2 tries failed, the last with: no complete response in 1 s"
    ):
        list(reef.list())


def test_headers_that_drip_are_not_waited_for(proxy, reef, monkeypatch):
    monkeypatch.setattr(s3, "RESPONSE_S", 1)
    for method, ask in {
        "GET": lambda: reef.read(KEYS[0]) == BODIES[KEYS[0]],
        "HEAD": lambda: reef.head(KEYS[0]).size == SIZE,
        "PUT": lambda: reef.put("new", b"") is None,
        "DELETE": lambda: reef.delete("new") is None,
    }.items():
        proxy.rule = first(1, Headers(0.1), method)
        assert ask(), method
        assert proxy.rule(method, "", 0) is None, method


LISTED = """<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents>
<Key>{key}</Key><LastModified>{time}</LastModified>{etag}<Size>{size}</Size></Contents></ListBucketResult>"""
GOOD = {"key": "reef/a", "time": "2020-01-01T00:00:00Z", "etag": "<ETag>e</ETag>", "size": "3"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "the response is not a listing"),
        ("<!DOCTYPE html><html><body>please log in</body></html>", "the response is not a listing"),
        (LISTED.format(**GOOD | {"etag": ""}), "the listing has an object without ETag"),
        (
            LISTED.format(**GOOD | {"key": "x/a"}),
            "has an object that was not asked for",
        ),
        (LISTED.format(**GOOD | {"size": "many"}), "invalid literal for int"),
        (LISTED.format(**GOOD | {"time": "soon"}), 'Invalid timestamp "soon"'),
    ],
    ids=["nothing", "html", "etag", "key", "size", "time"],
)
def test_a_response_that_is_not_a_listing_is_not_an_empty_bucket(proxy, reef, body, why):
    """Read as a listing, the page of a console or a captive portal would be an empty bucket."""
    proxy.rule = first(-1, Other(body.encode()), path="list-type=2")
    with pytest.raises(StorageError, match=why):
        list(reef.list())
    proxy.rule = first(-1, Other(LISTED.format(**GOOD).encode()), path="list-type=2")
    assert [item.key for item in reef.list()] == ["a"]


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (Status(403, "RequestTimeTooSkewed"), "this machine's clock is wrong; set it, run again$"),
        (Status(301, "PermanentRedirect"), "in another region or at another endpoint; set AWS_REG"),
        (Status(400, "AuthorizationHeaderMalformed"), "the service redirects us"),
    ],
    ids=["clock", "region", "signature"],
)
def test_the_error_of_a_wrong_clock_or_region_says_so(proxy, reef, fault, what):
    proxy.rule = first(-1, fault)
    with pytest.raises(StorageError, match=what) as stop:
        list(reef.list())
    assert not isinstance(stop.value, TransientError)


def test_a_flipped_bit_is_detected_and_the_object_read_again(proxy, reef):
    proxy.rule = first(1, Flip(), path=KEYS[0])
    assert reef.read(KEYS[0]) == BODIES[KEYS[0]]
    assert len(proxy.requests) == 2


def test_a_part_that_arrives_short_is_requested_again(proxy, reef):
    for fault in [BUSY[0], BROKEN[0], Short(10), Less(1)]:
        proxy.rule = first(2, fault, path=KEYS[0])
        assert reef.read(KEYS[0], start=100, stop=900) == BODIES[KEYS[0]][100:900], fault
        assert proxy.rule("GET", KEYS[0], 0) is None, fault


def test_a_listing_that_breaks_off_is_requested_again_and_is_complete(proxy, reef):
    for fault in [*BUSY[:2], *BROKEN, Short(200), Less(200)]:
        proxy.rule = first(2, fault, path="list-type=2")
        assert [item.key for item in reef.list()] == KEYS, fault
        assert proxy.rule("GET", "list-type=2", 0) is None, fault


@pytest.mark.parametrize("fault", [BUSY[0], BROKEN[0]], ids=["503", "reset"])
def test_put_head_and_delete_are_tried_again_too(proxy, reef, fault):
    store = open_storage(f"s3://{servers.BUCKET}/store")
    proxy.rule = first(2, fault, "PUT")
    store.put("new/object", b"n")
    proxy.rule = first(2, fault, "HEAD")
    assert store.head("new/object").size == 1
    proxy.rule = first(2, fault, "DELETE")
    store.delete("new/object")
    with pytest.raises(Missing):
        store.head("new/object")
    assert len(proxy.requests) == 10


@pytest.mark.parametrize("fault", [BUSY[0], BROKEN[0], OF_A_BODY[0]], ids=["503", "reset", "short"])
def test_a_fault_that_stays_is_an_error_after_six_tries(proxy, reef, fault):
    etag = version(reef, KEYS[0])
    proxy.rule = first(-1, fault, path=KEYS[0])
    asked = len(proxy.requests)
    with pytest.raises(
        TransientError, match=rf"^{URL}/00.bin: 6 tries failed, the last with: "
    ) as stop:
        reef.read(KEYS[0], if_version=etag)
    assert "check the endpoint and the network" in str(stop.value)
    assert len(proxy.requests) == asked + 6


def test_an_endpoint_that_is_down_is_an_error_after_six_tries(reef, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        TransientError, match=rf"^{URL}: 6 tries failed.*Could not connect to the endpoin"
    ):
        list(open_storage(URL).list())


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
def test_one_object_that_is_refused_is_rejected_at_once(proxy, reef, code):
    etag = version(reef, KEYS[0])
    proxy.rule = first(-1, Status(403, code), path=KEYS[0])
    asked = len(proxy.requests)
    with pytest.raises(Rejected) as reject:
        reef.read(KEYS[0], if_version=etag)
    assert reject.value.reason == "forbidden"
    assert reject.value.detail == f"{URL}/00.bin: access refused ({code})"
    assert len(proxy.requests) == asked + 1


def test_a_bucket_of_which_nothing_can_be_read_stops_the_run(proxy):
    reef = open_storage(URL)
    etags = {item.key: item.version for item in reef.list()}
    proxy.rule = first(-1, Status(403, "AccessDenied"), path="/reef/")
    for key in KEYS[:19]:
        with pytest.raises(Rejected):
            reef.read(key, if_version=etags[key])
    with pytest.raises(StorageError, match=r"access refused \(AccessDenied\); check the AWS cred"):
        reef.read(KEYS[19], if_version=etags[KEYS[19]])


def test_refused_objects_are_rejected_where_others_can_be_read(proxy, reef):
    etags = {item.key: item.version for item in reef.list()}
    assert reef.read(KEYS[0], if_version=etags[KEYS[0]])
    proxy.rule = first(-1, Status(403, "AccessDenied"), path="/reef/")
    for key in KEYS[1:]:
        with pytest.raises(Rejected):
            reef.read(key, if_version=etags[key])


@pytest.mark.parametrize("code", ["ExpiredToken", "TokenRefreshRequired"])
def test_expired_credentials_stop_the_run_at_once(proxy, reef, code):
    etag = version(reef, KEYS[0])
    proxy.rule = first(-1, Status(400, code))
    asked = len(proxy.requests)
    with pytest.raises(StorageError) as stop:
        reef.read(KEYS[0], if_version=etag)
    assert not isinstance(stop.value, TransientError)
    assert str(stop.value) == (
        f"{URL}/00.bin: the AWS credentials have expired ({code}); renew them, run again"
    )
    assert len(proxy.requests) == asked + 1


def test_a_listed_object_that_is_not_there_yet_is_read_a_moment_later(proxy, reef):
    etag = version(reef, KEYS[0])
    proxy.rule = first(2, Status(404, "NoSuchKey"), path=KEYS[0])
    assert reef.read(KEYS[0], if_version=etag) == BODIES[KEYS[0]]


def test_a_listed_object_that_stays_missing_is_rejected(proxy, reef):
    etag = version(reef, KEYS[0])
    proxy.rule = first(-1, Status(404, "NoSuchKey"), path=KEYS[0])
    with pytest.raises(Rejected) as reject:
        reef.read(KEYS[0], if_version=etag)
    assert reject.value.args == ("vanished", f"{URL}/00.bin: not there, though it was listed")


def test_an_object_that_was_not_listed_is_requested_once(proxy, reef):
    """The store asks for what may be missing."""
    with pytest.raises(Missing):
        reef.read("none")
    assert len(proxy.requests) == 1


def test_an_object_that_is_always_damaged_is_rejected(proxy):
    for fresh in (True, False):
        reef = open_storage(URL)
        etags = {item.key: item.version for item in reef.list()}
        if not fresh:
            assert reef.read(KEYS[1], if_version=etags[KEYS[1]])
        proxy.rule = first(-1, Flip(), path=KEYS[0])
        with pytest.raises(Rejected) as reject:
            reef.read(KEYS[0], if_version=etags[KEYS[0]])
        assert reject.value.reason == "corrupt"
        assert "not those that its ETag is the MD5 of" in reject.value.detail


def test_bytes_that_are_wrong_in_another_way_each_time_stop_the_run(proxy, reef):
    """Then it is the network that damages them, and not the object."""
    etag = version(reef, KEYS[0])
    faults = iter([Flip(), Less(1), Less(2), Less(3), Less(4), Less(5)])
    proxy.rule = lambda method, path, number: next(faults) if KEYS[0] in path else None
    with pytest.raises(TransientError, match="6 tries failed"):
        reef.read(KEYS[0], if_version=etag)


def test_a_service_whose_etags_are_never_md5s_is_trusted(proxy, reef):
    """All of its bodies differ from their ETags; here because one bit of each is flipped."""
    etags = {item.key: item.version for item in reef.list()}
    proxy.rule = first(-1, Flip(), path="/reef/")
    assert reef.read(KEYS[0], if_version=etags[KEYS[0]]) != BODIES[KEYS[0]]
    asked = len(proxy.requests)
    reef.read(KEYS[1], if_version=etags[KEYS[1]])
    assert len(proxy.requests) == asked + 1


def test_another_version_is_never_returned_where_if_match_is_ignored(proxy, reef):
    etag = version(reef, KEYS[0])
    with pytest.raises(Changed, match=r"changed while it was read \(index has .*; run dvc repro"):
        reef.read(KEYS[1], if_version=etag)
    with pytest.raises(Changed):
        reef.read(KEYS[1], start=10 * SIZE, if_version=etag)


def test_a_refused_file_of_weights_or_annotations_is_a_storage_error(proxy):
    proxy.rule = first(-1, Status(403, "AccessDenied"), path=KEYS[0])
    with pytest.raises(StorageError, match=r"00.bin: access refused \(AccessDenied\)$"):
        read_url(f"{URL}/{KEYS[0]}")


def test_random_faults_of_every_kind_change_nothing(proxy, reef):
    faults = [*BUSY, Reset(), *OF_A_BODY, Flip()]
    rule = at_random(7, 0.3, faults)

    def whole_objects(method, path, number):
        """A flipped bit can be detected in whole objects alone."""
        fault = rule(method, path, number)
        return Reset() if isinstance(fault, Flip) and "list-type" in path else fault

    proxy.rule = whole_objects
    listed = list(reef.list())
    assert [item.key for item in listed] == KEYS
    for item in listed:
        assert reef.read(item.key, if_version=item.version) == BODIES[item.key]


PAGE = 7


def test_a_listing_of_many_pages_is_complete_whichever_page_fails(proxy, reef, monkeypatch):
    pages(monkeypatch)
    proxy.rule = at_random(3, 0.4, [Status(503, "SlowDown"), Reset(), Short(100), Less(100)])
    assert [item.key for item in reef.list()] == KEYS
    assert len(proxy.requests) > len(KEYS) / PAGE + 1


def test_an_object_that_is_listed_on_two_pages_is_listed_once(proxy, reef, monkeypatch):
    """A bucket that changes while it is listed may move an object from one page to the next."""
    pages(monkeypatch)
    plain = s3.S3._page

    def twice(self, ask):
        page = plain(self, ask)
        self.last = getattr(self, "last", [])
        page["Contents"] = self.last + page["Contents"]
        self.last = page["Contents"][-1:]
        return page

    monkeypatch.setattr(s3.S3, "_page", twice)
    assert [item.key for item in reef.list()] == KEYS


def test_a_listing_in_a_circle_is_an_error(proxy, reef, monkeypatch):
    plain = s3.S3._page

    def same(self, ask):
        first = {name: value for name, value in ask.items() if name != "ContinuationToken"}
        return plain(self, first) | {"IsTruncated": True, "NextContinuationToken": "same"}

    monkeypatch.setattr(s3.S3, "_page", same)
    with pytest.raises(StorageError, match="the service's listing goes round in a circle"):
        list(reef.list())


def test_a_listing_that_goes_on_with_nothing_new_is_an_error(proxy, reef, monkeypatch):
    monkeypatch.setattr(s3, "MAX_IDLE_PAGES", 20)
    plain, asked = s3.S3._page, []

    def anew(self, ask):
        asked.append(ask.get("ContinuationToken"))
        first = {name: value for name, value in ask.items() if name != "ContinuationToken"}
        more = {"IsTruncated": True, "NextContinuationToken": str(len(asked))}
        return plain(self, first) | more

    monkeypatch.setattr(s3.S3, "_page", anew)
    with pytest.raises(StorageError, match="21 pages of the service's listing had nothing new"):
        list(reef.list())
    assert len(asked) == 1 + 21


def test_empty_pages_of_a_listing_are_passed_over(reef, monkeypatch):
    """Services have them where many objects were deleted."""
    plain, left = s3.S3._page, list(range(5))

    def some_empty(self, ask):
        if left:
            return {"IsTruncated": True, "NextContinuationToken": str(left.pop())}
        return plain(self, {k: v for k, v in ask.items() if k != "ContinuationToken"})

    monkeypatch.setattr(s3.S3, "_page", some_empty)
    assert [item.key for item in reef.list()] == KEYS


@pytest.mark.slow
def test_a_listing_of_more_than_a_thousand_pages_is_complete(proxy, server, monkeypatch):
    client, keys = servers.client(server), [f"{number:04d}" for number in range(1010)]
    for key in keys:
        client.put_object(Bucket=servers.BUCKET, Key=f"many/{key}", Body=b"x")
    pages(monkeypatch, 1)
    proxy.rule = at_random(4, 0.02, [Status(503, "SlowDown"), Reset()])
    many = open_storage(f"s3://{servers.BUCKET}/many")
    assert [item.key for item in many.list()] == keys
    assert len(proxy.requests) > 1010


def pages(monkeypatch, size=PAGE):
    """Make pages short; those of a service have a thousand objects."""
    plain = s3.S3._page
    monkeypatch.setattr(s3.S3, "_page", lambda self, ask: plain(self, {**ask, "MaxKeys": size}))


def test_waits_between_tries_grow_differ_and_are_bounded(monkeypatch, proxy, reef):
    waits = []
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.25)
    # The name in retries alone: other threads of this process sleep, too.
    monkeypatch.setattr(retries, "time", SimpleNamespace(sleep=waits.append))
    proxy.rule = first(-1, Status(503, "SlowDown"))
    for _ in range(2):
        with pytest.raises(TransientError):
            reef.read("k")
    assert len(set(waits)) == 10  # two clients that fail at once do not come back at once
    assert all(0 <= wait <= 0.25 * 2 ** (n % 5 + 1) for n, wait in enumerate(waits))
