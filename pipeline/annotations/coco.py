"""COCO: JSON with images, categories and annotations, each a box, an outline, or a mask in runs.

Crowds (`iscrowd`) are regions of many objects: they are left out if a chip is one object, see
pipeline/chip/methods/_objects.py. A keypoint annotation without a box is a reject.

Source: https://cocodataset.org/#format-data; the runs' text form by pycocotools' `maskApi.c`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.annotations import Annotations, AnnotationSource, ObjectSettings, _values
from pipeline.annotations._objects import Objects, from_json
from pipeline.annotations._values import FARTHEST, INT32_MAX, SHOWN, Shape
from pipeline.annotations._written import WrittenAnnotations
from pipeline.core.errors import InputError, Rejected, shorten

LEVEL = "object"
Settings = ObjectSettings


def read(source: AnnotationSource, settings: ObjectSettings) -> Annotations:
    """Read a COCO file; raise InputError if it is not one, or if two items have the same id."""
    whole = from_json(source)
    for name in ("images", "annotations", "categories"):
        if not isinstance(whole, dict) or not isinstance(whole.get(name), list):
            what = f"has no list {name!r}; a COCO file has images, annotations and categories"
            raise InputError(f"{source.name}: {what} (a file of results has no images)")
    objects = Objects(source, settings)

    def image_of(item: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        name = str(item.get("file_name") or item.get("coco_url") or "")
        sides = {f"image_{side}": _side(item.get(side)) for side in ("height", "width")}
        return objects.names.key(name), sides

    images = _by_id(whole["images"], image_of, f"{source.name}:images")
    labels = _by_id(whole["categories"], lambda item: item.get("name"), f"{source.name}:categories")
    for position, item in enumerate(whole["annotations"]):
        image, category = _id(item, "image_id"), _id(item, "category_id")
        (key, sides), label = images.get(image, ("", None)), labels.get(category)
        with objects.at(key, f"annotations[{position}]"):
            if sides is None:
                raise Rejected("no_such_image", f"no image has its image_id, {image}")
            if label is None:
                raise Rejected("unreadable_row", f"no category has its category_id, {category}")
            shape = _shape(item, objects.names.sizes.get(key))
            objects.add(label, **sides, **shape, crowd=item.get("iscrowd") == 1)
    return objects.result()


def _side(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < INT32_MAX else None


def _id(item: Any, name: str) -> str | None:
    """Return the id *name*; 7, 7.0 and "7" are the same: some tools write two of them in a file."""
    value = item.get(name) if isinstance(item, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) else None


def _by_id(items: list[Any], value_of: Callable[[Any], Any], at: str) -> dict[str | None, Any]:
    """Return the value of each item by its id; raise InputError if one id has two values."""
    values: dict[str | None, Any] = {}
    for position, item in enumerate(items):
        identity = _id(item, "id")
        value = None if identity is None else value_of(item)
        if identity is not None and values.setdefault(identity, value) != value:
            what = f"the id {shorten(identity, SHOWN)} is another's too"
            raise InputError(f"{at}[{position}]: {what}; files that are merged need new ids")
    return values


def _shape(item: Mapping[str, Any], image: tuple[int, int] | None) -> Shape:
    """Return the shape of an annotation; *image* is its image's height and width in the index."""
    segmentation, edges = item.get("segmentation"), item.get("bbox")
    if isinstance(segmentation, dict):
        return _mask(segmentation, image)
    if isinstance(segmentation, list) and any(segmentation):  # [[]] has no outline
        if not any(isinstance(ring, list) for ring in segmentation):
            segmentation = [segmentation]  # VIA writes one outline without the list around it
        if not all(isinstance(ring, list) for ring in segmentation):
            raise Rejected("not_a_box", "its segmentation is not a list of outlines")
        rings = [ring for ring in segmentation if len(ring) >= 2 * _values.CORNERS]
        if rings or not edges:  # a part of two corners has no pixels
            return _values.outline(rings or segmentation)
    if not isinstance(edges, list) or len(edges) != 4:  # noqa: PLR2004 - x, y, width, height
        raise Rejected("not_a_box", "has no box and no segmentation")
    left, top, width, height = (_values.number(value, "side of the box") for value in edges)
    attributes = item.get("attributes")  # CVAT writes the angle of a turned box there
    degrees: Any = attributes.get("rotation") if isinstance(attributes, dict) else 0
    is_angle = type(degrees) in {int, float} and abs(degrees) < FARTHEST
    return _values.box(left, top, left + width, top + height, degrees if is_angle else 0)


def _mask(segmentation: Mapping[str, Any], image: tuple[int, int] | None) -> Shape:
    size, runs = segmentation.get("size"), segmentation.get("counts")
    sides = list(map(_side, size)) if isinstance(size, list) else []
    if len(sides) != 2 or None in sides:  # noqa: PLR2004 - height, width
        raise Rejected("not_a_box", f"the size of its mask is {size!r}")
    height, width = (side or 0 for side in sides)
    _values.check_mask((height, width), image, is_whole=True)
    if isinstance(runs, str):
        runs = _decoded(runs)
    if not isinstance(runs, list) or not all(isinstance(run, int) for run in runs):
        raise Rejected("not_a_box", "the runs of its mask are not whole numbers")
    return _values.mask(_values.unpacked(runs, width, height).T)  # they go down the columns


def _decoded(letters: str) -> list[int]:
    """Return the runs in COCO's text form: five bits a letter; from the third on, differences."""
    if stray := re.search(r"[^0-o]", letters):
        raise Rejected("not_a_box", f"{stray[0]!r} is not a letter of a mask's runs")
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

    `pycocotools` reads the file, and its annotations as results of a file with the same ids.
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
