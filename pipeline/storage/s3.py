"""S3 and every service that speaks it.

A version is an object's ETag, without its quotes. Credentials come from boto3's usual chain; the
endpoint and anonymous access are settings of the machine.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.core.errors import (
    Changed,
    Missing,
    Rejected,
    SettingError,
    StorageError,
    TransientError,
)
from pipeline.core.urls import redacted
from pipeline.storage import Object, s3_client
from pipeline.storage.deadlines import MIN_BYTES_PER_S, RESPONSE_S, within
from pipeline.storage.refusals import Refusals
from pipeline.storage.retries import retry
from pipeline.storage.s3_client import S3_ERRORS, error_code
from pipeline.storage.s3_responses import (
    MD5,
    Response,
    check_headers,
    check_page,
    etag,
    is_whole,
    matches_etag,
    read_body,
)

WRONG_MD5 = "its bytes are not those that its ETag is the MD5 of"

MAX_IDLE_PAGES = 1000
"""Pages of a listing in a row without a new key: deleted objects can leave empty ones."""

PROBES = 3
"""Objects that are read to see whether ETags are MD5s."""

T = TypeVar("T")


ACCESS_POINT = re.compile(
    r"s3://(arn:[\w-]+:s3[\w-]*:[\w-]*:\d+:(?:outpost[/:][\w-]+[/:])?accesspoint[/:][\w.-]+)(?:/|$)"
)
"""An address that begins with the ARN of an access point, which stands for a bucket.

