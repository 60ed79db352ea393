"""Convert PySpacer's feature files to one Parquet table, for `extract.extractor: precomputed`."""

import argparse
import sys
from pathlib import Path

from pipeline.commands import pyspacer_features
from pipeline.core.run_log import pluralize
from pipeline.storage import open_storage
from stages import command

FAULTS_SHOWN = 5


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.pyspacer_features", description=__doc__)
    parser.add_argument("source", help="a folder, or s3://bucket/prefix")
    parser.add_argument("target", type=Path, metavar="FEATURES.parquet")
    parser.add_argument(
        "--suffix",
        default=".featurevector",
        metavar="TEXT",
        help="the end of the files' keys, removed to get the image's key (.featurevector)",
    )
    parser.add_argument(
        "--image",
        default="",
        metavar="TEXT",
        help="the end of the image's key instead, such as .png (nothing)",
    )
    return parser.parse_args()


@command
def main() -> int:
    """Convert, and print what was written and what was left out."""
    asked = options()
    source = open_storage(asked.source)
    done = pyspacer_features.convert(source, asked.target, asked.suffix, asked.image)
    print(
        f"{asked.target}: {pluralize(done.points, 'points')} of "
        f"{pluralize(done.images, 'images')}, "
        f"{pluralize(done.dim, 'values')} each; {pluralize(len(done.faults), 'files')} left out"
    )
    for fault in done.faults[:FAULTS_SHOWN]:
        print(f"  {fault}", file=sys.stderr)
    if len(done.faults) > FAULTS_SHOWN:
        print(f"  and {len(done.faults) - FAULTS_SHOWN:,} more", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
