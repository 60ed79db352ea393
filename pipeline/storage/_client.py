"""boto3's client for a bucket, by the settings of the machine."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

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


def new(url: str) -> Any:
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
    return made
