"""COCO: JSON with images, categories and annotations, each a box, an outline, or a mask in runs.

Crowds (`iscrowd`) are regions and no objects: they are left out where a chip is an object, see
pipeline/chip/methods/_objects.py. A keypoint annotation without a box is left out as a reject.

Source: https://cocodataset.org/#format-data; the runs' text form by pycocotools' `maskApi.c`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _objects, _rows
from pipeline.annotations._answers import WrittenAnnotations
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.core.errors import InputError, Rejected, shorten
from pipeline.core.rejects import Reject

__all__ = ["LEVEL", "Settings", "read", "write"]


LONGEST_RUN = 60
"""Bits of a run's length."""


class Settings(_objects.Settings):
    """The settings of `annotations.format: coco`."""


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read a COCO file; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is not JSON, lacks images, annotations or categories, or an id means two.
    """
    whole = _objects.from_json(source)
    lists = {name: _list(whole, name, source) for name in ("images", "annotations", "categories")}
    names = _objects.Names(source, params.prefix)

    def image_of(said: Mapping[str, Any]) -> dict[str, Any]:
        sides = {f"image_{side}": _side(said.get(side)) for side in ("height", "width")}
        name = said.get("file_name") or said.get("coco_url") or ""
        return {"key": names.key(str(name)), **sides}

    images = _by_ids(lists, "images", source, image_of)
    labels = _by_ids(lists, "categories", source, lambda said: said.get("name"))
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for place, said in enumerate(lists["annotations"]):
            line = f"annotations[{place}]"
            at = f"{source.name}:{line}"
            image = _by_id(images, said, "image_id")
            try:
                label = _label(said, image, labels, params.label_separator, at)
                crowd = said.get("iscrowd") == 1
                shape = _shape(said, names.sizes.get(str(image["key"])), at)
                yield Object(**image, label=label, line=line, crowd=crowd, **shape)
            except Rejected as rejected:
                key = str(image["key"]) if image else ""
                rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _list(whole: Any, name: str, source: AnnotationSource) -> list[Any]:
    found = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(found, list):
        raise InputError(
            f"{source.name}: has no list {name!r}; a COCO file has images, annotations and "
            "categories (results alone name no image)"
        )
    return found


def _side(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < _rows.INT32_MAX else None


def _id(said: Any, name: str) -> str | None:
    """Give the id *name*, by which 7 and "7" are one: some tools write both in one file."""
    number = said.get(name) if isinstance(said, dict) else None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number) if isinstance(number, int | str) else None


def _by_ids(
    lists: Mapping[str, list[Any]],
    name: str,
    source: AnnotationSource,
    meant: Callable[[Mapping[str, Any]], Any],
) -> dict[str, Any]:
    """Give what is *meant* by each id of the list *name*.

    Raises:
        InputError: an id means two, as where files were put together.
    """
    table: dict[str, Any] = {}
    for place, said in enumerate(lists[name]):
        number = _id(said, "id")
        if number is None:
            continue
        value = meant(said)
        if table.setdefault(number, value) != value:
            raise InputError(
                f"{source.name}:{name}[{place}]: the id {shorten(number, _objects.SHOWN)} is "
                "another's already; files that are put together need ids of their own"
            )
    return table


def _by_id(table: Mapping[str, Any], said: Any, name: str) -> Any:
    """Give what the id *name* of an annotation means; None: nothing."""
    number = _id(said, name)
    return None if number is None else table.get(number)


def _label(
    said: Mapping[str, Any],
    image: Mapping[str, Any] | None,
    labels: Mapping[str, Any],
    separator: str | None,
    at: str,
) -> str | None:
    if image is None:
        raise Rejected("no_such_image", f"{at}: its image_id is none of the file's")
    name = _by_id(labels, said, "category_id")
    if name is None:
        raise Rejected("unreadable_row", f"{at}: its category_id is none of the file's")
    return _objects.label(name, separator, at)


def _shape(said: Mapping[str, Any], image: tuple[int, int] | None, at: str) -> dict[str, Any]:
    """Give the window, and the outline or mask, of one annotation; *image*: its size, if known."""
    segmentation = said.get("segmentation")
    if isinstance(segmentation, dict):
        return _objects.masked(_mask(segmentation, image, at), 0, 0, at)
    box = said.get("bbox")
    if isinstance(segmentation, list) and any(segmentation):  # [[]] is none
        if not any(isinstance(ring, list) for ring in segmentation):
            segmentation = [segmentation]  # VIA writes one outline without the list around it
        if not all(isinstance(ring, list) for ring in segmentation):
            raise Rejected("not_a_box", f"{at}: its segmentation is no list of outlines")
        rings = [ring for ring in segmentation if len(ring) >= 2 * _objects.CORNERS]
        if rings or not box:  # a part of two corners has no pixels
            return _objects.outlined(rings or segmentation, at)
    if not isinstance(box, list) or len(box) != 4:  # noqa: PLR2004 - x, y, width, height
        raise Rejected("not_a_box", f"{at}: has no box and no segmentation")
    left, top, width, height = (number(value, "side of the box", at) for value in box)
    return _objects.turned_box((left, top, left + width, top + height), _degrees(said), at)


def _degrees(said: Mapping[str, Any]) -> float:
    """Give how far the box is turned: CVAT writes the upright one, and beside it the angle."""
    attributes = said.get("attributes")
    degrees = attributes.get("rotation") if isinstance(attributes, dict) else None
    if isinstance(degrees, bool) or not isinstance(degrees, int | float):
        return 0.0
    return degrees if math.isfinite(degrees) else 0.0


def _mask(segmentation: Mapping[str, Any], image: tuple[int, int] | None, at: str) -> Any:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    sides = [_side(side) for side in size] if isinstance(size, list) else []
    if len(sides) != 2 or None in sides:  # noqa: PLR2004 - height, width
        raise Rejected("not_a_box", f"{at}: the size of its mask is {size!r}")
    height, width = (side or 0 for side in sides)
    _objects.check_mask((height, width), image, at, is_whole=True)
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
        if shift > LONGEST_RUN:
            raise Rejected("not_a_box", f"{at}: a run of its mask is longer than any image")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))  # noqa: PLR2004
        value = shift = 0
    return counts


def write(answers: WrittenAnnotations) -> bytes:
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
