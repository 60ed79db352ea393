"""Damage valid images and read them: bit flips, truncations, runs of bytes, wrong lengths.

    python tests/support/fuzz.py FIRST CASES LAST_CASE_FILE [FOLDER]

A process of its own, so that a case that crashes its decoder does not end the test run; it writes
down which case it is at. Case n is always the same bytes. At the end it prints, as JSON, how many
cases gave pixels and how many which reject, the slowest case, and its peak memory. The valid
images are those of tests/golden/images.zip, or of FOLDER.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image
from pipeline.images.header import read_header
from pipeline.images.valid_mask import valid_mask
from pipeline.storage import Object

ARCHIVE = Path(__file__).parents[1] / "golden" / "images.zip"
EXTRACT = ExtractParams(extractor="filters", alpha="white")
MAX_PIXELS = 1_000_000
EXTREME = (0x00, 0x01, 0x7F, 0x80, 0xFF)


class Bytes:
    """A storage of one object, for `read_header`."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, key: str, *, start: int = 0, stop: int | None = None, if_version: str) -> bytes:
        """Return a part of it."""
        return self.data[start:stop]


def seeds(folder: Path | None = None) -> list[tuple[str, bytes]]:
    """Return the valid files that are damaged."""
    if folder is not None:
        return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = [name for name in archive.namelist() if not name.endswith(".rgb")]
        return [(name, archive.read(name)) for name in names]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return *data* with one to eight faults, half of them in the first 200 bytes: the header."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        end = len(result) if rng.random() < 0.5 else min(200, len(result))
        at = int(rng.integers(0, max(end, 1)))
        how = rng.integers(0, 10)
        if not result:
            break
        if how < 5:
            result[at] ^= 1 << int(rng.integers(8))
        elif how < 7:
            result[at] = int(rng.choice(EXTREME))
        elif how < 8:
            result[at : at + 4] = bytes(rng.choice(EXTREME, 4).tolist())
        elif how < 9:
            length = int(rng.integers(1, 64))
            result[at:at] = result[at : at + length]
        else:
            stop = at + 16 if rng.random() < 0.5 else None
            del result[at:stop]
    return bytes(result)


def read(data: bytes) -> str:
    """Read header, pixels and masks as the stages do; return "pixels" or the reject's reason."""
    try:
        item = Object("case", len(data), "v")
        header = read_header(Bytes(data), item, max_pixels=MAX_PIXELS)  # type: ignore[arg-type]
        pixels = decode_image(data, EXTRACT)
    except Rejected as why:
        return why.reason
    assert pixels.dtype == np.uint8
    assert pixels.shape == (header["height"], header["width"], 3), (pixels.shape, header)
    for nodata in (0, "alpha"):
        with suppress(Rejected):  # Pillow drops bits or bands of some formats
            assert valid_mask(data, nodata).shape == pixels.shape[:2]
    return "pixels"


def peak_kb() -> int:
    """Return the peak memory of this program; ru_maxrss begins with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def main(first: int, cases: int, last: Path, folder: Path | None = None) -> None:
    """Read cases *first* and the following."""
    outcomes: Counter[str] = Counter()
    slowest = (0.0, -1, "")
    files = seeds(folder)
    with last.open("w", encoding="ascii") as stream:
        for number in range(first, first + cases):
            stream.seek(0)
            stream.write(f"{number:<12}")
            stream.flush()
            rng = np.random.default_rng(number)
            name, data = files[number % len(files)]
            begun = time.monotonic()
            try:
                outcomes[read(damaged(data, rng))] += 1
            except BaseException:
                sys.stderr.write(f"case {number}, of {name}\n")
                raise
            slowest = max(slowest, (time.monotonic() - begun, number, name))
    sys.stdout.write(json.dumps({"outcomes": outcomes, "slowest": slowest, "peak_kb": peak_kb()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
