"""Trace: what became of one image, hop by hop, read from the outs alone.

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
from pipeline.core.errors import InputError
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

WHOLE = re.compile(r"-?[0-9]{1,9}")
Row = Mapping[str, Any]


def rows(path: Path, key: str) -> list[Row]:
    """Give the rows of one image in the table *path*; none if the stage has not run."""
    if not path.exists():
        return []
    table = tables.read(path)
    found: list[Row] = table.filter(pc.equal(table["key"], key)).to_pylist()
    return found


def trace(key: str, place: tuple[int, int] | None) -> Iterator[tuple[str, str, Path]]:
    """Give, hop by hop: the stage, what it made of the image, and the table that says so."""
    images = INDEX / "images.parquet"
    found = rows(images, key)
    if not found:
        yield "index", "not in the index", images
        return
    image = found[0]
    yield "index", _image(image), images
    path = shard_path(CHIPS, image["shard"])
    chips = rows(path, key)
    chip = next((row for row in chips if _is_at(row, place)), None)
    yield "chip", _chips(len(chips), chip), path
    if chip is None:
        return
    labels, features = LABELS / "labels.parquet", shard_path(FEATURES, image["shard"])
    yield "labels", _label(_same(rows(labels, key), chip)), labels
    yield "extract", _feature(_same(rows(features, key), chip)), features
    predictions = RESULTS / "predictions.parquet"
    yield "validate", _prediction(_same(rows(predictions, key), chip)), predictions


def refused(key: str) -> Iterator[tuple[str, str, Path]]:
    """Give every reject of one image, with the stage's own sentence."""
    for stage in ("index", "chip", "extract"):
        path = rejects_path(stage)
        for row in rows(path, key):
            yield row["stage"], f"rejected as {row['reason']}: {row['detail']}", path


def _is_at(row: Row, place: tuple[int, int] | None) -> bool:
    return place is None or (row["row"], row["col"]) == place


def _same(found: list[Row], chip: Row) -> Row | None:
    return next((row for row in found if row["chip_id"] == chip["chip_id"]), None)


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
    shown = f" · {row['valid_share']:.1%} of it valid" if "valid_share" in row else ""
    return f"{pluralize(count, 'chips')}; ({row['row']}, {row['col']}) → {window}{shown}"


def _label(row: Row | None) -> str:
    if row is None:
        return "not labelled"
    return f"{row['label'] or 'unlabelled'} · group {row['group']} · {row['split']}"


def _feature(row: Row | None) -> str:
    if row is None:
        return "no feature"
    made_by = json.loads(manifest_path(FEATURES).read_text(encoding="utf-8"))
    name = made_by["made_by"]["section"]["extractor"]
    length = pc.sqrt(pc.sum(pc.power(pa.array(row["feature"], pa.float64()), 2))).as_py()
    recipe = made_by["recipe"][:8]
    values = pluralize(len(row["feature"]), "values")
    return f"{name} · recipe {recipe}… · {values}, |x| = {length:.3f}"


def _prediction(row: Row | None) -> str:
    if row is None:
        return "not judged: another split, no label, or no feature"
    card = json.loads((CLASSIFIER / "model.json").read_text(encoding="utf-8"))
    answered = label_sets.split(row["predicted"], card.get("label_separator"))
    scored = zip(row["probabilities"], card["classes"], strict=True)
    others = sorted((one for one in scored if one[1] not in answered), reverse=True)
    verdict = "right" if row["predicted"] == row["label"] else f"wrong: is {row['label']}"
    following = f" · next {others[0][1]} {others[0][0]:.2f}" if others else ""
    return f"{row['predicted']} {row['score']:.2f} ({verdict}){following}"


def main(arguments: list[str]) -> int:
    """Print the walk; give 0 if the image is in the index or has a reject, else 1."""
    key, *pixel = arguments or [""]
    if len(pixel) not in {0, 2} or not all(map(WHOLE.fullmatch, pixel)) or key in {"", "--help"}:
        print(__doc__)
        return 0 if key == "--help" else 2
    place = (int(pixel[0]), int(pixel[1])) if pixel else None
    try:
        hops = [*trace(key, place), *refused(key)]
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(key)
    for stage, says, path in hops:
        print(f"  {stage:<9} {says}  [{path}]")
    return int(hops[0][1] == "not in the index" and len(hops) == 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
