"""Headers and pixels read in a process of their own, which a broken image may kill or hold up.

A decoder is native code and a bucket's bytes are anybody's: what it does with them is not always
an exception. A process costs a copy of the pixels, so images are decoded here only once a worker
has died over its work; see `pipeline/scheduler/shard_tasks.py`.
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
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline import images
from pipeline.config.sections import BucketParams, ExtractParams, NoData
from pipeline.core import signals
from pipeline.core.errors import BY_NAME, InputError, Rejected, StorageError, TransientError
from pipeline.images.watchdog import watched
from pipeline.storage import Object, Storage, open_storage

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]

LIMIT_S = 120
"""Seconds that one image may compute for: many times what the slowest kind takes for as many
pixels as bucket.max_pixels lets through by default."""

Pixels = NDArray[np.uint8]
LOOKS_S = 0.5
LENGTH = struct.Struct(">Q")
KINDS = {**BY_NAME, "Passing": TransientError}
DIED = {
    getattr(signal, name, None)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
}


class Died(Rejected):
    """The process that read an image has ended; the detail does not name it yet."""


class DecoderSandbox:
    """Reads images in processes of their own, one for each thread that asks.

    The processes end with `close`, and with this process however that ends.
    """

    def __init__(self, limit_s: int = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._mine = threading.local()
        self._all = ExitStack()

    def close(self) -> None:
        """End the processes; those who ask afterwards get new ones."""
        self._all.close()
        self._mine = threading.local()

    def decode(self, data: bytes, extract: ExtractParams, key: str) -> Pixels:
        """Do as `images.decode`.

        Raises:
            Rejected: as there; and `decoder_died` or `too_slow`.
            InputError: the system has killed the process, for want of memory.
        """
        try:
            said, pixels = self._ask({"extract": extract.model_dump_json()}, data, key)
        except Died as death:
            raise Rejected(*death.args) from death
        shaped: Pixels = np.frombuffer(pixels, np.uint8).reshape(said["shape"])
        return shaped

    def valid(self, data: bytes, nodata: NoData, key: str) -> NDArray[np.bool_]:
        """Do as `images.valid`; raise as `decode` too."""
        try:
            said, pixels = self._ask({"nodata": nodata}, data, key)
        except Died as death:
            raise Rejected(*death.args) from death
        shaped: NDArray[np.bool_] = np.frombuffer(pixels, bool).reshape(said["shape"])
        return shaped

    def header(
        self, bucket: BucketParams, memory: Path, item: Object, max_pixels: int
    ) -> dict[str, Any]:
        """Do as `images.header` of an object of *bucket*; raise as `decode` too."""
        named = {"key": item.key, "size": item.size, "version": item.version}
        where = [bucket.url, str(memory), bucket.follow_symlinks]
        ask = {"where": where, "item": named, "max_pixels": max_pixels}
        try:
            found = self._ask(ask, b"", item.key)[0]["header"]
        except Died as death:
            raise Rejected(death.reason, f"{item.key}: {death.detail}") from death
        at = found["captured_at"]
        return {**found, "captured_at": at and datetime.fromisoformat(at)}

    def _ask(self, ask: Mapping[str, Any], data: bytes, key: str) -> tuple[dict[str, Any], bytes]:
        child = self._child()
        try:
            _send(child.stdin, ask, data)  # type: ignore[arg-type]
            said, answer = _receive(child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, EOFError):
            self._mine.child = None
            signals.helpers.discard(child.pid)
            raise _death(child.wait(), key, self.limit_s) from None
        if "rejected" in said:
            raise Rejected(*said["rejected"])
        if "raised" in said:
            kind, message = said["raised"]
            raise KINDS[kind](message)
        if "lacks" in said:
            raise no_memory(key)
        return said, answer

    def _child(self) -> subprocess.Popen[bytes]:
        child: subprocess.Popen[bytes] | None = getattr(self._mine, "child", None)
        if child is None:
            path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
            child = subprocess.Popen(
                [sys.executable, "-m", "pipeline.images.sandbox", str(self.limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            signals.helpers.add(child.pid)
            self._all.callback(_end, child)
            self._mine.child = child
        return child


@contextmanager
def decoding(extract: ExtractParams, *, isolate: bool) -> Iterator[Callable[[bytes, str], Pixels]]:
    """Give what decodes bytes of a key: here, or, where *isolate*, apart."""
    if not isolate:
        yield partial(_decode_here, extract)
        return
    apart = DecoderSandbox()
    try:
        yield lambda data, key: apart.decode(data, extract, key)
    finally:
        apart.close()


def _decode_here(extract: ExtractParams, data: bytes, key: str) -> Pixels:
    try:
        with watched(key):
            return images.decode(data, extract=extract)
    except MemoryError as error:
        raise no_memory(key) from error


def no_memory(key: str) -> InputError:
    """Give what to raise where the machine has too little memory for an image: no reject."""
    return InputError(
        f"{key}: there is not enough memory to decode it; "
        "make room, run fewer workers, or set bucket.max_pixels lower"
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    signals.helpers.discard(child.pid)
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(BrokenPipeError):
            pipe.close()  # type: ignore[union-attr]


def _death(code: int, key: str, limit_s: int) -> Exception:
    """Give what to raise where the process of *key* has ended with *code*, minus its signal."""
    if -code == getattr(signal, "SIGXCPU", None):
        return Died("too_slow", f"not decoded after {limit_s} s of computing")
    if -code in DIED:
        name = signal.Signals(-code).name
        return Died("decoder_died", f"its decoder died of {name}, which a broken image can do")
    if -code == getattr(signal, "SIGKILL", None):
        return no_memory(key)  # what a system short of memory sends
    return RuntimeError(f"{key}: the process that decodes it ended with code {code}")


def _send(pipe: BinaryIO, said: Mapping[str, Any], data: Any) -> None:
    for part in (json.dumps(said).encode(), data):
        pipe.write(LENGTH.pack(len(part)))
        pipe.write(part)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes]:
    said, data = (_exactly(pipe, LENGTH.unpack(_exactly(pipe, LENGTH.size))[0]) for _ in range(2))
    return json.loads(said), data


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _serve(limit_s: int) -> None:
    """Answer what comes by standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends this, or has gone
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            ask, data = _receive(asked)
        except EOFError:
            return
        _allow_time(limit_s)
        said, pixels = _answer(ask, data)
        with suppress(BrokenPipeError), memoryview(pixels) as view:  # else who asked has gone
            _send(answers, said, view.cast("B") if view.nbytes else b"")


