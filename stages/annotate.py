"""Write the classifier's answers, or people's labels, as a file of an annotation tool.

usage: python -m stages.annotate FORMAT TARGET [--of CHIPS] [--at-least SCORE] [--url ADDRESS]
"""

import argparse
import sys
from pathlib import Path

from pipeline.commands import annotate
from pipeline.config.loader import load
from pipeline.core.errors import QuadratError
from pipeline.core.run_log import pluralize
from pipeline.storage import open_storage


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.annotate",
        description="Write the classifier's answers, or people's labels, as a file that an "
        "annotation tool takes: see docs/how-to/annotations.md.",
    )
    parser.add_argument("format", choices=annotate.formats(), metavar="FORMAT")
    parser.add_argument("target", metavar="TARGET", help="a path, or s3://bucket/key")
    parser.add_argument(
        "--of",
        choices=annotate.CHOICES,
        default="validation",
        help="which chips: suspects (labels that may be wrong), validation, unlabelled, all; or "
        "labels: what people have said (validation)",
    )
    parser.add_argument(
        "--at-least",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="leave answers with a lower score out (0)",
    )
    parser.add_argument("--url", metavar="ADDRESS", help="where the tool sees the bucket's images")
    return parser.parse_args()


def put(target: str, data: bytes) -> None:
    """Write *data*; a place on S3 as one object."""
    if "://" in target:
        folder, _, name = target.rpartition("/")
        open_storage(folder).put(name, data)
    else:
        Path(target).write_bytes(data)


def main() -> int:
    """Write it, and say what was written."""
    asked = options()
    try:
        found = annotate.answers(load("params.yaml"), asked.of, asked.at_least, asked.url)
        put(asked.target, annotate.write(asked.format, found))
    except QuadratError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{asked.target}: cannot be written ({error.strerror})", file=sys.stderr)
        return 4
    images = len({chip.key for chip in found.rows})
    said = sum(chip.label_to_write is not None for chip in found.rows)
    what = "a label" if asked.of == "labels" else "an answer"
    print(
        f"{asked.target}: {pluralize(len(found.rows), 'chips')} of {pluralize(images, 'images')}, "
        f"{said:,} with {what}, {pluralize(len(found.labels()), 'labels')}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
