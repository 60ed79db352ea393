"""Turn PySpacer's feature files into one table, for `extract.extractor: precomputed`.

usage: python -m stages.pyspacer_features SOURCE FEATURES.parquet [--suffix TEXT] [--image TEXT]
"""

import argparse
import sys
from pathlib import Path

from pipeline.commands import pyspacer_features
from pipeline.core.errors import QuadratError
from pipeline.core.run_log import pluralize
from pipeline.storage import open_storage


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.pyspacer_features",
        description="Turn PySpacer's feature files, old and new, into one Parquet table of "
        "features, by key, row and column.",
    )
    parser.add_argument("source", help="a folder, or s3://bucket/prefix")
    parser.add_argument("target", type=Path, metavar="FEATURES.parquet")
    parser.add_argument(
        "--suffix",
        default=".featurevector",
        metavar="TEXT",
        help="the end of the files' keys, cut off to give the image's (.featurevector)",
    )
    parser.add_argument(
        "--image",
        default="",
        metavar="TEXT",
        help="what the image's key ends in instead, as .png (nothing)",
    )
    return parser.parse_args()


def main() -> int:
    """Convert, and say what was found."""
    asked = options()
    try:
        source = open_storage(asked.source)
        found = pyspacer_features.convert(source, asked.target, asked.suffix, asked.image)
    except QuadratError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(
        f"{asked.target}: {pluralize(found.points, 'points')} of "
        f"{pluralize(found.images, 'images')}, "
        f"{pluralize(found.dim, 'values')} each; {pluralize(len(found.faults), 'files')} left out"
    )
    if found.faults:
        print(pyspacer_features.told(found.faults), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
