"""Sample demo/points.csv from the outlines: the same bytes at every run.

If all classes of a photograph also occur in other photographs, the photograph is one group: its
classes are then evaluated on other photographs than those trained on. Every other photograph is cut
into square blocks, each of which is a group; there a point is sampled only if its whole window is
inside its block (or over the photograph's border), so that chips of two groups never share a pixel.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo.make_bucket import HERE, OUTLINES, original

POINTS = HERE / "points.csv"

CHIP = 64
BLOCK = 112
APART = 7
PER_CLASS = 140

Mask = NDArray[np.bool_]


def outlines() -> dict[str, list[tuple[str, list[tuple[int, int]]]]]:
    """Read the regions of every photograph: label, and corners as (row, column)."""
    regions = json.loads(OUTLINES.read_text(encoding="utf-8"))
    return {
        key: [
            (item["label"], [(row, col) for row, col in item["polygon"]]) for item in regions[key]
        ]
        for key in sorted(regions)
    }


def region(size: tuple[int, int], corners: list[tuple[int, int]]) -> Mask:
    """Return the pixels of a photograph of *size* (width, height) inside *corners*."""
    drawn = Image.new("1", size)
    ImageDraw.Draw(drawn).polygon([(col, row) for row, col in corners], fill=1)
    return np.asarray(drawn)


def inner(size: tuple[int, int]) -> Mask:
    """Return the pixels whose window stays in its block, or leaves it over the border only."""
    width, height = size
    return np.outer(_inner(height), _inner(width))


def _inner(length: int) -> Mask:
    place = np.arange(length)
    block = place // BLOCK
    before = (place - CHIP // 2 >= block * BLOCK) | (block == 0)
    last = (length - 1) // BLOCK
    after = (place + CHIP // 2 <= (block + 1) * BLOCK) | (block == last)
    inner: Mask = before & after
    return inner


def spread(mask: Mask, count: int, seed: str) -> list[tuple[int, int]]:
    """Choose up to *count* pixels of *mask* at random, at least APART from each other."""
    digest = hashlib.sha256(seed.encode()).digest()
    places = np.random.default_rng(list(digest)).permutation(np.argwhere(mask))
    free = mask.copy()
    chosen: list[tuple[int, int]] = []
    for row, col in places.tolist():
        if len(chosen) == count:
            break
        if free[row, col]:
            chosen.append((row, col))
            free[max(row - APART, 0) : row + APART + 1, max(col - APART, 0) : col + APART + 1] = (
                False
            )
    return sorted(chosen)


def photographs_of() -> dict[str, list[str]]:
    """Return, for each class, the photographs in which it occurs."""
    photographs: dict[str, set[str]] = defaultdict(set)
    for key, regions in outlines().items():
        for label, _ in regions:
            photographs[label].add(key)
    return {label: sorted(photographs[label]) for label in sorted(photographs)}


def points() -> Iterator[tuple[str, int, int, str, str]]:
    """Yield image, row, column, label and group of every point."""
    of_class = photographs_of()
    for key, regions in outlines().items():
        with Image.open(original(key)) as photograph:
            size = photograph.size
        labels = sorted({label for label, _ in regions})
        whole = all(len(of_class[label]) > 1 for label in labels)
        for label in labels:
            mask = np.any([region(size, at) for name, at in regions if name == label], axis=0)
            mask = mask if whole else mask & inner(size)
            share = -(-PER_CLASS // len(of_class[label]))
            for row, col in spread(mask, share, f"{key} {label}"):
                group = key if whole else f"{key} block {row // BLOCK}-{col // BLOCK}"
                yield key, row, col, label, group


def table() -> bytes:
    """Return points.csv."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["image", "row", "column", "label", "group"])
    writer.writerows(points())
    return sink.getvalue().encode()


def main() -> None:
    """Write points.csv beside this file."""
    data = table()
    Path(POINTS).write_bytes(data)
    lines = data.count(b"\n") - 1
    print(f"{POINTS}: {lines} points of {len(photographs_of())} classes")


if __name__ == "__main__":
    main()
