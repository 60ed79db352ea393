"""Make the pages that say what the code says: docs/tables.md and docs/parts.md.

A test compares them; `make fix` makes them again.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from pipeline.config import registry
from pipeline.core import rejects, schemas

HERE = Path(__file__).parent

TABLES: dict[str, pa.Schema] = {
    "data/index/images.parquet": schemas.IMAGES,
    "data/chips/NNNN.parquet": schemas.SCENE_CHIPS,
    "data/labels/labels.parquet": schemas.LABELS,
    "data/labels/measurements/SESSION.parquet": schemas.MEASURED,
    "data/features/NNNN.parquet": schemas.features(1280, "float32"),
    "*/rejects.parquet": schemas.REJECTS,
    "results/predictions.parquet": schemas.PREDICTIONS,
    "BOUNDS.parquet (python -m stages.bounds)": schemas.BOUNDS,
    "chips.parquet (python -m stages.export)": schemas.EXPORTED,
}

FOLDERS = {
    "annotations": "annotations.format",
    "chip.methods": "chip.method",
    "extract.extractors": "extract.extractor",
    "train.classifiers": "train.classifier",
    "validate.analyses": "results/report.html",
    "validate.metrics": "results/all_metrics.json",
    "storage": "bucket.url, store",
}
STORAGES = ("folder", "https", "s3")
"""Chosen by an address's scheme: the other files of their folder are not parts."""


def tables() -> str:
    """Give docs/tables.md."""
    parts = [
        (
            "# The tables\n\nMade from `pipeline/core/schemas.py`. Sorted by key, row and column. "
            "In `measurements/` the instrument's own columns follow. `valid_share` is there where "
            "`chip.nodata` is stated.\n"
        )
    ]
    for name, schema in TABLES.items():
        lines = [f"\n## {name}\n", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{f.name}` | {_type(f)} | {schemas.SENTENCES[f.name]} |" for f in schema]
        parts.append("\n".join(lines) + "\n")
    reasons = "\n".join(f"| `{code}` | {said} |" for code, said in sorted(rejects.REASONS.items()))
    parts.append(f"\n## Reasons of rejects\n\n| reason | meaning |\n|---|---|\n{reasons}\n")
    return "".join(parts)


def _type(field: pa.Field) -> str:
    if field.name == "feature":
        return "list of float32 (or float16), as long as the extractor's features"
    return str(field.type)


def parts() -> str:
    """Give docs/parts.md: every part, by the first sentence of its file."""
    lines = ["# The parts\n\nMade from the first line of each file.\n"]
    for folder, setting in FOLDERS.items():
        lines.append(f"\n## {folder} (`{setting}`)\n\n| part | what it is |\n|---|---|\n")
        names = STORAGES if folder == "storage" else registry.names(folder)
        lines += [f"| `{name}` | {_says(folder, name)} |\n" for name in names]
    return "".join(lines)


def _says(folder: str, name: str) -> str:
    """Give the first sentence of a file's docstring, without importing the file."""
    spec = find_spec(f"pipeline.{folder}")
    root = Path(str(spec.origin)).parent if spec else Path()
    text = (root / f"{name}.py").read_text(encoding="utf-8")
    return text.removeprefix('"""').partition('"""')[0].partition("\n\n")[0].replace("\n", " ")


PAGES = {"tables.md": tables, "parts.md": parts}


def main() -> None:
    """Write every page that is not as it should be, and say which."""
    for name, make in PAGES.items():
        path, text = HERE / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: made again")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
