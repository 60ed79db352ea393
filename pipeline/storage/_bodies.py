"""Whether an answer is what was asked for: a body's length, part and MD5, the page of a listing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pipeline.storage import _patience

Answer = Mapping[str, Any]
"""As boto3 gives it: `Body`, a stream, and the headers by its names."""

MD5 = re.compile("[0-9a-f]{32}")
ASKED = re.compile(r"bytes=(\d+)-(\d*)")
PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def whole(answer: Answer) -> Answer:
    """Give *answer* if it has the headers that every one has.

    Raises:
        OSError: it has not, as where somebody between has cut them off.
    """
    for header in ("ContentLength", "ETag"):
        if header not in answer:
            raise OSError(f"the answer has no {header}")
    return answer


def body(answer: Answer, asked: str, patience: float) -> bytes:
    """Read the body of an answer to a GET, of which *asked* is the `Range`, if it had one.

    Args:
        answer: with its body yet to be read.
        asked: the `Range`, or "".
        patience: seconds after which a body must have come at `_patience.SLOWEST` at least.

    Raises:
        OSError: it comes too slowly, is not as long as its headers say, or is another part.
    """
    with answer["Body"] as stream:  # urllib3's own, which has `read1`
        data = _patience.read(stream, patience)
    size = answer["ContentLength"]
    wanted, part = ASKED.fullmatch(asked), PART.fullmatch(answer.get("ContentRange", ""))
    if part:
        first, last, total = map(int, part.groups())
        size = last + 1 - first
        end = int(wanted[2]) if wanted and wanted[2] else total
        if not wanted or first != int(wanted[1]) or last != min(end, total - 1):
            raise OSError(f"bytes {first:,} to {last:,} came, not those asked for")
    if len(data) != size:
        raise OSError(f"{len(data):,} of {size:,} bytes came")
    return data


def part_of(data: bytes, answer: Answer, asked: str) -> bytes:
    """Cut what was *asked* for out of *data*, where the server knows no ranges and sent all."""
    wanted = ASKED.fullmatch(asked)
    if not wanted or "ContentRange" in answer:
        return data
    return data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None]


def is_whole(answer: Answer) -> bool:
    """Say whether an answer's body is the whole object."""
    part = PART.fullmatch(answer.get("ContentRange", ""))
    return part is None or int(part[2]) + 1 - int(part[1]) == int(part[3])


def fits(answer: Answer, data: bytes) -> bool:
    """Say whether *data*, a whole object, are what the answer's ETag says, if that can be an MD5.

    It is one unless the object was uploaded in parts or is encrypted by its owner's key.
    """
    etag: str = answer["ETag"].strip('"').lower()
    if not MD5.fullmatch(etag) or _has_own_key(answer):
        return True
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == etag


def _has_own_key(answer: Answer) -> bool:
    return "SSECustomerAlgorithm" in answer or "kms" in str(answer.get("ServerSideEncryption"))


LISTING = {"Contents", "IsTruncated", "KeyCount", "Name"}
"""Some of these every page of a listing has, of nothing too."""


def check_page(page: Answer, prefix: str) -> None:
    """See that *page* is one of a listing of *prefix*.

    Raises:
        OSError: it is another one, or none, as the page for people that some other server sends.
    """
    if not LISTING & page.keys():
        raise OSError("the answer is no listing")
    for item in page.get("Contents", []):
        lacks = {"Key", "Size", "ETag"} - item.keys()
        if lacks:
            raise OSError(f"the listing has an object without {', '.join(sorted(lacks))}")
        if not item["Key"].startswith(prefix):
            raise OSError("the listing has an object that was not asked for")
    if page.get("IsTruncated") and not page.get("NextContinuationToken"):
        raise OSError("a page of the listing has no end")
