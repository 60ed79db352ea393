"""Show what became of one image, stage by stage, read from the outs alone.

usage: python -m stages.trace KEY [ROW COL]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import label_sets, schemas
from pipeline.core.run_log import pluralize
from pipeline.store import tables
from pipeline.store.outputs import (
    CHIPS,
    CLASSIFIER,
    FEATURES,
    INDEX,
    LABELS,
    RESULTS,
    manifest_path,
    rejects_path,
    shard_path,
)
from stages import command

INTEGER = re.compile(r"-?[0-9]{1,9}")
Row = Mapping[str, Any]


def rows(path: Path, key: str) -> list[Row]:
    """Return the rows of one image in the table *path*; none if the stage has not run."""
    if not path.exists():
        return []
    table = tables.read(path)
    rows_of_key: list[Row] = table.filter(pc.equal(table["key"], key)).to_pylist()
    return rows_of_key


def trace(key: str, place: tuple[int, int] | None) -> Iterator[tuple[str, str, Path]]:
    """Yield each stage, what it made of the image, and the table that has it."""
    path = INDEX / "images.parquet"
    image = next(iter(rows(path, key)), None)
    if image is None:
        yield "index", "not in the index", path
        return
    yield "index", _image(image), path
    path = shard_path(CHIPS, image["shard"])
    chips = rows(path, key)
    chip = next((row for row in chips if place in (None, (row["row"], row["col"]))), None)
    yield "chip", _chips(len(chips), chip), path
    if chip is None:
        return
    for stage, describe, path in (
        ("labels", _label, LABELS / "labels.parquet"),
        ("extract", _feature, shard_path(FEATURES, image["shard"])),
        ("validate", _prediction, RESULTS / "predictions.parquet"),
    ):
        of_chip = (row for row in rows(path, key) if row["chip_id"] == chip["chip_id"])
        yield stage, describe(next(of_chip, None)), path


def rejected(key: str) -> Iterator[tuple[str, str, Path]]:
    """Yield every reject of one image: the stage, its message, and the table that has it."""
    for stage in ("index", "chip", "extract"):
        path = rejects_path(stage)
        for row in rows(path, key):
            yield row["stage"], f"rejected as {row['reason']}: {row['detail']}", path


def _image(row: Row) -> str:
    size = f"{row['height']} × {row['width']} {row['format']}"
    more = "  the first of several pictures" if row["more_frames"] else ""
    fields = [f"{name} {row[name]!r}" for name in row if name not in schemas.IMAGES.names]
    return "  ".join(
        [f"version {row['version']!r}", f"{size}{more}", f"shard {row['shard']}", *fields]
    )


def _chips(count: int, row: Row | None) -> str:
    if row is None:
        return "no chip" if not count else f"{pluralize(count, 'chips')}, none there"
    window = f"window {row['top']}, {row['left']}, {row['height']} × {row['width']}"
    valid = f" · {row['valid_share']:.1%} of it valid" if "valid_share" in row else ""
    return f"{pluralize(count, 'chips')}; ({row['row']}, {row['col']}) → {window}{valid}"


def _label(row: Row | None) -> str:
    if row is None:
        return "not labelled"
    return f"{row['label'] or 'unlabelled'} · group {row['group']} · {row['split']}"


def _feature(row: Row | None) -> str:
    if row is None:
        return "no feature"
    manifest = json.loads(manifest_path(FEATURES).read_text(encoding="utf-8"))
    name = manifest["made_by"]["section"]["extractor"]
    length = pc.sqrt(pc.sum(pc.power(pa.array(row["feature"], pa.float64()), 2))).as_py()
    values = pluralize(len(row["feature"]), "values")
    return f"{name} · recipe {manifest['recipe'][:8]}… · {values}, |x| = {length:.3f}"


def _prediction(row: Row | None) -> str:
    if row is None:
        return "not evaluated: another split, no label, or no feature"
    card = json.loads((CLASSIFIER / "model.json").read_text(encoding="utf-8"))
    predicted = label_sets.split(row["predicted"], card.get("label_separator"))
    scores = zip(row["probabilities"], card["classes"], strict=True)
    others = sorted((score for score in scores if score[1] not in predicted), reverse=True)
    verdict = "right" if row["predicted"] == row["label"] else f"wrong: is {row['label']}"
    following = f" · next {others[0][1]} {others[0][0]:.2f}" if others else ""
    return f"{row['predicted']} {row['score']:.2f} ({verdict}){following}"


@command
def main(arguments: list[str]) -> int:
    """Print every step; return 0 if the image is in the index or has a reject, else 1."""
    key, *place = arguments or [""]
    if len(place) not in {0, 2} or not all(map(INTEGER.fullmatch, place)) or key in {"", "--help"}:
        print(__doc__)
        return 0 if key == "--help" else 2
    steps = [*trace(key, (int(place[0]), int(place[1])) if place else None), *rejected(key)]
    print(key)
    for stage, text, path in steps:
        print(f"  {stage:<9} {text}  [{path}]")
    return int(steps[0][1] == "not in the index" and len(steps) == 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