def _end_with(asker: int) -> None:
    """End once the process that asks has gone: an image may keep this one from reading that."""
    while os.getppid() == asker:
        time.sleep(LOOKS_S)
    os._exit(1)


def _allow_time(limit_s: int) -> None:
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        until = int(time.process_time()) + limit_s + 1
        if hard == resource.RLIM_INFINITY or until < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (until, hard))


@cache
def _storage(url: str, memory: str, follow_symlinks: bool) -> Storage:  # noqa: FBT001
    return open_storage(url, digest_cache=Path(memory), follow_symlinks=follow_symlinks)


def _answer(ask: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], Any]:
    try:
        if "nodata" in ask:
            shown = images.valid(data, ask["nodata"])
            return {"shape": shown.shape}, np.ascontiguousarray(shown)
        if "item" not in ask:
            extract = ExtractParams.model_validate_json(ask["extract"])
            pixels = np.ascontiguousarray(images.decode(data, extract=extract))
            return {"shape": pixels.shape}, pixels
        storage = _storage(*ask["where"])
        item = Object(**ask["item"])
        found = images.header(storage, item, max_pixels=ask["max_pixels"])
    except Rejected as why:
        return {"rejected": [why.reason, why.detail]}, b""
    except MemoryError:
        return {"lacks": "memory"}, b""
    except StorageError as error:
        kind = next(name for name in reversed(KINDS) if isinstance(error, KINDS[name]))
        return {"raised": [kind, str(error)]}, b""
    at = found["captured_at"]
    return {"header": {**found, "captured_at": at and at.isoformat()}}, b""


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
