"""Give chips back as image files, in a folder or on S3, with a table of them beside.

usage: python -m stages.export TARGET [--format png|jpeg] [--name TEMPLATE] [--by-label]
           [--webdataset | --label-studio [URL]]
"""

import argparse
import json
import logging
import sys

from pipeline.commands.export import names, run
from pipeline.commands.export.plan import ExportRequest
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.errors import QuadratError
from pipeline.store.context import Context, open_store

DEFAULT = "{key}_{row}_{col}"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export",
        description="Write the chips as image files. What stands already is left alone; what an "
        "earlier export wrote and is no longer asked for is removed; manifest.json is written when "
        "every file is there.",
    )
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
        "--webdataset", action="store_true", help="pack them into tars, each with its facts as JSON"
    )
    packed.add_argument(
        "--label-studio",
        nargs="?",
        const="",
        metavar="URL",
        help="write tasks.json too; URL: what stands before a file's name where Label Studio finds "
        "it (of a folder: /data/local-files/?d=; of S3: the target)",
    )
    return parser.parse_args()


def main() -> int:
    """Export, and say what it took."""
    asked = options()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    try:
        params = load("params.yaml")
        text = f"{{label}}/{asked.name}" if asked.by_label else asked.name
        name = names.read(text, params.index.fields)
        url = asked.label_studio
        if url == "":
            is_s3 = asked.target.startswith("s3://")
            url = f"{asked.target.rstrip('/')}/" if is_s3 else "/data/local-files/?d="
        wanted = ExportRequest(asked.target, asked.format, name, asked.webdataset, url)
        settings = machine()
        context = Context(params, settings, open_store(settings), "")
        counts = run.run(context, wanted)
    except QuadratError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(counts.summary(), file=sys.stderr)
    print(json.dumps(counts.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
