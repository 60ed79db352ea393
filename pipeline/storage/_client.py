"""boto3's client of S3, and GETs without what it does around each of them.

For a small object that is most of the time: rules that name the host, hooks, a parser of answers.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.endpoint import convert_to_response_dict
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import create_parser
from botocore.utils import percent_encode

from pipeline.config.machine import machine
from pipeline.core.errors import SettingError
from pipeline.storage._codes import refused

CONNECT_S = 10
TIMEOUT_S = 30
POOL = 64

NO_CREDENTIALS = (
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
"""Their own text is never shown: a helper program's output may be in it."""

GOOD = {200, 206}

SENT = {"IfMatch": "If-Match", "Range": "Range"}
CAME = {
    "ContentLength": "Content-Length",
    "ContentRange": "Content-Range",
    "ETag": "ETag",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "ServerSideEncryption": "x-amz-server-side-encryption",
}
"""Headers by boto3's names."""

USUAL = {
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    *(header.lower() for header in SENT.values()),
}
"""Headers that boto3 sends; what has others is signed in another way, or somebody's addition."""

SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=.*/\d{8}/([^/]+)/s3/aws4_request, .*")


class Client:
    """What boto3 knows of one bucket.

    Attributes:
        boto3: its own client.
    """

    def __init__(self, made: Any, credentials: Callable[[], Any]) -> None:
        self.boto3 = made
        self._credentials = credentials
        self._way: _Way | None = None
        self._last = threading.local()
        made.meta.events.register("before-send.s3.GetObject", self._note)

    def get_object(self, **ask: str) -> dict[str, Any]:
        """Ask as boto3's method does, which is asked first, to see how this bucket is asked.

        Args:
            ask: `Bucket`, always the same, `Key`, and what SENT has.

        Returns:
            What CAME has, and as `Body` the stream of urllib3.

        Raises:
            ClientError: boto3's own.
        """
        if self._way is not None:
            return self._asked(self._way, ask)
        answer: dict[str, Any] = self.boto3.get_object(**ask)
        self._way = self._seen(ask["Key"])
        return answer | {"Body": answer["Body"]._raw_stream}  # noqa: SLF001

    def _note(self, request: Any, **_: Any) -> None:
        self._last.request = request

    def _seen(self, key: str) -> _Way | None:
        """Give the way of the request that this thread has sent; None: an unusual one."""
        request, quoted = self._last.request, _quoted(key)
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        session = getattr(getattr(self.boto3, "_endpoint", None), "http_session", None)
        if session is None or not request.url.endswith(f"/{quoted}") or headers.keys() - USUAL:
            return None
        signed = SIGNED.fullmatch(headers.get("authorization", ""))
        if not signed and self.boto3.meta.config.signature_version is not UNSIGNED:
            return None
        base, agent = request.url.removesuffix(quoted), {"User-Agent": headers["user-agent"]}
        return _Way(session, base, agent, signed[1] if signed else None)

    def _asked(self, way: _Way, ask: Mapping[str, str]) -> dict[str, Any]:
        headers = way.headers | {SENT[name]: ask[name] for name in SENT.keys() & ask.keys()}
        url = way.base + _quoted(ask["Key"])
        request = AWSRequest("GET", url, headers=headers, stream_output=True)
        if way.region is not None:
            request.context["client_config"] = self.boto3.meta.config
            credentials = self._credentials().get_frozen_credentials()
            S3SigV4Auth(credentials, "s3", way.region).add_auth(request)
        response = way.session.send(request.prepare())
        if response.status_code not in GOOD:
            model = self.boto3.meta.service_model.operation_model("GetObject")
            said = convert_to_response_dict(response, model)
            raise ClientError(create_parser("rest-xml").parse(said, model.output_shape), model.name)
        came = response.headers
        answer = {name: came[header] for name, header in CAME.items() if header in came}
        if "ContentLength" in answer:
            answer["ContentLength"] = int(answer["ContentLength"])
        return answer | {"Body": response.raw}


@dataclass(frozen=True, slots=True)
class _Way:
    """How a bucket is asked.

    Args:
        session: botocore's, with its sockets, proxies and certificates.
        base: the address up to the key.
        headers: those of every request.
        region: what requests are signed for; None: they are not signed.
    """

    session: Any
    base: str
    headers: dict[str, str]
    region: str | None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _quoted(key: str) -> str:
    quoted: str = percent_encode(key, safe="/~")
    return quoted


def new(url: str) -> Client:
    """Make a client for the bucket of *url*, by the settings of the machine.

    Raises:
        StorageError: its credentials cannot be had.
        SettingError: what is set cannot be used.
    """
    settings = machine()
    named = map(os.environ.get, ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    endpoint = settings.endpoint or next(filter(None, named), None)
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 1},
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
        given = {"endpoint_url": endpoint, "region_name": session.region_name or region}
        made = session.client("s3", config=config, **given)
    except NO_CREDENTIALS as error:
        raise refused(url, type(error).__name__) from error
    except (BotoCoreError, ValueError) as error:
        raise SettingError(
            f"{url}: S3 cannot be used ({error}); check QUADRAT_ENDPOINT (with http:// or "
            "https://), AWS_PROFILE and AWS_REGION"
        ) from error
    if "@" in made.meta.endpoint_url:  # a profile of AWS's own files can have one, too
        raise SettingError(f"{url}: the endpoint holds a user name or password; take it out")
    return Client(made, session.get_credentials)
