"""Fill the sample bucket: copy the photographs that demo/outlines.json names, as they are.

They ship inside the wheels of scikit-image and scikit-learn. A copy that is there already is left
untouched, and so are other files in the folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
OUTLINES = HERE / "outlines.json"
BUCKET = HERE / "bucket"

FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def photographs() -> list[str]:
    """Return the keys of the annotated photographs: `<package>/<file>`."""
    return sorted(json.loads(OUTLINES.read_text(encoding="utf-8")))


def original(key: str) -> Path:
    """Return the path of a photograph inside its wheel, without importing the package."""
    package, _, name = key.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; run 'make setup'")
    path = Path(spec.origin).parent / FOLDERS[package] / name
    if not path.is_file():
        raise SystemExit(f"{path}: not in this version of {package}; run 'make setup'")
    return path


def fill(bucket: Path) -> int:
    """Copy what is missing or different to *bucket*, and return the number of copies."""
    copied = 0
    for key in photographs():
        source, target = original(key), bucket / key
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            copied += 1
    return copied


def main() -> None:
    """Fill the bucket that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=BUCKET)
    bucket = parser.parse_args().to
    print(f"{bucket}: {len(photographs())} photographs, {fill(bucket)} copied now")


if __name__ == "__main__":
    main()
