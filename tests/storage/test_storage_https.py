"""Web addresses: only safe ones, tried again after passing errors, shown without secrets."""

import hashlib
import socketserver
import threading
import urllib.request
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

import pytest
import servers

from pipeline.core.errors import Missing, SettingError, StorageError, TransientError
from pipeline.storage import https, read_url, retries

BODY = b"weights" * 1000


@contextmanager
def server(*script):
    """A server that answers each request as *script* says, and all after it as the last one."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = script[min(len(asked), len(script) - 1)]
            asked.append(self.path)
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
                self.end_headers()
                return
            self.send_response(answer if answer != "short" else 200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *args):
            pass

    with servers.answering(Handler) as endpoint:
        yield endpoint, asked


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)


def test_the_version_of_a_file_is_its_sha256():
    with server(200) as (url, _):
        assert read_url(f"{url}/w.safetensors") == (BODY, hashlib.sha256(BODY).hexdigest())


def test_a_failing_server_is_tried_again():
    with server(503, 500, 200) as (url, asked):
        assert https.fetch(f"{url}/w")[0] == BODY
        assert len(asked) == 3


def test_a_server_that_goes_on_failing_is_an_error_after_four_tries():
    with server(503) as (url, asked):
        with pytest.raises(StorageError, match=r"/w: the server answers HTTP 503$"):
            https.fetch(f"{url}/w")
        assert len(asked) == https.TRIES


@pytest.mark.parametrize("code", [404, 410])
def test_a_file_that_is_not_there_is_missing_at_once(code):
    with server(code) as (url, asked):
        with pytest.raises(Missing, match=rf"/w: not there \(HTTP {code}\)$"):
            https.fetch(f"{url}/w")
        assert len(asked) == 1


def test_a_refusal_is_not_tried_again():
    with server(403) as (url, asked):
        with pytest.raises(StorageError, match="the server answers HTTP 403"):
            https.fetch(f"{url}/w")
        assert len(asked) == 1


def test_a_body_that_ends_early_is_fetched_again(monkeypatch):
    real, cut = https.urllib.request.HTTPHandler.http_open, []

    def short_once(self, request):
        answer = real(self, request)
        if not cut:
            cut.append(1)
            answer.length = len(BODY) + 5
        return answer

    monkeypatch.setattr(urllib.request.HTTPHandler, "http_open", short_once)
    with server(200) as (url, asked):
        assert https.fetch(f"{url}/w")[0] == BODY
        assert len(asked) == 2


@pytest.mark.parametrize("begin", [b"HTTP/1.0 2", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_response_that_drips_is_abandoned(monkeypatch, begin):
    monkeypatch.setattr(https, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(https, "RESPONSE_S", 0.5)
    monkeypatch.setattr(https, "TRIES", 2)
    over = threading.Event()

    class Dripping(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(begin)
            with suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(b"0")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.raises(
                TransientError, match=r"(no complete response|only [\d,]+ bytes arrived) in \d s"
            ):
                https.fetch(f"http://127.0.0.1:{running.server_address[1]}/w")
        finally:
            over.set()
            running.shutdown()


def test_a_server_that_is_down_is_an_error():
    with pytest.raises(StorageError, match=r"http://127.0.0.1:9/w: cannot be fetched \(.*refused"):
        https.fetch("http://127.0.0.1:9/w")


@pytest.mark.parametrize("url", ["http://example.org/w", "ftp://example.org/w", "http:///w"])
def test_an_unsafe_address_is_refused(url):
    with pytest.raises(SettingError, match="not a safe address; use https://"):
        https.fetch(url)


def test_a_redirect_to_an_unsafe_address_is_not_followed():
    with (
        server("http://example.org/w") as (url, _),
        pytest.raises(SettingError, match=r"^http://example.org/w: not a safe address"),
    ):
        https.fetch(f"{url}/w")


def test_a_redirect_on_loopback_is_followed():
    with server(200) as (there, _), server(f"{there}/w") as (url, _):
        assert https.fetch(f"{url}/w")[0] == BODY


def test_no_redirect_from_https_to_http_is_followed_even_to_loopback():
    asked = urllib.request.Request("https://example.org/w?sig=secret")
    with pytest.raises(
        StorageError, match="redirects to http://127.0.0.1/w, which is not safe"
    ) as stop:
        https._SafeRedirects().redirect_request(
            asked, None, 302, "", {}, "http://127.0.0.1/w?key=secret"
        )
    assert "secret" not in str(stop.value)


@pytest.mark.parametrize(
    "path", ["{url}/w?X-Amz-Signature=secret", "http://me:secret@127.0.0.1:9/w", "{url}/a b?secret"]
)
def test_no_message_shows_what_may_be_a_credential(path):
    with server(404) as (url, _), pytest.raises((StorageError, SettingError)) as stop:
        https.fetch(path.format(url=url))
    assert "secret" not in str(stop.value)
    assert "127.0.0.1" in str(stop.value)
