"""Write the chips as image files, to a folder or to S3, with a table of them.

Files that are there already are left alone; files of an earlier export that are no longer wanted
are removed; manifest.json is written once every file is there.
"""

import argparse
import logging
import sys

from pipeline.commands.export import names, run
from pipeline.commands.export.plan import ExportRequest
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.store.context import Context, open_store
from stages import command

DEFAULT = "{key}_{row}_{col}"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.export", description=__doc__)
    parser.add_argument("target", help="a folder, or s3://bucket/prefix")
    parser.add_argument("--format", choices=["png", "jpeg"], default="png", help="(png)")
    parser.add_argument(
        "--name",
        default=DEFAULT,
        metavar="TEMPLATE",
        help=f"names of the chips ({DEFAULT}), with any of "
        + ", ".join(f"{{{name}}}" for name in names.FIELDS)
        + ", and the fields of index.pattern",
    )
    parser.add_argument(
        "--by-label", action="store_true", help="a folder a label; chips without one are left out"
    )
    packed = parser.add_mutually_exclusive_group()
    packed.add_argument(
        "--webdataset",
        action="store_true",
        help="pack them into tars, each chip with its metadata as JSON",
    )
    packed.add_argument(
        "--label-studio",
        nargs="?",
        const="",
        metavar="URL",
        help="write tasks.json too; URL: what Label Studio puts before a file's name to find it "
        "(of a folder: /data/local-files/?d=; of S3: the target)",
    )
    return parser.parse_args()


@command
def main() -> int:
    """Export, and print the counts."""
    asked = options()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    params = load("params.yaml")
    template = f"{{label}}/{asked.name}" if asked.by_label else asked.name
    url = asked.label_studio
    if url == "":
        is_s3 = asked.target.startswith("s3://")
        url = f"{asked.target.rstrip('/')}/" if is_s3 else "/data/local-files/?d="
    name = names.read(template, params.index.fields)
    request = ExportRequest(asked.target, asked.format, name, asked.webdataset, url)
    counts = run.run(Context(params, machine(), open_store(machine()), ""), request)
    print(counts.summary())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
