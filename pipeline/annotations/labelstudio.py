"""Label Studio: its JSON of tasks, with boxes, outlines, ellipses, keypoints and choices.

Of a task the annotations count that nobody has cancelled, or of several the ones that are the
ground truth; predictions are a machine's and count only with `keep_unconfirmed`. Places are percent
of the image as the annotator saw it.

Source: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.annotations import Annotations, AnnotationSource, ObjectSettings, _shapes
from pipeline.annotations._labelstudio_brush import unpack
from pipeline.annotations._objects import ImageNames, Object, Objects, from_json
from pipeline.annotations._shapes import Shape
from pipeline.annotations._values import SHOWN, label, number, pixel
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.core.errors import InputError, Rejected, shorten

LEVEL = "object"

SIDES = ("original_height", "original_width")

REGIONS = {
    "rle": "brushlabels",
    "points": "polygonlabels",
    "radiusX": "ellipselabels",
    "height": "rectanglelabels",
    "x": "keypointlabels",
}
"""The types of regions, by the first field that tells them from those below."""

DOWN = {"y", "height", "radiusY"}
"""What is percent of an image's height; all else is of its width."""

POINT_WIDTH = 0.5
"""Percent of the image's width that a keypoint is drawn in."""


class Settings(ObjectSettings):
    """The settings of `annotations.format: labelstudio`.

    *image* is the tasks' field for images, *label* the control of the labelling interface whose
    labels count; null: those of all.
    """

    image: str = "image"
    label: str | None = None
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, settings: Settings) -> Annotations:
    """Read an export; raise InputError if it is none, or has nothing of `annotations.label`."""
    loaded = from_json(source)
    tasks = [_object(task) for task in loaded] if isinstance(loaded, list) else [{}]
    # In JSON-MIN choices look like a task's own data, and nothing says what was cancelled.
    if tasks and not any("data" in task for task in tasks):
        raise InputError(f"{source.name}: is no list of tasks; export them as JSON, not JSON-MIN")
    if settings.label is not None:
        _check_control(tasks, settings.label, source)
    objects = Objects(source, settings)
    for position, task in enumerate(tasks):
        results: list[tuple[str, dict[str, Any]]] = []
        with objects.at("", f"[{position}]"):
            key, chip = _image(task, settings.image, objects.names)
            results = list(_results(task, settings))
        sized = [result for _, result in results if SIDES[0] in result]  # a text has none
        images = {str(result["to_name"]) for result in sized if "to_name" in result}
        for place, result in results:
            line = f"[{position}].{place}"
            with objects.at(key, line):
                _check_image(result, images, settings.image)
                labels, shape = _read(result, chip, objects.names.sizes.get(key))
                for name in labels:
                    own = label(name, settings.label_separator)
                    objects.rows.append(Object(key=key, label=own, line=line, **shape))
    return objects.result()


def _object(value: Any) -> dict[str, Any]:
    """Return *value*, or {} if it is no object, as in a file that something has mangled."""
    return value if isinstance(value, dict) else {}


def _items(item: Any, name: str) -> list[tuple[str, Any]]:
    """Return what is in a list of *item*, with its place; what is no list is one of one."""
    values = _object(item).get(name) or []
    values = values if isinstance(values, list) else [values]
    return [(f"{name}[{position}]", value) for position, value in enumerate(values)]


def _check_control(tasks: list[dict[str, Any]], control: str, source: AnnotationSource) -> None:
    """Check that a result is of the control whose labels count: its name may be mistyped."""
    kinds = ("annotations", "completions", "predictions")
    items = [item for task in tasks for kind in kinds for _, item in _items(task, kind)]
    results = [result for item in items for _, result in _items(item, "result")]
    controls = {str(each.get("from_name")) for each in results if isinstance(each, dict)}
    if controls and control not in controls:
        listed = shorten(", ".join(sorted(controls - {"None"})), SHOWN)
        raise InputError(
            f"{source.name}: no result is of the control {control!r}, which annotations.label "
            f"names; there are {listed}"
        )


