"""S3 and every service that speaks it; beside `_client` the one file that knows boto3.

A version is an object's ETag, without its quotes. Credentials come from boto3's usual chain; the
endpoint and anonymous access are settings of the machine.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipeline.core.errors import (
    Changed,
    Missing,
    Rejected,
    SettingError,
    StorageError,
    TransientError,
)
from pipeline.core.urls import shown
from pipeline.storage import Object, _client, _codes
from pipeline.storage._bodies import MD5, body, check_page, fits, is_whole, part_of, whole
from pipeline.storage._client import NO_CREDENTIALS
from pipeline.storage._codes import BEYOND, CHANGED, FORBIDDEN, GONE, REFUSED, is_busy, refused
from pipeline.storage._patience import ANSWER_S, SLOWEST, within
from pipeline.storage._refusals import Refusals

TRIES = 6
"""Of one request, its answer's body included; boto3's own tries are switched off."""

NOT_ITS_OWN = "its bytes are not those that its ETag is the MD5 of"

TRIES_OF_404 = 3
"""What was listed and is asked for may be there in a moment."""

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 20.0

IDLE_PAGES = 1000
"""So many pages may follow each other without a new key: what was deleted can leave empty ones."""

PROBES = 3
BROKEN = (
    HTTPClientError,
    HTTPError,
    IncompleteReadError,
    NoConnection,
    OSError,
    ResponseParserError,
)
"""What the network and servers that fail make of an answer; another try may go well."""

T = TypeVar("T")


class S3:
    """The objects below `s3://bucket/prefix`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.netloc or "@" in parts.netloc:
            raise SettingError(f"{shown(url)}: names no bucket; write s3://bucket/prefix")
        self.url = url.rstrip("/")
        self.bucket = parts.netloc
        prefix = url.removeprefix(f"s3://{parts.netloc}").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._clients: dict[int, Any] = {}
        self._locks: dict[int, threading.Lock] = {}
        self._are_md5s: bool | None = None
        self._refusals = Refusals()

    @property
    def _client(self) -> Any:
        """A client of this process: one that was forked would share its parent's sockets.

        The lock is the process's own too: one that is held at the fork is never let go.
        """
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._clients:
                self._clients[pid] = _client.new(self.url)
            return self._clients[pid]

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give every object whose key begins with *prefix*, sorted by its UTF-8 bytes."""
        found, idle = dict[str, Object](), 0
        for page in self._pages(self.prefix + prefix):
            before = len(found)
            # By key: in a bucket that changes meanwhile, one can be on two pages.
            found |= {item["Key"]: self._object(item) for item in page.get("Contents", [])}
            idle = 0 if len(found) > before else idle + 1
            if idle > IDLE_PAGES:
                why = f"{idle:,} pages of the service's listing held nothing new, and it goes on"
                raise StorageError(f"{self.url}: {why}; check the endpoint")
        files = (item for key, item in found.items() if not key.endswith("/"))
        yield from sorted(files, key=lambda item: item.key.encode())

    def _object(self, item: dict[str, Any]) -> Object:
        key, etag = item["Key"][len(self.prefix) :], item["ETag"].strip('"')
        written = item["LastModified"].timestamp() if "LastModified" in item else 0.0
        return Object(key, item["Size"], etag, written)

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Give the pages of a listing, each asked for until it comes whole."""
        ask, tokens = {"Prefix": prefix}, set()
        while True:
            page = self._tried("", partial(self._page, ask))
            yield page
            if not page.get("IsTruncated"):
                return
            ask["ContinuationToken"] = page["NextContinuationToken"]
            if ask["ContinuationToken"] in tokens:
                raise StorageError(f"{self.url}: the service's listing goes round in a circle")
            tokens.add(ask["ContinuationToken"])

    def _page(self, ask: dict[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._asked("list_objects_v2", ask)
        check_page(page, ask["Prefix"])
        return page

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Give *objects* as they are: a listing has the ETags."""
        return list(objects)

    def head(self, key: str) -> Object:
        """Give one object with its version.

        Raises:
            Missing: it is not there.
        """
        return self._tried(key, partial(self._head, key))

    def _head(self, key: str) -> Object:
        answer = whole(self._asked("head_object", {"Key": self.prefix + key}))
        return Object(key, answer["ContentLength"], answer["ETag"].strip('"'))

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        Bytes that cannot be what was asked for, by their number or, of a whole object, by the MD5
        that its ETag mostly is, are asked for again.

        Raises:
            Missing: it is not there.
            Changed: it is not *if_version*. The answer's own ETag is compared too, since some
                services ignore `If-Match`.
            Rejected: `forbidden`, `vanished` or `corrupt`, only with *if_version*: the object was
                listed, and it alone cannot be had.
        """
        if stop is not None and stop <= start:
            return b""  # S3 takes such a range for none, and sends the whole object
        ask = {"Key": self.prefix + key}
        if start or stop is not None:
            ask["Range"] = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        if if_version:
            ask["IfMatch"] = f'"{if_version}"'
        came: list[bytes] = []
        try:
            return self._tried(key, partial(self._get, key, ask, came), if_version)
        except (Missing, TransientError) as error:
            if not if_version:
                raise
            if isinstance(error, Missing):
                raise Rejected("vanished", f"{error}, though it was listed") from error
            if len(came) > 1 and len(set(came)) == 1:
                raise Rejected("corrupt", f"{self.url}/{key}: {NOT_ITS_OWN}") from error
            raise

    def _get(self, key: str, ask: dict[str, str], came: builtins.list[bytes]) -> bytes:
        """Ask once; bytes that are not what the ETag says are added to *came*."""
        wanted = ask.get("IfMatch", "").strip('"')
        try:
            answer = whole(self._asked("get_object", ask))
        except ClientError as error:
            if _code(error) not in BEYOND:
                raise
            self._check(key, self.head(key).version, wanted)
            return b""
        self._check(key, answer["ETag"].strip('"'), wanted)
        data = body(answer, ask.get("Range", ""), _client.TIMEOUT_S)
        if is_whole(answer) and self._are_md5s is not False and not fits(answer, data):
            came.append(data)
            if came.count(data) == 1 or self._has_md5s(ask["Key"]):
                raise OSError(NOT_ITS_OWN)
        self._refusals.has_read = True
        return part_of(data, answer, ask.get("Range", ""))

    def _has_md5s(self, but: str) -> bool:
        """Say whether ETags are MD5s here, which a few services have never heard of.

        Asked once, and judged by the smallest objects of the first page that are not *but*.
        """
        if self._are_md5s is None:
            page = self._page({"Prefix": self.prefix}).get("Contents", [])
            others = [item for item in page if item["Key"] != but and item["Size"]]
            others = [item for item in others if MD5.fullmatch(item["ETag"].strip('"').lower())]
            few = sorted(others, key=itemgetter("Size"))[:PROBES]
            answers = (self._asked("get_object", {"Key": item["Key"]}) for item in few)
            self._are_md5s = any(
                fits(found, body(found, "", _client.TIMEOUT_S)) for found in answers
            )
        return self._are_md5s

    def _check(self, key: str, found: str, wanted: str) -> None:
        if wanted and found != wanted:
            raise self._changed(key, wanted, found)

    def put(self, key: str, data: bytes) -> None:
        """Write an object: one PUT, which S3 makes visible whole or not at all."""
        to = {"Key": self.prefix + key, "Body": data}
        self._tried(key, lambda: self._asked("put_object", to, more_s=len(data) / SLOWEST))

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""
        self._tried(key, partial(self._asked, "delete_object", {"Key": self.prefix + key}))

    def touch(self, key: str) -> None:
        """Write an object again as it is; it is no error if it is not there."""
        with contextlib.suppress(Missing):
            self.put(key, self.read(key))

    def _tried(self, key: str, ask: Callable[[], T], if_version: str = "") -> T:
        """Give what *ask* gives; after what may pass, ask again, with back-off and full jitter.

        Raises:
            StorageError: in our words, what stands in the way of a good answer.
            Rejected: the object alone is refused, and was listed as *if_version*.
        """
        for tried in range(1, TRIES + 1):
            try:
                return ask()
            except (ClientError, BotoCoreError, RecursionError, ValueError, *BROKEN) as error:
                said = self._said(key, error, if_version)
                if tried >= _tries(said, if_version):
                    raise said from error
            time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**tried)))
        raise AssertionError("unreachable")

    def _asked(self, what: str, ask: dict[str, Any], more_s: float = 0) -> Any:
        call = getattr(self._client, what)
        return within(ANSWER_S + more_s, partial(call, Bucket=self.bucket, **ask))

    def tidy(self) -> None:
        """Do nothing: a PUT that was cut off leaves no object."""

    def _changed(self, key: str, wanted: str, found: str) -> Changed:
        return Changed(
            f"{self.url}/{key}: changed while it was read (index has {wanted!r}, bucket has "
            f"{found!r}); run dvc repro again"
        )

    def _said(self, key: str, error: Exception, if_version: str = "") -> StorageError | Rejected:
        """Put boto3's *error* into our words; none of them holds a credential."""
        at = f"{self.url}/{key}" if key else self.url
        code = _code(error)
        if code == "NoSuchBucket":
            return StorageError(f"{at}: there is no bucket {self.bucket!r}; check the address")
        if code in GONE:
            return Missing(f"{at}: not there")
        if code in CHANGED:
            return self._changed(key, if_version, "another version")
        if code in FORBIDDEN and if_version and not self._refusals.are_all():
            return Rejected("forbidden", f"{at}: access refused ({code})")
        if code in REFUSED | FORBIDDEN or isinstance(error, NO_CREDENTIALS):
            return refused(at, code or type(error).__name__)
        return _failed(at, error)


def _tries(said: StorageError | Rejected, if_version: str) -> int:
    if isinstance(said, Missing):
        return TRIES_OF_404 if if_version else 1
    return TRIES if isinstance(said, TransientError) else 1


def _failed(at: str, error: Exception) -> StorageError:
    if isinstance(error, RecursionError) or _code(error) in _codes.ELSEWHERE:
        return _codes.elsewhere(at, _code(error))
    if not isinstance(error, BROKEN) and not _may_pass(error):
        return StorageError(f"{at}: {error}")
    return TransientError(
        f"{at}: {TRIES} tries failed, the last with: {error}; check the endpoint and the network"
    )


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def _may_pass(error: Exception) -> bool:
    """Say whether another try may go well: a busy server, a server's own fault."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return is_busy(_code(error), status)
