"""COCO: JSON with images, categories and annotations, each a box, an outline, or a mask in runs.

Crowds (`iscrowd`) are regions and no objects: they are left out where a chip is an object, see
pipeline/chips/_objects.py. A keypoint annotation without a box is left out as a reject.

Source: https://cocodataset.org/#format-data; the runs' text form by pycocotools' `maskApi.c`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.annotations import Source, _objects, _rows
from pipeline.annotations._answers import Answers
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.errors import InputError, Rejected
from pipeline.rejects import Reject

__all__ = ["LEVEL", "Params", "read", "write"]


class Params(_objects.Params):
    """The settings of `annotations.format: coco`."""


def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]:
    """Read a COCO file; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is not JSON, or lacks images, annotations or categories.
    """
    whole = _objects.from_json(source)
    lists = {name: _list(whole, name, source) for name in ("images", "annotations", "categories")}
    names = _objects.Names(source.keys, params.prefix)
    images = {
        image["id"]: {
            "key": names.key(str(image.get("file_name"))),
            "image_height": _side(image.get("height")),
            "image_width": _side(image.get("width")),
        }
        for image in lists["images"]
        if isinstance(image, dict) and isinstance(image.get("id"), int | str)
    }
    labels = {
        category["id"]: category.get("name")
        for category in lists["categories"]
        if isinstance(category, dict) and isinstance(category.get("id"), int | str)
    }
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for place, said in enumerate(lists["annotations"]):
            line = f"annotations[{place}]"
            at = f"{source.name}:{line}"
            image = _by_id(images, said, "image_id")
            try:
                label = _label(said, image, labels, params.label_separator, at)
                crowd = said.get("iscrowd") == 1
                yield Object(**image, label=label, line=line, crowd=crowd, **_shape(said, at))
            except Rejected as rejected:
                key = str(image["key"]) if image else ""
                rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _list(whole: Any, name: str, source: Source) -> list[Any]:
    found = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(found, list):
        raise InputError(
            f"{source.name}: has no list {name!r}; a COCO file has images, annotations and "
            "categories (results alone name no image)"
        )
    return found


def _side(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < _rows.INT32_MAX else None


def _by_id(table: Mapping[Any, Any], said: Any, name: str) -> Any:
    """Give what the id *name* of an annotation means; None: nothing."""
    number = said.get(name) if isinstance(said, dict) else None
    return table.get(number) if isinstance(number, int | str) else None


def _label(
    said: Mapping[str, Any],
    image: Mapping[str, Any] | None,
    labels: Mapping[Any, Any],
    separator: str | None,
    at: str,
) -> str | None:
    if image is None:
        raise Rejected("no_such_image", f"{at}: its image_id is none of the file's")
    name = _by_id(labels, said, "category_id")
    if name is None:
        raise Rejected("unreadable_row", f"{at}: its category_id is none of the file's")
    return _objects.label(name, separator, at)


def _shape(said: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Give the window, and the outline or mask, of one annotation."""
    segmentation = said.get("segmentation")
    if isinstance(segmentation, dict):
        return _objects.masked(_mask(segmentation, at), 0, 0, at)
    if isinstance(segmentation, list) and segmentation:
        if not all(isinstance(ring, list) for ring in segmentation):
            raise Rejected("not_a_box", f"{at}: its segmentation is no list of outlines")
        return _objects.outlined(segmentation, at)
    box = said.get("bbox")
    if not isinstance(box, list) or len(box) != 4:  # noqa: PLR2004 - x, y, width, height
        raise Rejected("not_a_box", f"{at}: has no box and no segmentation")
    left, top, width, height = (number(value, "side of the box", at) for value in box)
    return _objects.box((left, top, left + width, top + height), at)


def _mask(segmentation: Mapping[str, Any], at: str) -> Any:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    sides = [_side(side) for side in size] if isinstance(size, list) else []
    if len(sides) != 2 or None in sides:  # noqa: PLR2004 - height, width
        raise Rejected("not_a_box", f"{at}: the size of its mask is {size!r}")
    height, width = (side or 0 for side in sides)
    if isinstance(counts, str):
        counts = _decoded(counts, at)
    if not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise Rejected("not_a_box", f"{at}: the runs of its mask are no whole numbers")
    return _objects.runs(counts, height * width, at).reshape(width, height).T


def _decoded(text: str, at: str) -> list[int]:
    """Give the runs that COCO's text form says: five bits a letter, from 2 on as differences."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:  # noqa: PLR2004 - six bits
            raise Rejected("not_a_box", f"{at}: {letter!r} is no letter of a mask's runs")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))  # noqa: PLR2004
        value = shift = 0
    return counts


def write(answers: Answers) -> bytes:
    """Give a COCO file: the answers as annotations, with their scores as COCO's results have them.

    `pycocotools` reads it as it stands, and its annotations as results of a file with the same ids.
    """
    categories = {name: at for at, name in enumerate(answers.labels(), 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for chip in answers.rows:
        image = images.setdefault(
            chip.key,
            {
                "id": len(images) + 1,
                "file_name": answers.name(chip.key),
                "width": chip.image_width,
                "height": chip.image_height,
            },
        )
        top, left, height, width = chip.inside
        for label in answers.split(chip.answer):
            said = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": categories[label],
                "bbox": [left, top, width, height],
                "area": height * width,
                "iscrowd": 0,
                "segmentation": [],
            }
            score = {} if chip.score is None else {"score": round(chip.score, 6)}
            annotations.append({**said, **score})
    whole = {
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()