Source: Amazon S3 user guide, "Referencing access points with ARNs"."""


class S3:
    """The objects below `s3://bucket/prefix`; `Storage` says what the methods do.

    The ARN of an access point can take the place of the bucket.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.netloc or "@" in parts.netloc:
            raise SettingError(f"{redacted(url)}: names no bucket; write s3://bucket/prefix")
        access_point = ACCESS_POINT.match(url)
        if parts.netloc.startswith("arn:") and access_point is None:
            raise SettingError(
                f"{redacted(url)}: not the ARN of an access point; write "
                "s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/prefix"
            )
        self.url = url.rstrip("/")
        self.bucket = access_point[1] if access_point else parts.netloc
        prefix = url.removeprefix(f"s3://{self.bucket}").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._clients: dict[int, Any] = {}
        self._locks: dict[int, threading.Lock] = {}
        self._md5_etags: bool | None = None
        self._refusals = Refusals()
        self._is_reached = False

    @property
    def _client(self) -> Any:
        """This process's client: a forked process must not use its parent's sockets.

        Nor its parent's lock: one that is held at the fork is never released.
        """
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._clients:
                self._clients[pid] = s3_client.new_client(self.url)
            return self._clients[pid]

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Yield every object whose key begins with *prefix*, sorted by its UTF-8 bytes."""
        objects: dict[str, Object] = {}
        idle = 0
        for page in self._pages(self.prefix + prefix):
            before = len(objects)
            # By key: in a bucket that changes meanwhile, an object can be on two pages.
            objects |= {item["Key"]: self._object(item) for item in page.get("Contents", [])}
            idle = 0 if len(objects) > before else idle + 1
            if idle > MAX_IDLE_PAGES:
                reason = f"{idle:,} pages of the service's listing had nothing new, and it goes on"
                raise StorageError(f"{self.url}: {reason}; check the endpoint")
        files = [item for key, item in objects.items() if not key.endswith("/")]
        yield from sorted(files, key=lambda item: item.key.encode())

    def _object(self, item: dict[str, Any]) -> Object:
        modified = item["LastModified"].timestamp() if "LastModified" in item else 0.0
        return Object(item["Key"][len(self.prefix) :], item["Size"], etag(item), modified)

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing."""
        params, tokens = {"Prefix": prefix}, set()
        while True:
            page = self._retried("", partial(self._page, params))
            yield page
            if not page.get("IsTruncated"):
                return
            params["ContinuationToken"] = token = page["NextContinuationToken"]
            if token in tokens:
                raise StorageError(f"{self.url}: the service's listing goes round in a circle")
            tokens.add(token)

    def _page(self, params: dict[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("list_objects_v2", params)
        check_page(page, params["Prefix"])
        return page

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Return *objects* as they are: a listing has the ETags."""
        return list(objects)

    def head(self, key: str) -> Object:
        """Return one object with its version."""
        return self._retried(key, partial(self._head, key))

    def _head(self, key: str) -> Object:
        response = self._request("head_object", {"Key": self.prefix + key})
        check_headers(response)
        return Object(key, response["ContentLength"], etag(response))

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        They are read again if their number is wrong or, for a whole object, if they do not have the
        MD5 that its ETag usually is.
        """
        if stop is not None and stop <= start:
            return b""  # S3 ignores such a range, and sends the whole object
        wrong: list[bytes] = []
        get = partial(self._get, key, (start, stop), if_version, wrong)
        try:
            return self._retried(key, get, if_version)
        except (Missing, TransientError) as error:
            if not if_version:
                raise
            if isinstance(error, Missing):
                raise Rejected("vanished", f"{error}, though it was listed") from error
            if len(wrong) > 1 and len(set(wrong)) == 1:
                raise Rejected("corrupt", f"{self.url}/{key}: {WRONG_MD5}") from error
            raise

    def _get(
        self, key: str, part: tuple[int, int | None], if_version: str, wrong: builtins.list[bytes]
    ) -> bytes:
        """Read a *part* in one try; a whole object that has another MD5 is added to *wrong*.

        The response's own ETag is checked too, since some services ignore `If-Match`.
        """
        start, stop = part
        params = {"Key": self.prefix + key}
        if part != (0, None):
            params["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_version:
            params["IfMatch"] = f'"{if_version}"'
        try:
            response = self._request("get_object", params)
        except S3_ERRORS as error:
            if error_code(error) not in s3_client.BEYOND_END:
                raise
            self._check_version(key, self._head(key).version, if_version)
            return b""
        check_headers(response)
        self._check_version(key, etag(response), if_version)
        data = read_body(response, part, s3_client.TIMEOUT_S)
        if is_whole(response):
            self._check_md5(key, response, data, wrong)
            data = data[start:stop]
        self._refusals.has_read = True
        return data

    def _check_version(self, key: str, version: str, expected: str) -> None:
        if expected and version != expected:
            raise self._changed(key, version, expected)

    def _changed(self, key: str, version: str, expected: str) -> Changed:
        return Changed(
            f"{self.url}/{key}: changed while it was read (index has {expected!r}, bucket has "
            f"{version!r}); run dvc repro again"
        )

    def _check_md5(
        self, key: str, response: Response, data: bytes, wrong: builtins.list[bytes]
    ) -> None:
        if self._md5_etags is False or matches_etag(response, data):
            return
        wrong.append(data)
        # The same bytes again: the object is damaged, unless this service's ETags are not MD5s.
        if wrong.count(data) == 1 or self._are_etags_md5s(excluded=self.prefix + key):
            raise OSError(WRONG_MD5)

    def _are_etags_md5s(self, excluded: str) -> bool:
        """Return True if this service's ETags are MD5s, as those of nearly all services are.

        This is found out once, from the smallest objects on the first page; the key *excluded* is
        not among them.
        """
        if self._md5_etags is None:
            page = self._page({"Prefix": self.prefix}).get("Contents", [])
            others = [item for item in page if item["Key"] != excluded and item["Size"]]
            others = [item for item in others if MD5.fullmatch(etag(item).lower())]
            probes = sorted(others, key=itemgetter("Size"))[:PROBES]
            self._md5_etags = any(self._matches_etag(item["Key"]) for item in probes)
        return self._md5_etags

    def _matches_etag(self, key: str) -> bool:
        response = self._request("get_object", {"Key": key})
        return matches_etag(response, read_body(response, (0, None), s3_client.TIMEOUT_S))

    def put(self, key: str, data: bytes) -> None:
        """Write an object by one PUT, which S3 makes visible completely or not at all."""
        params = {"Key": self.prefix + key, "Body": data}
        more_s = len(data) / MIN_BYTES_PER_S
        self._retried(key, partial(self._request, "put_object", params, more_s))

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""
        self._retried(key, partial(self._request, "delete_object", {"Key": self.prefix + key}))

    def touch(self, key: str) -> None:
        """Write an object again as it is; it is no error if it is not there."""
        with contextlib.suppress(Missing):
            self.put(key, self.read(key))

    def tidy(self) -> None:
        """Do nothing: a PUT that was cut off leaves no object."""

    def _request(self, operation: str, params: dict[str, Any], more_s: float = 0) -> Any:
        call = getattr(self._client, operation)
        return within(RESPONSE_S + more_s, partial(call, Bucket=self.bucket, **params))

    def _retried(self, key: str, attempt: Callable[[], T], if_version: str = "") -> T:
        """Return what *attempt* returns, with retries.

        Raises:
            StorageError: in plain words, why there is no good response.
            Rejected: the object alone is refused, and was listed as *if_version*.
        """

        def explained() -> T:
            try:
                return attempt()
            except S3_ERRORS as error:
                raise self._error(key, error, if_version) from error

        if_missing = s3_client.TRIES_IF_LISTED if if_version else 1
        if self._is_reached:
            return retry(explained, tries=s3_client.TRIES, if_missing=if_missing)
        warning = threading.Timer(
            s3_client.SILENT_S, s3_client.warn_of_silence, [self._client, self.url]
        )
        warning.daemon = True
        warning.start()
        try:
            found = retry(explained, tries=s3_client.TRIES, if_missing=if_missing)
        finally:
            warning.cancel()
        self._is_reached = True
        return found

    def _error(self, key: str, error: Exception, if_version: str) -> StorageError | Rejected:
        at = f"{self.url}/{key}" if key else self.url
        code = error_code(error)
        if code in s3_client.OTHER_VERSION:
            return self._changed(key, "another version", if_version)
        if code in s3_client.FORBIDDEN and if_version and not self._refusals.count():
            return Rejected("forbidden", f"{at}: access refused ({code})")
        return s3_client.storage_error(error, at, self.bucket)
