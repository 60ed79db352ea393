"""Faults to order: a proxy that breaks S3's answers, a disk that fills up, a run that is killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

import psutil

LONGEST_S = 60.0
"""How long the proxy waits for the server behind it."""

NOT_FORWARDED = {"connection", "expect", "keep-alive", "transfer-encoding"}
"""Headers of one connection, not of the message; the proxy has a connection to either side."""

WITHOUT_BODY = {204, 304}


@dataclass(frozen=True)
class Status:
    """Answer with an error as S3 writes it, and ask nobody."""

    status: int
    code: str
    retry_after: int | None = None

    def body(self, path: str) -> bytes:
        """The error as XML."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{self.code}, as ordered.</Message>"
            f"<Resource>{urlsplit(path).path}</Resource><RequestId>0</RequestId></Error>"
        ).encode()


@dataclass(frozen=True)
class Reset:
    """Close the connection at once, by RST."""


@dataclass(frozen=True)
class Short:
    """Promise the whole body, send its first *n* bytes and close."""

    n: int


@dataclass(frozen=True)
class Drip:
    """Send the body byte by byte, so many *seconds* apart."""

    seconds: float


@dataclass(frozen=True)
class Headers:
    """Send headers without end, byte by byte, so many *seconds* apart."""

    seconds: float


@dataclass(frozen=True)
class Other:
    """Answer 200 with another body, as a server does that speaks no S3."""

    body: bytes


@dataclass(frozen=True)
class Slow:
    """Forward only after *seconds*."""

    seconds: float


@dataclass(frozen=True)
class Less:
    """Say that the body is *n* bytes shorter than it is, and send as many as are said."""

    n: int


@dataclass(frozen=True)
class Flip:
    """Turn one bit of the body, in its middle; what the headers say of it stays."""


T = TypeVar("T")

Fault = Status | Reset | Short | Drip | Headers | Other | Slow | Less | Flip
Rule = Callable[[str, str, int], Fault | None]


def at_random(seed: int, share: float, faults: Sequence[Fault]) -> Rule:
    """Order one of *faults* for about *share* of all requests, by a generator of *seed*."""
    rng, lock = random.Random(seed), threading.Lock()

    def rule(method: str, path: str, number: int) -> Fault | None:
        with lock:
            return rng.choice(faults) if rng.random() < share else None

    return rule


