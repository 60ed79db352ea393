"""COCO: JSON with images, categories and annotations, each a box, an outline, or a mask in runs.

Crowds (`iscrowd`) are regions and no objects: they are left out where a chip is an object, see
pipeline/chip/methods/_objects.py. A keypoint annotation without a box is left out as a reject.

Source: https://cocodataset.org/#format-data; the runs' text form by pycocotools' `maskApi.c`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.annotations import Annotations, AnnotationSource, ObjectSettings, _shapes
from pipeline.annotations._objects import Object, Objects, from_json
from pipeline.annotations._shapes import Shape
from pipeline.annotations._values import FARTHEST, INT32_MAX, SHOWN, label, number
from pipeline.annotations._written import WrittenAnnotations
from pipeline.core.errors import InputError, Rejected, shorten

LEVEL = "object"

Settings = ObjectSettings


def read(source: AnnotationSource, settings: ObjectSettings) -> Annotations:
    """Read a COCO file; raise InputError if it is none, or if one of its ids means two things."""
    whole = from_json(source)
    for name in ("images", "annotations", "categories"):
        if not isinstance(whole, dict) or not isinstance(whole.get(name), list):
            raise InputError(
                f"{source.name}: has no list {name!r}; a COCO file has images, annotations and "
                "categories (results alone name no image)"
            )
    objects = Objects(source, settings)

    def image_of(item: Mapping[str, Any]) -> dict[str, Any]:
        sides = {f"image_{side}": _side(item.get(side)) for side in ("height", "width")}
        name = item.get("file_name") or item.get("coco_url") or ""
        return {"key": objects.names.key(str(name)), **sides}

    images = _by_id(whole["images"], image_of, f"{source.name}:images")
    labels = _by_id(whole["categories"], lambda item: item.get("name"), f"{source.name}:categories")
    for position, item in enumerate(whole["annotations"]):
        line = f"annotations[{position}]"
        image = images.get(_id(item, "image_id"), {})
        with objects.at(image.get("key", ""), line):
            if not image:
                raise Rejected("no_such_image", "its image_id is none of the file's")
            category = labels.get(_id(item, "category_id"))
            if category is None:
                raise Rejected("unreadable_row", "its category_id is none of the file's")
            own, crowd = label(category, settings.label_separator), item.get("iscrowd") == 1
            shape = _shape(item, objects.names.sizes.get(image["key"]))
            objects.rows.append(Object(**image, label=own, line=line, crowd=crowd, **shape))
    return objects.result()


def _side(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < INT32_MAX else None


def _id(item: Any, name: str) -> str | None:
    """Return the id *name*; 7, 7.0 and "7" are the same: some tools write two of them in a file."""
    value = item.get(name) if isinstance(item, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) else None


def _by_id(
    items: list[Any], value_of: Callable[[Mapping[str, Any]], Any], at: str
) -> dict[str | None, Any]:
    """Return the value of each item by its id; raise InputError if one id has two values."""
    values: dict[str | None, Any] = {}
    for position, item in enumerate(items):
        identity = _id(item, "id")
        if identity is None:
            continue
        value = value_of(item)
        if values.setdefault(identity, value) != value:
            raise InputError(
                f"{at}[{position}]: the id {shorten(identity, SHOWN)} is another's already; files "
                "that are put together need ids of their own"
            )
    return values


def _shape(item: Mapping[str, Any], image: tuple[int, int] | None) -> Shape:
    """Return the shape of an annotation; *image* is its image's height and width in the index."""
    segmentation, edges = item.get("segmentation"), item.get("bbox")
    if isinstance(segmentation, dict):
        return _mask(segmentation, image)
    if isinstance(segmentation, list) and any(segmentation):  # [[]] is none
        if not any(isinstance(ring, list) for ring in segmentation):
            segmentation = [segmentation]  # VIA writes one outline without the list around it
        if not all(isinstance(ring, list) for ring in segmentation):
            raise Rejected("not_a_box", "its segmentation is no list of outlines")
        rings = [ring for ring in segmentation if len(ring) >= 2 * _shapes.CORNERS]
        if rings or not edges:  # a part of two corners has no pixels
            return _shapes.outline(rings or segmentation)
    if not isinstance(edges, list) or len(edges) != 4:  # noqa: PLR2004 - x, y, width, height
        raise Rejected("not_a_box", "has no box and no segmentation")
    left, top, width, height = (number(value, "side of the box") for value in edges)
    attributes = item.get("attributes")  # CVAT has the angle of a turned box there
    degrees: Any = attributes.get("rotation") if isinstance(attributes, dict) else 0
    is_angle = type(degrees) in {int, float} and abs(degrees) < FARTHEST
    return _shapes.box(left, top, left + width, top + height, degrees if is_angle else 0)


def _mask(segmentation: Mapping[str, Any], image: tuple[int, int] | None) -> Shape:
    size, runs = segmentation.get("size"), segmentation.get("counts")
    sides = list(map(_side, size)) if isinstance(size, list) else []
    if len(sides) != 2 or None in sides:  # noqa: PLR2004 - height, width
        raise Rejected("not_a_box", f"the size of its mask is {size!r}")
    height, width = (side or 0 for side in sides)
    _shapes.check_mask((height, width), image, is_whole=True)
    if isinstance(runs, str):
        runs = _decoded(runs)
    if not isinstance(runs, list) or not all(isinstance(run, int) for run in runs):
        raise Rejected("not_a_box", "the runs of its mask are no whole numbers")
    return _shapes.mask(_shapes.unpacked(runs, width, height).T)  # they go down the columns


def _decoded(letters: str) -> list[int]:
    """Return the runs in COCO's text form: five bits a letter; from the third on, differences."""
    if stray := re.search(r"[^0-o]", letters):
        raise Rejected("not_a_box", f"{stray[0]!r} is no letter of a mask's runs")
    if re.search(r"[P-o]{13}.", letters):
        raise Rejected("not_a_box", "a run of its mask is longer than any image")
    runs: list[int] = []
    for digits in re.findall(r"[P-o]*[0-O]", letters):  # after P to o, more digits follow
        bits = [(ord(digit) - ord("0")) & 31 for digit in digits]
        run = sum(part << 5 * place for place, part in enumerate(bits))
        run -= (bits[-1] & 16) << 5 * len(bits) - 4  # the highest bit is the sign
        runs.append(run + (runs[-2] if len(runs) > 2 else 0))  # noqa: PLR2004
    return runs


def write(annotations: WrittenAnnotations) -> bytes:
    """Return a COCO file whose annotations have scores, as COCO's results have them.

    `pycocotools` reads it as it stands, and its annotations as results of a file with the same ids.
    """
    categories = {name: at for at, name in enumerate(annotations.labels(), 1)}
    images = {
        key: {"id": at, "file_name": annotations.name(key), "width": wide, "height": high}
        for at, (key, (high, wide), _) in enumerate(annotations.images(), 1)
    }
    items: list[dict[str, Any]] = []
    for chip, name in annotations.labelled(annotations.rows):
        top, left, height, width = chip.inside
        item = {
            "id": len(items) + 1,
            "image_id": images[chip.key]["id"],
            "category_id": categories[name],
            "bbox": [left, top, width, height],
            "area": height * width,
            "iscrowd": 0,
            "segmentation": [],
        }
        items.append(item if chip.score is None else {**item, "score": round(chip.score, 6)})
    whole = {
        "images": list(images.values()),
        "annotations": items,
        "categories": [{"id": at, "name": name} for name, at in categories.items()],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()
