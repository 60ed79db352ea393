"""Read headers, pixels and masks in processes that a broken image may crash or hang.

A decoder is native code and a bucket's bytes may be anybody's: it does not always raise an
exception. A process of its own costs a copy of the pixels, so images are decoded here only after a
worker has died, or where `isolate_decoding` asks for it; see `pipeline/scheduler/shard_tasks.py`.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import BucketParams, ExtractParams, NoData
from pipeline.core import signals
from pipeline.core.errors import (
    Changed,
    InputError,
    Missing,
    Rejected,
    StorageError,
    TransientError,
)
from pipeline.images.decode import DecodedImage, decode_with_warning
from pipeline.images.header import read_header
from pipeline.images.valid_mask import valid_mask
from pipeline.images.watchdog import watched
from pipeline.storage import Object, Storage, open_storage

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]

Decode = Callable[[bytes, str], DecodedImage]
"""Decodes the bytes of a key."""

CPU_LIMIT_S = 120
"""CPU seconds for one image: many times what the slowest format takes for as many pixels as
bucket.max_pixels lets through by default."""

PARENT_CHECK_S = 0.5
LENGTH = struct.Struct(">Q")
STORAGE_ERRORS = {kind.__name__: kind for kind in (Changed, Missing, TransientError, StorageError)}
CRASH_SIGNALS = {
    getattr(signal, name, None)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
}


class DecoderSandbox:
    """Reads images in processes of their own, one for each calling thread.

    The processes end with `close`, and with this process however it ends.
    """

    def __init__(self, limit_s: int = CPU_LIMIT_S) -> None:
        self.limit_s = limit_s
        self._thread = threading.local()
        self._processes = ExitStack()

    def close(self) -> None:
        """End the processes; later calls start new ones."""
        self._processes.close()
        self._thread = threading.local()

    def decode(self, data: bytes, extract: ExtractParams, key: str) -> DecodedImage:
        """Return `decode_with_warning(data, extract)`.

        Raises:
            Rejected: as there; and `decoder_died` or `too_slow`.
            InputError: the system has killed the process, for lack of memory.
        """
        request = {"read": "pixels", "extract": extract.model_dump_json()}
        reply, pixels = self._ask(request, data, key)
        array = np.frombuffer(pixels, np.uint8).reshape(reply["shape"])
        return DecodedImage(array, reply["warning"])

    def valid_mask(self, data: bytes, nodata: NoData, key: str) -> NDArray[np.bool_]:
        """Return `valid_mask(data, nodata)`; raise as `decode` does."""
        reply, mask = self._ask({"read": "mask", "nodata": nodata}, data, key)
        return np.frombuffer(mask, bool).reshape(reply["shape"])

    def read_header(
        self, bucket: BucketParams, memory: Path, item: Object, max_pixels: int
    ) -> dict[str, Any]:
        """Return `read_header` of an object in *bucket*; raise as `decode` does."""
        request = {
            "read": "header",
            "storage": [bucket.url, str(memory), bucket.follow_symlinks],
            "item": {"key": item.key, "size": item.size, "version": item.version},
            "max_pixels": max_pixels,
        }
        header = self._ask(request, b"", item.key)[0]["header"]
        captured = header["captured_at"]
        return {**header, "captured_at": captured and datetime.fromisoformat(captured)}

    def _ask(
        self, request: Mapping[str, Any], data: bytes, key: str
    ) -> tuple[dict[str, Any], bytes]:
        child = self._child()
        try:
            _send(child.stdin, request, data)  # type: ignore[arg-type]
            reply, array = _receive(child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, EOFError):
            self._thread.child = None
            signals.helpers.discard(child.pid)
            raise _death(child.wait(), key, self.limit_s) from None
        if "rejected" in reply:
            raise Rejected(*reply["rejected"])
        if "storage_error" in reply:
            kind, message = reply["storage_error"]
            raise STORAGE_ERRORS[kind](message)
        if "out_of_memory" in reply:
            raise out_of_memory(key)
        return reply, array

    def _child(self) -> subprocess.Popen[bytes]:
        child: subprocess.Popen[bytes] | None = getattr(self._thread, "child", None)
        if child is None:
            path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
            child = subprocess.Popen(
                [sys.executable, "-m", "pipeline.images.sandbox", str(self.limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            signals.helpers.add(child.pid)
            self._processes.callback(_end, child)
            self._thread.child = child
        return child


@contextmanager
def decoding(extract: ExtractParams, *, isolate: bool) -> Iterator[Decode]:
    """Yield a function that decodes a key's bytes: in a sandbox if *isolate*, else here."""
    if isolate:
        with closing(DecoderSandbox()) as sandbox:
            yield lambda data, key: sandbox.decode(data, extract, key)
    else:
        yield partial(_decode_here, extract)