class Proxy:
    """A server on loopback that forwards to the one at *behind*, unless its rule orders a fault.

    The rule is asked with the method, the path with its query as it was sent, and the request's
    number, from 1. It may be replaced at any time, and is asked from many threads.
    """

    def __init__(self, behind: str, rule: Rule | None = None, *, address: str = "127.0.0.1"):
        self.behind = urlsplit(behind).netloc
        self.rule: Rule = rule or (lambda method, path, number: None)
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._requests: list[tuple[str, str]] = []
        self._server = _Server(self, address)
        self.endpoint = f"http://{address}:{self._server.server_port}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far, whatever became of it."""
        with self._lock:
            return list(self._requests)

    def forget(self) -> None:
        """Count anew."""
        with self._lock:
            self._requests.clear()

    def seen(self, method: str, path: str) -> Fault | None:
        """Note a request; give the fault that is ordered for it."""
        with self._lock:
            self._requests.append((method, path))
            number = len(self._requests)
        return self.rule(method, path, number)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """The proxy's side to its clients, a thread a connection."""

    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 128

    def __init__(self, proxy: Proxy, address: str) -> None:
        self.proxy = proxy
        self.open: set[socket.socket] = set()
        super().__init__((address, 0), _Handler)

    def process_request(self, request, client_address) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in list(self.open):
            with suppress(OSError):  # it may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        """Say what went wrong in a rule; a client that goes away is nothing to speak of."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body waits 40 ms for the acknowledgment of its headers

    def answer(self) -> None:
        """Forward the request, or do as is ordered."""
        fault = self.server.proxy.seen(self.command, self.path)
        if isinstance(fault, Reset):
            self.reset()
            return
        body = self.sent()
        if isinstance(fault, Status):
            self.refuse(fault)
            return
        if isinstance(fault, Headers):
            self.drip(b"HTTP/1.1 200 OK\r\n" + b"X-More: to come\r\n" * 50, fault.seconds)
            return
        if isinstance(fault, Slow):
            self.server.proxy.closing.wait(fault.seconds)
        self.forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def sent(self) -> bytes:
        """Read the request's body."""
        if "Transfer-Encoding" in self.headers:
            raise NotImplementedError("the proxy reads no chunked requests")
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reset(self) -> None:
        """Close with RST: nothing lingers to be sent."""
        now = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.close_connection = True
        self.connection.close()  # the socket itself goes with rfile, which ends after this

    def refuse(self, fault: Status) -> None:
        """Answer with an error; the connection stays."""
        body = fault.body(self.path)
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        if fault.retry_after is not None:
            self.send_header("Retry-After", str(fault.retry_after))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def forward(self, body: bytes, fault: Fault | None) -> None:
        """Pass on the answer of the server behind, with what is wrong with it."""
        behind = HTTPConnection(self.server.proxy.behind, timeout=LONGEST_S)
        try:
            self.ask(behind, body)
            answer = behind.getresponse()
            data = answer.read()
        finally:
            behind.close()
        if isinstance(fault, Other):
            data = fault.body
            del answer.headers["Content-Length"]
        if isinstance(fault, Flip):
            data = flipped(data)
        if isinstance(fault, Less):
            data = data[: max(len(data) - fault.n, 0)]
            del answer.headers["Content-Length"]
        self.begin_answer(answer, len(data))
        if self.command == "HEAD":
            return
        if isinstance(fault, Drip):
            self.drip(data, fault.seconds)
            return
        first = fault.n if isinstance(fault, Short) else None
        self.wfile.write(data[:first])
        self.close_connection |= first is not None

    def drip(self, data: bytes, seconds: float) -> None:
        """Send *data* byte by byte, as long as somebody reads."""
        for place in range(len(data)):
            if self.server.proxy.closing.wait(seconds):
                break
            self.wfile.write(data[place : place + 1])
        self.close_connection = True

    def ask(self, behind: HTTPConnection, body: bytes) -> None:
        """Send the request on, with the client's own Host: the signature holds for it."""
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in NOT_FORWARDED:
                behind.putheader(name, value)
        behind.endheaders(body)

    def begin_answer(self, answer: HTTPResponse, size: int) -> None:
        """Send the status and the headers, the body's whole *size* among them."""
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in NOT_FORWARDED:
                self.send_header(name, value)
        with_body = self.command != "HEAD" and answer.status not in WITHOUT_BODY
        if with_body and "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: `requests` has them all."""


def flipped(data: bytes) -> bytes:
    """Turn one bit in the middle of *data*."""
    turned = bytearray(data)
    if turned:
        turned[len(turned) // 2] ^= 1
    return bytes(turned)


ON_A_SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


def full_disk(size: str, folder: Path) -> list[str]:
    """What to write before a command so that *folder* is an empty disk of *size* (as `64k`) for it.

    Only the command and its children see that disk, and it is gone when they have ended: what is to
    be seen on it is to be looked at, or made larger by `mount -o remount,size=…`, by a shell that
    is the command. The folder must be there; what lies in it is hidden.
    """
    return ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "full_disk", size, str(folder)]


@cache
def can_unshare() -> bool:
    """Say whether this machine lets `full_disk` mount one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([*full_disk("4k", Path(folder)), "true"], capture_output=True)
        except FileNotFoundError:
            return False
    return done.returncode == 0


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process that was started with `start_new_session=True`, and all that it has begun."""
    if process.poll() is None and os.getpgid(process.pid) != process.pid:
        raise ValueError(f"{process.args}: has no group of its own; use start_new_session=True")
    with suppress(ProcessLookupError):  # its leader may have ended before, and all others too
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def children(pid: int) -> list[psutil.Process]:
    """Give the processes below *pid* that have not ended."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if lives(process)]


def lives(process: psutil.Process) -> bool:
    """Say whether a process still runs; one that nobody has waited for does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(predicate: Callable[[], T], seconds: float) -> T:
    """Wait until *predicate* gives something true, and give that."""
    deadline = time.monotonic() + seconds
    while not (found := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain")
        time.sleep(0.02)
    return found
