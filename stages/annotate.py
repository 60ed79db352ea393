"""Write the classifier's predictions, or people's labels, for an annotation tool to read."""

import argparse

from pipeline.commands import annotate
from pipeline.commands.target import write
from pipeline.config.loader import load
from pipeline.core.run_log import pluralize
from stages import command


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.annotate", description=__doc__)
    parser.add_argument("format", choices=annotate.formats(), metavar="FORMAT")
    parser.add_argument("target", metavar="TARGET", help="a path, or s3://bucket/key")
    parser.add_argument(
        "--of",
        choices=annotate.CHOICES,
        default="validation",
        help="which chips: label_issues (labels that may be wrong), validation, unlabelled, all; "
        "or labels: people's labels, of all labelled chips (validation)",
    )
    parser.add_argument(
        "--at-least",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="leave out predictions with a lower score (0)",
    )
    parser.add_argument("--url", metavar="ADDRESS", help="where the tool finds the images")
    return parser.parse_args()


@command
def main() -> int:
    """Write the file, and print what is in it."""
    asked = options()
    params = load("params.yaml")
    annotations = annotate.collect(params, asked.of, asked.at_least, asked.url)
    write(asked.target, annotate.encode(asked.format, annotations, params.annotations))
    images = len({chip.key for chip in annotations.rows})
    labelled = sum(chip.label_to_write is not None for chip in annotations.rows)
    what = "label" if asked.of == "labels" else "prediction"
    print(
        f"{asked.target}: {pluralize(len(annotations.rows), 'chips')} of "
        f"{pluralize(images, 'images')}, {labelled:,} with a {what}, "
        f"{pluralize(len(annotations.labels()), 'labels')}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
