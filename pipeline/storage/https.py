"""A web address as a source of one object: weights, annotations."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from functools import partial
from urllib.parse import urlsplit

from pipeline.core.errors import Missing, SettingError, StorageError, TransientError
from pipeline.core.urls import redacted
from pipeline.storage.deadlines import RESPONSE_S, read_all, within
from pipeline.storage.retries import retry

TRIES = 4
TIMEOUT_S = 60
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
NOT_FOUND = {404, 410}
TRANSIENT = {408, 429, 500, 502, 503, 504}


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from https to http, nor to another unsafe address."""

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
                f"{redacted(req.full_url)}: redirects to {redacted(newurl)}, which is not safe"
            )
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def fetch(url: str) -> tuple[bytes, str]:
    """Return the bytes at *url* and, as their version, their SHA-256.

    Messages show the address without its query, which may be a signature.

    Raises:
        SettingError: it is neither https nor a loopback address.
        Missing: the server says that it is not there.
        StorageError: the server cannot be reached, or fails again and again.
    """
    _check(url)
    data = retry(partial(_try, url), tries=TRIES)
    return data, hashlib.sha256(data).hexdigest()


def _try(url: str) -> bytes:
    try:
        return _get(url)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in NOT_FOUND:
            raise Missing(f"{redacted(url)}: not there (HTTP {error.code})") from error
        kind = TransientError if error.code in TRANSIENT else StorageError
        raise kind(f"{redacted(url)}: the server answers HTTP {error.code}") from error
    except (http.client.InvalidURL, ValueError) as error:
        # Without the error's own text, which quotes the address.
        raise SettingError(
            f"{redacted(url)}: not a valid address; percent-encode special characters"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"{redacted(url)}: cannot be fetched ({error})") from error


def _get(url: str) -> bytes:
    opener = urllib.request.build_opener(_SafeRedirects())
    with within(RESPONSE_S, partial(opener.open, url, timeout=TIMEOUT_S)) as response:
        data = read_all(response, TIMEOUT_S)
    if response.length:  # bytes still to come: `read1` does not notice that a connection ended
        raise http.client.IncompleteRead(data, response.length)
    return data


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise SettingError(f"{redacted(url)}: not a safe address; use https://")
    if "@" in parts.netloc:
        raise SettingError(f"{redacted(url)}: holds a user name or password; take it out")
