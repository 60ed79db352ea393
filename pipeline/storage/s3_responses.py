"""Checks that a response of S3 is what was asked for: a body, a part of it, a page of a listing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pipeline.storage.deadlines import read_all

Response = Mapping[str, Any]
"""Of boto3: the headers by its names, and `Body`, a stream."""

MD5 = re.compile("[0-9a-f]{32}")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

LISTING = {"Contents", "IsTruncated", "KeyCount", "Name"}
"""Every page of a listing has some of these, even of an empty one."""


def check_headers(response: Response) -> None:
    """Raise an OSError if a header is missing that every response has; a proxy may cut it off."""
    for header in ("ContentLength", "ETag"):
        if header not in response:
            raise OSError(f"the response has no {header}")


def etag(response: Response) -> str:
    """Return the ETag without its quotes: the version of an object."""
    return str(response["ETag"]).strip('"')


def matches_etag(response: Response, data: bytes) -> bool:
    """Return False if the ETag is an MD5, and *data*, the whole object, has another one.

    It is one unless the object was uploaded in parts, or is encrypted by KMS or the owner's key.

    Source: Amazon S3 API reference, "Object".
    """
    own_key = "SSECustomerAlgorithm" in response
    is_encrypted = own_key or "kms" in str(response.get("ServerSideEncryption"))
    expected = etag(response).lower()
    if is_encrypted or not MD5.fullmatch(expected):
        return True
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == expected


def is_whole(response: Response) -> bool:
    """Return True if the body is the whole object."""
    first, end, size = _range(response)
    return (first, end) == (0, size)


def read_body(response: Response, part: tuple[int, int | None], grace_s: float) -> bytes:
    """Return the body of a response to a GET of a *part*: that part, or else the whole object.

    Args:
        response: its body is still to be read.
        part: the first byte and the end (not included; None: the object's).
        grace_s: see `read_all`.

    Raises:
        OSError: it arrives too slowly, is not as long as its headers say, or is another part.
    """
    with response["Body"] as stream:  # urllib3's, which has `read1`
        data = read_all(stream, grace_s)
    first, end, size = _range(response)
    if len(data) != end - first:
        raise OSError(f"{len(data):,} of {end - first:,} bytes arrived")
    start, stop = part
    if not is_whole(response) and (first, end) != (start, min(size, stop or size)):
        raise OSError(f"bytes {first:,} to {end - 1:,} arrived, not those asked for")
    return data


def _range(response: Response) -> tuple[int, int, int]:
    """Return the body's first byte and its end (not included), and the whole object's size."""
    if "ContentRange" not in response:
        return 0, response["ContentLength"], response["ContentLength"]
    match = CONTENT_RANGE.fullmatch(response["ContentRange"])
    if match is None:
        raise OSError(f"the response has the range {response['ContentRange']!r}")
    first, last, size = map(int, match.groups())
    return first, last + 1, size


def check_page(page: Response, prefix: str) -> None:
    """Raise an OSError if *page* is not one of a listing of *prefix*.

    Another server may have answered: read as a listing, its web page would be an empty bucket.
    """
    if not LISTING & page.keys():
        raise OSError("the response is not a listing")
    for item in page.get("Contents", []):
        missing = {"Key", "Size", "ETag"} - item.keys()
        if missing:
            raise OSError(f"the listing has an object without {', '.join(sorted(missing))}")
        if not item["Key"].startswith(prefix):
            raise OSError("the listing has an object that was not asked for")
    if page.get("IsTruncated") and not page.get("NextContinuationToken"):
        raise OSError("a page of the listing does not say where the next one begins")
