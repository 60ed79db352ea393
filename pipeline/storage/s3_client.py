"""boto3: its client for a bucket, and its errors in our words.

Where a response has no body, its HTTP status is its code. No message holds a credential.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3
from botocore import UNSIGNED, exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipeline.config.machine import machine
from pipeline.core.errors import Missing, SettingError, StorageError, TransientError

log = logging.getLogger(__name__)

SILENT_S = 3
"""Of the first request without an answer, before a warning."""

CONNECT_S = 4
TIMEOUT_S = 30
"""Between two bytes of a response."""

CONNECTIONS = 64

TRIES = 6
"""Of one request, with the body of its response; boto3's own retries are switched off."""

TRIES_IF_LISTED = 3
"""Where an object that was listed is not there: it may be in a moment."""

BROKEN_RESPONSE = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    HTTPError,
    OSError,
    ResponseParserError,
)
S3_ERRORS = (BotoCoreError, ClientError, RecursionError, ValueError, *BROKEN_RESPONSE)
"""All that a request can raise. RecursionError: its redirects lead in a circle."""

NO_CREDENTIALS = (
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
)
"""Their own text is never shown: it may quote the output of a credentials program."""

NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
OTHER_VERSION = {"412", "PreconditionFailed"}
BEYOND_END = {"416", "InvalidRange"}
FORBIDDEN = {"403", "AccessDenied", "InvalidObjectState"}
"""Of one object. InvalidObjectState: it is in an archive and was not restored."""

CLOCK_SKEWED = "RequestTimeTooSkewed"
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_USER = {"400", "401", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
"""400 where there is no code: mostly an expired token."""

REDIRECTED = {"301", "302", "307", "308", "PermanentRedirect", "TemporaryRedirect"}
OTHER_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}

BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


def new_client(url: str) -> Any:
    """Return a client for the bucket of *url*, which tries each request once.

    Raises:
        StorageError: there are no credentials.
        SettingError: the endpoint, the profile or the region cannot be used.
    """
    settings, environ = machine(), os.environ.get
    endpoint = settings.endpoint or environ("AWS_ENDPOINT_URL_S3") or environ("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        # Checksum headers that boto3 adds since 1.36 are refused by other S3 services.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=UNSIGNED if settings.is_anonymous else None,
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    try:
        session = boto3.session.Session()
        region = session.region_name or environ("AWS_REGION") or "us-east-1"
        client = session.client(
            "s3", config=config, endpoint_url=endpoint or None, region_name=region
        )
    except NO_CREDENTIALS as error:
        raise access_refused(url, type(error).__name__) from error
    except (BotoCoreError, ValueError) as error:
        raise SettingError(
            f"{url}: S3 cannot be used ({error}); check QUADRAT_ENDPOINT (with http:// or "
            "https://), AWS_PROFILE and AWS_REGION"
        ) from error
    if "@" in client.meta.endpoint_url:  # a profile in AWS's own files can name one, too
        raise SettingError(f"{url}: the endpoint holds a user name or password; take it out")
    if settings.pays_for_requests:
        client.meta.events.register("before-parameter-build.s3", _pay)
    return client


def _pay(params: dict[str, Any], **_: Any) -> None:
    """Have a request say that whoever sends it pays for it."""
    params["RequestPayer"] = "requester"


def warn_of_silence(client: Any, at: str) -> None:
    """Warn that the endpoint, which has never answered, takes long to answer the first request."""
    log.warning(
        "%s: no answer yet from %s; still trying. The endpoint is set by QUADRAT_ENDPOINT, "
        "AWS_ENDPOINT_URL or endpoint in luigi.cfg",
        *(at, client.meta.endpoint_url),
    )


def error_code(error: Exception) -> str:
    """Return the service's code of *error*; empty if it is not the service's."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def storage_error(error: Exception, at: str, bucket: str) -> StorageError:
    """Return what to raise for *error*, which a request for the address *at* has raised."""
    code = error_code(error)
    if code == "NoSuchBucket":
        return StorageError(f"{at}: there is no bucket {bucket!r}; check the address")
    if code in NOT_FOUND:
        return Missing(f"{at}: not there")
    refused = FORBIDDEN | UNKNOWN_USER | EXPIRED | {CLOCK_SKEWED}
    if code in refused or isinstance(error, NO_CREDENTIALS):
        return access_refused(at, code or type(error).__name__)
    if code in REDIRECTED | OTHER_REGION or isinstance(error, RecursionError):
        return StorageError(
            f"{at}: the service redirects us ({code or 'again and again'}): the bucket is in "
            "another region or at another endpoint; set AWS_REGION or QUADRAT_ENDPOINT"
        )
    if isinstance(error, BROKEN_RESPONSE) or _is_busy(error):
        reason = f"{TRIES} tries failed, the last with: {error}"
        return TransientError(
            f"{at}: {reason}; check the endpoint and the network (QUADRAT_ENDPOINT, "
            "AWS_ENDPOINT_URL or endpoint in luigi.cfg)"
        )
    return StorageError(f"{at}: {error}")


def access_refused(at: str, reason: str) -> StorageError:
    """Return the error of a user who may not read or write at *at*."""
    if reason in EXPIRED:
        return StorageError(
            f"{at}: the AWS credentials have expired ({reason}); renew them, run again"
        )
    if reason == CLOCK_SKEWED:
        return StorageError(
            f"{at}: access refused ({reason}): this machine's clock is wrong; set it, run again"
        )
    return StorageError(
        f"{at}: access refused ({reason}); check the AWS credentials, or set "
        "QUADRAT_ANONYMOUS=true for a public bucket, QUADRAT_REQUESTER_PAYS=true if its readers pay"
    )


def _is_busy(error: Exception) -> bool:
    """Return True if the service is busy or has failed itself."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= SERVER_ERROR or status == TOO_MANY_REQUESTS or error_code(error) in BUSY