def _image(task: Mapping[str, Any], field: str, names: ImageNames) -> tuple[str, Shape | None]:
    """Return the key of a task's image, by our field `key` or else by its address.

    Of a task that stages.export has made of a chip, also the chip's centre.
    """
    data = _object(task.get("data"))
    name, key, chip_key = data.get(field), data.get("key"), data.get("chip_key")
    if isinstance(chip_key, str) and chip_key in names.keys:
        row, col = (pixel(str(data.get(f"chip_{axis}")), axis) for axis in ("row", "col"))
        return chip_key, {"row": row, "col": col}
    if isinstance(key, str) and key in names.keys:
        return key, None
    if not isinstance(name, str) or not name:
        raise Rejected("no_such_image", f"its data have no {field!r}; set annotations.image")
    return names.key(name), None


def _results(task: Mapping[str, Any], settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the results that count of a task, each with its place in it."""
    given = _items(task, "annotations") or _items(task, "completions")
    given = [(at, item) for at, item in given if isinstance(item, dict)]
    given = [(at, item) for at, item in given if not item.get("was_cancelled")]
    counted = [(at, item) for at, item in given if item.get("ground_truth")] or given
    if settings.keep_unconfirmed and not counted:
        predictions = _items(task, "predictions")
        counted = [(at, item) for at, item in predictions if isinstance(item, dict)][-1:]
    for at, item in counted:
        for place, result in _items(item, "result"):
            if settings.label in (None, _object(result).get("from_name")):
                yield f"{at}.{place}", _object(result)


def _check_image(result: Mapping[str, Any], images: set[str], image: str) -> None:
    """Check that a result is of the task's *image*, where a task has several *images*.

    A result says which image it is of by a name of the labelling interface, and what the interface
    calls by that name is in no export: it must be what *image* is called.
    """
    if len(images) > 1 and (name := str(result.get("to_name", ""))) in images - {image}:
        what = f"is of the image {shorten(name, SHOWN)!r}, and annotations.image is {image!r}"
        raise Rejected("not_a_box", what)


def _read(
    result: Mapping[str, Any], chip: Shape | None, size: tuple[int, int] | None
) -> tuple[list[Any], Shape]:
    """Return the labels of a result, and the shape that they are of.

    *chip* is the centre of the chip that the task's image is, *size* the image's in the index.
    """
    kind, value = str(result.get("type")), result.get("value")
    if kind == "relation":  # between two regions, which have labels of their own
        return [], {}
    if not isinstance(value, dict):
        raise Rejected("unreadable_row", "is no result with a value")
    region, labels = kind, value.get(kind)
    if kind in {"choices", "labels"}:  # for a region they have the value of the region
        region = next((REGIONS[field] for field in REGIONS if field in value), kind)
    if region in REGIONS.values():
        if chip is not None:
            raise Rejected("not_a_box", f"{kind} on the image of a chip are not read")
        shape = _region(result, region, size)
    elif kind == "choices":
        shape = chip or {}
    elif isinstance(labels, list):
        raise Rejected("not_a_box", f"{kind} are not read")
    else:  # a rating or a text: nothing about what a chip shows
        return [], {}
    labels = [labels] if isinstance(labels, str) else labels
    return (labels if isinstance(labels, list) else []) or [None], shape


def _region(result: Mapping[str, Any], region: str, size: tuple[int, int] | None) -> Shape:
    """Return the shape of a region, which is in percent of the image, in the image's pixels.

    The image has the size that the result states, or else its *size* in the index.
    """
    if result.get("image_rotation"):
        raise Rejected("other_size", f"the image was turned by {result['image_rotation']}°")
    if any(side in result for side in SIDES):
        high, wide = (pixel(str(result.get(side)), side) for side in SIDES)
    elif size is not None:
        high, wide = size
    else:
        raise Rejected("no_such_image", "states no size, and its image is not in the index")
    if region == "brushlabels":
        _shapes.check_mask((high, wide), size, is_whole=True)
    shape = _shape(region, result["value"], high, wide)
    return {**shape, "image_height": high, "image_width": wide}


def _shape(region: str, value: Mapping[str, Any], high: int, wide: int) -> Shape:
    def pixels(*names: str) -> list[float]:
        percents = [number(value.get(name), name) for name in names]
        sides = [high if name in DOWN else wide for name in names]
        return [percent * side / 100 for percent, side in zip(percents, sides, strict=True)]

    rotation = value.get("rotation") or 0
    match region:
        case "rectanglelabels":
            left, top, width, height = pixels("x", "y", "width", "height")
            right, bottom = left + width, top + height
            upright = _shapes.box(left, top, right, bottom)
            if not rotation:
                return upright
            corners = (left, top), (right, top), (right, bottom), (left, bottom)
            return _shapes.turned(corners, corners[0], number(rotation, "rotation"))
        case "ellipselabels":
            x, y, across, down = pixels("x", "y", "radiusX", "radiusY")
            return _shapes.ellipse(x, y, across, down, number(rotation, "rotation"))
        case "keypointlabels":
            return _shapes.point(*pixels("x", "y"))
        case "brushlabels":
            try:
                return _shapes.mask(unpack(value.get("rle"), high, wide))
            except ValueError as error:
                raise Rejected("not_a_box", f"what was painted {error}") from error
        case _:
            pairs = _shapes.pairs(value.get("points"))
            return _shapes.polygon((x * wide / 100, y * high / 100) for x, y in pairs)


def write(annotations: WrittenAnnotations) -> bytes:
    """Return tasks to import: predictions, and people's labels as annotations, to be corrected.

    docs/how-to/annotations/labelstudio.md has the labelling interface that they fit. Chips of
    points are keypoints at the chip's centre, other chips boxes, whole images choices.
    """
    tasks = []
    for key, _, chips in annotations.images():
        url = f"{annotations.url.rstrip('/')}/{key}"
        task: dict[str, Any] = {"data": {"image": url, "key": key}}
        predicted = [chip for chip in chips if None not in (chip.score, chip.label_to_write)]
        if predicted:
            results = [_result(annotations, it, it.label_to_write, it.score) for it in predicted]
            score = {"score": round(min(chip.score or 0.0 for chip in predicted), 6)}
            model = {"model_version": annotations.model}
            task["predictions"] = [{"result": results, **score, **model}]
        labelled = [chip for chip in chips if chip.label is not None]
        if labelled:
            results = [_result(annotations, chip, chip.label, None) for chip in labelled]
            task["annotations"] = [{"result": results}]
        tasks.append(task)
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def _result(
    annotations: WrittenAnnotations, chip: AnnotatedChip, label: str | None, score: float | None
) -> dict[str, Any]:
    """Return a label of a chip; with a *score*, it is the classifier's."""
    top, left, height, width = chip.inside
    across, down = 100 / chip.image_width, 100 / chip.image_height
    place: dict[str, Any] = {}
    if chip.is_whole:
        kind, name = "choices", "choice"
    elif annotations.at_points:
        kind, name = "keypointlabels", "point"
        place = {"x": (chip.col + 0.5) * across, "y": (chip.row + 0.5) * down, "width": POINT_WIDTH}
    else:
        kind, name = "rectanglelabels", "box"
        place = {"x": left * across, "y": top * down, "width": width * across}
        place |= {"height": height * down, "rotation": 0}
    identity = f"{'l' if score is None else 'a'} {chip.key} {chip.row} {chip.col} {chip.window}"
    result = {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:10],
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "original_width": chip.image_width,
        "original_height": chip.image_height,
        "image_rotation": 0,
        "value": {**place, kind: list(annotations.split(label))},
    }
    return result if score is None else {**result, "score": score}
