"""Digests that name things: recipes, chips, shards and splits.

Every function here is pure and its results are stored by users for years: to change one is to
change every name, so the golden values in tests/core/test_hashing.py must never change lightly.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

CHIP_ID_BYTES = 16
MAX_SHARDS = 1 << 16


def canonical_json(value: Any) -> bytes:
    """Encode *value* so that equal values give equal bytes: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """Give the SHA-256 of *value*'s canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def chip_id(key: str, version: str, window: tuple[int, int, int, int]) -> bytes:
    """Name one window of one version of one image in 16 bytes.

    Args:
        key: the image's key, as the bucket spells it.
        version: the image's version.
        window: top, left, height, width in the stored image's pixels.
    """
    hasher = hashlib.blake2b(digest_size=CHIP_ID_BYTES, person=b"quadrat chip")
    for text in (key.encode(), version.encode()):
        # Lengths first: ("ab", "c") and ("a", "bc") must not meet.
        hasher.update(struct.pack(">Q", len(text)) + text)
    hasher.update(struct.pack(">4q", *window))
    return hasher.digest()


def image_id(key: str, version: str) -> bytes:
    """Name one version of one image in 16 bytes, as `chip_id` does one window of it."""
    return chip_id(key, version, (0, 0, 0, 0))


def background_at(key: str, row: int, col: int, seed: int) -> bytes:
    """Give what decides whether an unlabelled chip becomes background: the lowest are taken.

    It knows nothing of other chips, nor of the image's version.
    """
    return _drawn("choice", key, seed, row, col)


def background_place(key: str, number: int) -> tuple[float, float]:
    """Give the place of the *number*-th background chip of an image: two shares, 0 to below 1."""
    drawn = _drawn("place", key, number)
    down, across = (int.from_bytes(drawn[start : start + 6], "big") / 2**48 for start in (0, 6))
    return down, across


def _drawn(what: str, key: str, *numbers: int) -> bytes:
    hasher = hashlib.blake2b(digest_size=16, person=f"quadrat {what}".encode())
    hasher.update(struct.pack(f">{len(numbers)}q", *numbers) + key.encode())
    return hasher.digest()


def shard_of(key: str, count: int) -> int:
    """Give the shard, 0 to *count* - 1, of the image *key*: the first bits of the key's hash.

    With *count* a power of two, shard *s* of *n* is exactly shards 2s and 2s + 1 of 2n.
    """
    first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2], "big")
    return first * count // MAX_SHARDS


def shard_name(shard: int, count: int) -> str:
    """Name a shard by its bits (`p`, `p0`, `p01`, …), so that a prefix is a shard that holds it."""
    bits = count.bit_length() - 1
    return "p" + (format(shard, f"0{bits}b") if bits else "")


def overlap(a: str, b: str) -> bool:
    """Say whether two shards, by name and whatever their counts, can hold the same key."""
    return a.startswith(b) or b.startswith(a)


def split_of(group: str, *, validation: float, calibration: float) -> str:
    """Give the split of *group* by its own hash alone, whatever other groups there are.

    The groups' hashes are uniform on [0, 1): the lowest *validation* share validates, the next
    *calibration* share calibrates, the rest trains. Growing a share moves only groups into it.
    """
    hashed = hashlib.sha256(b"quadrat split\0" + group.encode()).digest()
    place = int.from_bytes(hashed[:8], "big") / 2**64
    if place < validation:
        return "validation"
    return "calibration" if place < validation + calibration else "train"
