"""A web address as a source of one object: weights, annotations."""

from __future__ import annotations

import hashlib
import http.client
import random
import time
import urllib.error
import urllib.request
from functools import partial
from urllib.parse import urlsplit

from pipeline.core.errors import Missing, SettingError, StorageError, TransientError
from pipeline.core.urls import shown
from pipeline.storage._patience import ANSWER_S, read, within

TRIES = 4
FIRST_WAIT_S = 0.2
TIMEOUT_S = 60
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
NOT_FOUND = {404, 410}
PASSING = {408, 429, 500, 502, 503, 504}


class _SameSafety(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from https to http, nor to another address that is not safe."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - the base class's signature
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise StorageError(
                f"{shown(req.full_url)}: leads to {shown(newurl)}, which is not safe"
            )
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def fetch(url: str) -> tuple[bytes, str]:
    """Give the bytes at *url* and, as their version, their SHA-256.

    Messages name the address without its query, which may be a signature.

    Raises:
        SettingError: neither https nor a loopback address.
        Missing: the server says that it is not there.
        StorageError: the server cannot be reached, or fails again and again.
    """
    _check(url)
    for left in reversed(range(TRIES)):
        try:
            data = _get(url)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in NOT_FOUND:
                raise Missing(f"{shown(url)}: not there (HTTP {error.code})") from error
            if error.code not in PASSING or not left:
                kind = TransientError if error.code in PASSING else StorageError
                raise kind(f"{shown(url)}: the server answers HTTP {error.code}") from error
        except (http.client.InvalidURL, ValueError) as error:
            # Without the error's own text, which quotes the address.
            raise SettingError(
                f"{shown(url)}: not an address; percent-encode what is odd"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if not left:
                raise TransientError(f"{shown(url)}: cannot be fetched ({error})") from error
        else:
            return data, hashlib.sha256(data).hexdigest()
        time.sleep(random.uniform(0, FIRST_WAIT_S * 2 ** (TRIES - left)))
    raise AssertionError("unreachable")


def _get(url: str) -> bytes:
    opener = urllib.request.build_opener(_SameSafety())
    with within(ANSWER_S, partial(opener.open, url, timeout=TIMEOUT_S)) as answer:
        data = read(answer, TIMEOUT_S)
    if answer.length:  # what is still to come; `read1` ends quietly where the connection does
        raise http.client.IncompleteRead(data, answer.length)
    return data


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise SettingError(f"{shown(url)}: not a safe address; use https://")
    if "@" in parts.netloc:
        raise SettingError(f"{shown(url)}: holds a user name or password; take it out")