def _decode_here(extract: ExtractParams, data: bytes, key: str) -> DecodedImage:
    try:
        with watched(key):
            return decode_with_warning(data, extract)
    except MemoryError as error:
        raise out_of_memory(key) from error


def out_of_memory(key: str) -> InputError:
    """Return the error for an image that this machine lacks the memory for: not a reject."""
    return InputError(
        f"{key}: there is not enough memory to decode it; "
        "free some, run fewer workers, or lower bucket.max_pixels"
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    signals.helpers.discard(child.pid)
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(BrokenPipeError):
            pipe.close()  # type: ignore[union-attr]


def _death(code: int, key: str, limit_s: int) -> Exception:
    """Return the error for an image whose process ended with *code*, minus its signal."""
    if -code == getattr(signal, "SIGXCPU", None):
        return Rejected("too_slow", f"not decoded after {limit_s} s of CPU time")
    if -code in CRASH_SIGNALS:
        name = signal.Signals(-code).name
        message = f"its decoder crashed ({name}), which a damaged image can cause"
        return Rejected("decoder_died", message)
    if -code == getattr(signal, "SIGKILL", None):
        return out_of_memory(key)  # what a system short of memory sends
    return RuntimeError(f"{key}: the process that decodes it ended with code {code}")


def _send(pipe: BinaryIO, message: Mapping[str, Any], data: Any) -> None:
    """Write a message, and bytes or a flat array of uint8, each after its length."""
    for part in (json.dumps(message).encode(), data):
        pipe.write(LENGTH.pack(len(part)))
        pipe.write(part)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes]:
    message, data = (_read(pipe, LENGTH.unpack(_read(pipe, LENGTH.size))[0]) for _ in range(2))
    return json.loads(message), data


def _read(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _serve(limit_s: int) -> None:
    """Answer the requests on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not disturb the replies
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            request, data = _receive(requests)
        except EOFError:
            return
        _limit_cpu_time(limit_s)
        with suppress(BrokenPipeError):  # the parent has gone
            _send(replies, *_reply(request, data))


def _end_with(parent: int) -> None:
    """End this process once *parent* has gone: an image may keep it from reading its input."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _limit_cpu_time(limit_s: int) -> None:
    """Let this process compute for *limit_s* more seconds, after which it gets SIGXCPU."""
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        until = int(time.process_time()) + limit_s + 1
        if hard == resource.RLIM_INFINITY or until < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


@cache
def _storage(url: str, memory: str, follow_symlinks: bool) -> Storage:  # noqa: FBT001
    return open_storage(url, digest_cache=Path(memory), follow_symlinks=follow_symlinks)


def _reply(request: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], Any]:
    """Return the message and the array that answer a request."""
    try:
        if request["read"] == "header":
            return {"header": _header(request)}, b""
        if request["read"] == "mask":
            array: NDArray[Any] = valid_mask(data, request["nodata"])
            warning = None
        else:
            section = ExtractParams.model_validate_json(request["extract"])
            array, warning = decode_with_warning(data, section)
        reply = {"shape": array.shape, "warning": warning}
        return reply, array.reshape(-1).view(np.uint8)
    except Rejected as why:
        return {"rejected": [why.reason, why.detail]}, b""
    except MemoryError:
        return {"out_of_memory": True}, b""
    except StorageError as error:
        kind = next(name for name, kind in STORAGE_ERRORS.items() if isinstance(error, kind))
        return {"storage_error": [kind, str(error)]}, b""


def _header(request: Mapping[str, Any]) -> dict[str, Any]:
    storage, item = _storage(*request["storage"]), Object(**request["item"])
    header = read_header(storage, item, max_pixels=request["max_pixels"])
    captured = header["captured_at"]
    return {**header, "captured_at": captured and captured.isoformat()}


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
