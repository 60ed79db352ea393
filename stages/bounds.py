"""Write where each chip of a GeoTIFF is, in the scene's own coordinates.

The Parquet table has chip_id, key, row, col, crs, x_min, y_min, x_max and y_max.
"""

import argparse
import sys

from pipeline.commands import bounds
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.run_log import RUN, pluralize
from pipeline.store.context import Context, open_store
from stages import command


@command
def main() -> int:
    """Write the table, and print what is in it."""
    parser = argparse.ArgumentParser(prog="python -m stages.bounds", description=__doc__)
    parser.add_argument("target", metavar="BOUNDS.parquet", help="a path, or s3://bucket/key")
    target = parser.parse_args().target
    context = Context(load("params.yaml"), machine(), open_store(machine()), RUN)
    chips, scenes, others = bounds.write(context, target)
    print(f"{target}: {pluralize(chips, 'chips')} of {pluralize(scenes, 'scenes')}")
    if others:
        images = f"{pluralize(len(others), 'images')}, the first of them {others[0]}"
        print(f"left out, since they are not georeferenced: {images}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
