"""FlowCam: vignettes a second on one core, from a session's table and collages to chips' pixels.

The session is synthetic, in the instrument's format with LZW collages, or a real one (--session).

    python benchmarks/flowcam.py [--session FOLDER] [--particles 5000] [--side 2048]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from _shared import ROOT, about
from PIL import Image

from pipeline.chip.methods import flowcam
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.images.decode import decode_image
from pipeline.images.windows import crop

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

LIMIT = 2000
ROUNDS = 5


def beside(folder: Path, table: Path) -> pa.Table:
    """Return the rows that the index stage would write for the collages in *folder*."""
    found = []
    for path in sorted(folder.glob("*.tif")):
        with Image.open(path) as image:
            width, height = image.size
        names = {"table": f"{folder.name}/{table.name}", "table_version": "1", "version": "1"}
        names["key"] = f"{folder.name}/{path.name}"
        found.append(names | {"image_height": height, "image_width": width})
    return pa.Table.from_pylist(found, schema=schemas.WINDOW_TABLES)


def cut(folder: Path, table: Path, near: pa.Table, extract: ExtractParams) -> tuple[int, int]:
    """Read the table, decode every collage once, cut every window; count chips and pixels."""
    chips = flowcam.read(f"{folder.name}/{table.name}", table.read_bytes(), near).chips
    count = pixels = 0
    for key, rows in groupby(chips.to_pylist(), lambda row: str(row["key"])):
        collage = decode_image((folder.parent / key).read_bytes(), extract)
        for row in rows:
            chip = crop(collage, (row["top"], row["left"], row["height"], row["width"]))
            count, pixels = count + 1, pixels + chip.shape[0] * chip.shape[1]
    return count, pixels


def main() -> None:
    """Measure; print the rate against the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--session", type=Path)
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--side", type=int, default=2048)
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    about("numpy", "Pillow", "pyarrow")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.session
        if folder is None:
            import sessions

            folder = Path(temporary) / "Made_54.0_-2.8_04052023"
            sessions.make(folder, asked.particles, side=asked.side)
        folder = folder.absolute()
        table = next(folder.glob("*.lst"))
        near, extract, seconds = beside(folder, table), ExtractParams(extractor="filters"), []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            count, pixels = cut(folder, table, near, extract)
            seconds.append(time.perf_counter() - started)
    rates = sorted(count / each for each in seconds)
    middle = rates[ROUNDS // 2]
    print(f"{count:,} vignettes, {pixels / 1e6:,.1f} million pixels, {near.num_rows:,} collages")
    print(
        f"{middle:,.0f} vignettes a second on one core ({ROUNDS} rounds, slowest {rates[0]:,.0f}, "
        f"fastest {rates[-1]:,.0f}): {middle / LIMIT:.1f} of the target {LIMIT:,}"
    )


if __name__ == "__main__":
    main()
