"""Write where each chip of a GeoTIFF lies, in the scene's own coordinates.

usage: python -m stages.bounds BOUNDS.parquet
"""

import argparse
import sys
from pathlib import Path

from pipeline.commands import bounds
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.errors import QuadratError
from pipeline.core.run_log import RUN, pluralize
from pipeline.store.context import Context, open_store


def main() -> int:
    """Write the table, and say what is in it."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.bounds",
        description="Write a Parquet table of the chips of GeoTIFFs: chip_id, key, row, col, crs, "
        "and x_min, y_min, x_max and y_max in the scene's own coordinates.",
    )
    parser.add_argument("target", type=Path, metavar="BOUNDS.parquet")
    target: Path = parser.parse_args().target
    try:
        context = Context(load("params.yaml"), machine(), open_store(machine()), RUN)
        written = bounds.write(context, target)
    except QuadratError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{target}: {pluralize(written.chips, 'chips')} of {pluralize(written.scenes, 'scenes')}")
    if written.others:
        some = f"{pluralize(len(written.others), 'images')}, as {written.others[0]}"
        print(f"left out, since they do not say where they lie: {some}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
