"""Digests that identify recipes, chips, shards and splits.

Users keep the results of these functions for years. A change to one of them would change every
identifier in their stores, so the golden values in tests/core/test_hashing.py must stay.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

CHIP_ID_BYTES = 16
MAX_SHARDS = 1 << 16


def canonical_json(value: Any) -> bytes:
    """Return *value* as JSON with sorted keys, no spaces and no NaN: equal values, equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of *value*'s canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def chip_id(key: str, version: str, window: tuple[int, int, int, int]) -> bytes:
    """Return the id of one window of one version of an image, in 16 bytes.

    Args:
        key: the image's key, as the bucket spells it.
        version: the image's version.
        window: top, left, height, width in the stored image's pixels.
    """
    hasher = hashlib.blake2b(digest_size=CHIP_ID_BYTES, person=b"quadrat chip")
    for text in (key.encode(), version.encode()):
        # Lengths first: ("ab", "c") and ("a", "bc") must have different ids.
        hasher.update(struct.pack(">Q", len(text)) + text)
    hasher.update(struct.pack(">4q", *window))
    return hasher.digest()


def image_id(key: str, version: str) -> bytes:
    """Return the id of one version of an image, in 16 bytes."""
    return chip_id(key, version, (0, 0, 0, 0))


def background_at(key: str, row: int, col: int, seed: int) -> bytes:
    """Return the rank of an unlabelled chip: those of the lowest ranks become background.

    It does not depend on other chips, nor on the image's version.
    """
    return _drawn("choice", key, seed, row, col)


def background_place(key: str, number: int) -> tuple[float, float]:
    """Return the place of an image's *number*-th background chip: shares down and across, < 1."""
    drawn = _drawn("place", key, number)
    down, across = (int.from_bytes(drawn[start : start + 6], "big") / 2**48 for start in (0, 6))
    return down, across


def _drawn(what: str, key: str, *numbers: int) -> bytes:
    hasher = hashlib.blake2b(digest_size=16, person=f"quadrat {what}".encode())
    hasher.update(struct.pack(f">{len(numbers)}q", *numbers) + key.encode())
    return hasher.digest()


def shard_of(key: str, count: int) -> int:
    """Return the shard, 0 to *count* - 1, of the image *key*: the first bits of the key's hash.

    With *count* a power of two, shard *s* of *n* is exactly shards 2s and 2s + 1 of 2n.
    """
    first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2], "big")
    return first * count // MAX_SHARDS


def shard_name(shard: int, count: int) -> str:
    """Return a shard's name, its bits (`p`, `p0`, `p01`, …): a prefix is a shard around it."""
    bits = count.bit_length() - 1
    return "p" + (format(shard, f"0{bits}b") if bits else "")


def overlap(a: str, b: str) -> bool:
    """Return True if two shards, by name and of any counts, can contain the same key."""
    return a.startswith(b) or b.startswith(a)


def split_place(group: str) -> float:
    """Return the hash of *group* as a number from 0 to 1, which decides its split."""
    hashed = hashlib.sha256(b"quadrat split\0" + group.encode()).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def split_of(group: str, *, validation: float, calibration: float, test: float = 0.0) -> str:
    """Return the split of *group*, which depends on its hash and on no other group.

    The hashes of groups are uniform on [0, 1): the lowest *validation* share is for validation, the
    next *calibration* share for calibration, the highest *test* share for the test, the rest for
    training. If a share grows, groups only move into it.
    """
    place = split_place(group)
    if place < validation:
        return "validation"
    if place < validation + calibration:
        return "calibration"
    return "train" if place < 1 - test else "test"
