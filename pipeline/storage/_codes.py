"""What the error codes of S3 services mean; where an answer has no body, the HTTP status is one."""

from __future__ import annotations

from pipeline.core.errors import StorageError

GONE = {"404", "NoSuchKey", "NotFound"}
CHANGED = {"412", "PreconditionFailed"}
BEYOND = {"416", "InvalidRange"}
FORBIDDEN = {"403", "AccessDenied", "InvalidObjectState"}
"""Said of one object; InvalidObjectState: it lies in an archive and was not restored."""

ELSEWHERE = {
    "301",
    "302",
    "307",
    "308",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}
"""Said of a bucket that another region, or another service, has."""

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
REFUSED = EXPIRED | {
    "400",
    "401",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
"""Said of who asks, whatever is asked for; 400 where there is no code, mostly of expired tokens."""

BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
TOO_MANY = 429
SERVERS_FAULT = 500


def is_busy(code: str, status: int) -> bool:
    """Say whether the service is busy or failing, so that another try may go well."""
    return status >= SERVERS_FAULT or status == TOO_MANY or code in BUSY


def refused(at: str, why: str) -> StorageError:
    """Give the error of one who may not read or write at *at*."""
    if why in EXPIRED:
        return StorageError(
            f"{at}: the AWS credentials have expired ({why}); renew them, run again"
        )
    if why == "RequestTimeTooSkewed":
        return StorageError(
            f"{at}: access refused ({why}): this machine's clock is wrong; set it, run again"
        )
    return StorageError(
        f"{at}: access refused ({why}); check the AWS credentials, or set QUADRAT_ANONYMOUS=true "
        "for a public bucket"
    )


def elsewhere(at: str, code: str) -> StorageError:
    """Give the error of a bucket that is not where it was looked for."""
    return StorageError(
        f"{at}: the service sends us elsewhere ({code or 'again and again'}): the bucket is in "
        "another region or at another endpoint; set AWS_REGION or QUADRAT_ENDPOINT"
    )
