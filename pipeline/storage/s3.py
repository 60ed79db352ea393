"""S3 and every service that speaks it; the one file that imports boto3.

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
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from pipeline.errors import Changed, Missing, Passing, SettingError, StorageError
from pipeline.settings import machine
from pipeline.storage import Object, shown

TRIES = 6
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 20.0
POOL = 64

GONE = {"404", "NoSuchKey", "NotFound"}
CHANGED = {"412", "PreconditionFailed"}
BEYOND = {"416", "InvalidRange"}
REFUSED = {
    "401",
    "403",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
}
BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
TOO_MANY = 429
SERVERS_FAULT = 500
NO_CREDENTIALS = (
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
"""Their own text is never shown: a helper program's output may be in it."""

BROKEN_BODY = (IncompleteReadError, HTTPClientError, HTTPError, OSError)
"""What reading an answer's body can raise; botocore retries requests, not bodies."""


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

    @property
    def _client(self) -> Any:
        """A client of this process: one that was forked would share its parent's sockets.

        The lock is the process's own too: one that is held at the fork is never let go.
        """
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._clients:
                self._clients[pid] = _new_client(self.url)
            return self._clients[pid]

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give every object whose key begins with *prefix*, sorted by its UTF-8 bytes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        try:
            found = [
                Object(
                    item["Key"][len(self.prefix) :],
                    item["Size"],
                    item["ETag"].strip('"'),
                    item["LastModified"].timestamp(),
                )
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            ]
        except (ClientError, BotoCoreError) as error:
            raise self._said("", error) from error
        yield from sorted(found, key=lambda item: item.key.encode())

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Give *objects* as they are: a listing has the ETags."""
        return list(objects)

    def head(self, key: str) -> Object:
        """Give one object with its version.

        Raises:
            Missing: it is not there.
        """
        try:
            answer = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except (ClientError, BotoCoreError) as error:
            raise self._said(key, error) from error
        return Object(key, answer["ContentLength"], answer["ETag"].strip('"'))

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        Raises:
            Missing: it is not there.
            Changed: it is not *if_version*. The answer's own ETag is compared too, since some
                services ignore `If-Match`.
        """
        if stop is not None and stop <= start:
            return b""  # S3 takes such a range for none, and sends the whole object
        ask = {"Bucket": self.bucket, "Key": self.prefix + key}
        if start or stop is not None:
            ask["Range"] = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        if if_version:
            ask["IfMatch"] = f'"{if_version}"'
        for left in reversed(range(TRIES)):
            answer = self._answer(key, ask, if_version)
            if answer is None:
                return b""
            try:
                return _body(answer, ask, start, stop)
            except BROKEN_BODY as error:
                if not left:
                    raise Passing(
                        f"{self.url}/{key}: {TRIES} tries failed, the last with: {error}"
                    ) from error
                _wait(TRIES - left)
        raise AssertionError("unreachable")

    def _answer(self, key: str, ask: dict[str, str], if_version: str) -> Any:
        """Give the answer to a GET, of the right version; None if the range is beyond the end."""
        try:
            answer = self._client.get_object(**ask)
            found = answer["ETag"].strip('"')
        except (ClientError, BotoCoreError) as error:
            if _code(error) not in BEYOND:
                raise self._said(key, error, if_version) from error
            answer, found = None, self.head(key).version
        if if_version and found != if_version:
            raise self._changed(key, if_version, found)
        return answer

    def put(self, key: str, data: bytes) -> None:
        """Write an object: one PUT, which S3 makes visible whole or not at all."""
        try:
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)
        except (ClientError, BotoCoreError) as error:
            raise self._said(key, error) from error

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""
        try:
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except (ClientError, BotoCoreError) as error:
            raise self._said(key, error) from error

    def touch(self, key: str) -> None:
        """Write an object again as it is; it is no error if it is not there."""
        with contextlib.suppress(Missing):
            self.put(key, self.read(key))

    def tidy(self) -> None:
        """Do nothing: a PUT that was cut off leaves no object."""

    def _changed(self, key: str, wanted: str, found: str) -> Changed:
        return Changed(
            f"{self.url}/{key}: changed while it was read (index has {wanted!r}, bucket has "
            f"{found!r}); run dvc repro again"
        )

    def _said(self, key: str, error: Exception, if_version: str = "") -> StorageError:
        """Put boto3's *error* into our words; none of them holds a credential."""
        at = f"{self.url}/{key}" if key else self.url
        code = _code(error)
        if code == "NoSuchBucket":
            return StorageError(f"{at}: there is no bucket {self.bucket!r}; check the address")
        if code in GONE:
            return Missing(f"{at}: not there")
        if code in CHANGED:
            return self._changed(key, if_version, "another version")
        if code in REFUSED or isinstance(error, NO_CREDENTIALS):
            return _refused(at, code or type(error).__name__)
        if isinstance(error, (EndpointConnectionError, ConnectTimeoutError)):
            return Passing(f"{at}: {error}; check the endpoint and the network")
        return (Passing if _may_pass(error) else StorageError)(f"{at}: {error}")


def _body(answer: Any, ask: dict[str, str], start: int, stop: int | None) -> bytes:
    data: bytes = answer["Body"].read()
    if len(data) != answer["ContentLength"]:
        raise OSError(f"{len(data):,} of {answer['ContentLength']:,} bytes came")
    if "Range" in ask and "ContentRange" not in answer:
        return data[start:stop]  # a server that knows no ranges sends the whole
    return data


def _refused(at: str, why: str) -> StorageError:
    return StorageError(
        f"{at}: access refused ({why}); check the AWS credentials, or set QUADRAT_ANONYMOUS=true "
        "for a public bucket"
    )


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def _may_pass(error: Exception) -> bool:
    """Say whether another try may go well: the network, a busy server, a server's own fault."""
    if not isinstance(error, ClientError):
        return isinstance(error, HTTPClientError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= SERVERS_FAULT or status == TOO_MANY or _code(error) in BUSY


def _wait(tried: int) -> None:
    """Sleep before another try: exponential back-off with full jitter."""
    time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**tried)))


def _new_client(url: str) -> Any:
    settings = machine()
    endpoint = (
        settings.endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or None
    )
    if endpoint and "@" in endpoint:
        raise SettingError(f"{url}: the endpoint holds a user name or password; take it out")
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": TRIES},
        max_pool_connections=POOL,
        # Checksum headers that boto3 adds since 1.36 are refused by other S3 services.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=UNSIGNED if settings.is_anonymous else None,
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        session = boto3.session.Session()
        return session.client(
            "s3",
            config=config,
            endpoint_url=endpoint,
            region_name=session.region_name or region,
        )
    except NO_CREDENTIALS as error:
        raise _refused(url, type(error).__name__) from error
    except (BotoCoreError, ValueError) as error:
        raise SettingError(
            f"{url}: S3 cannot be used ({error}); check QUADRAT_ENDPOINT (with http:// or "
            "https://), AWS_PROFILE and AWS_REGION"
        ) from error
