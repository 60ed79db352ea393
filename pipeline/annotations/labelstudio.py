"""Label Studio: its JSON of tasks, with boxes, outlines, ellipses, keypoints and choices.

Cancelled annotations are left out, and if a task has ground truth, so are its other annotations.
Without annotations the last prediction is read, but only with `keep_unconfirmed`. Places are
percent of the image as the annotator saw it.

Source: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.annotations import Annotations, AnnotationSource, ObjectSettings, _values
from pipeline.annotations._frame import displayed_window
from pipeline.annotations._labelstudio_brush import unpack
from pipeline.annotations._objects import ImageNames, Objects, from_json
from pipeline.annotations._values import SHOWN, Shape, numbers, pixel
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.core.errors import InputError, Rejected, shorten

LEVEL = "object"
FRAME = "displayed"

SIDES = ("original_height", "original_width")
REGIONS = {
    "rle": "brushlabels",
    "points": "polygonlabels",
    "radiusX": "ellipselabels",
    "height": "rectanglelabels",
    "x": "keypointlabels",
}
"""The types of regions, by the first field that those below do not have."""
POINT_WIDTH = 0.5
"""The width in which a keypoint is drawn, in percent of the image's."""


class Settings(ObjectSettings):
    """The settings of `annotations.format: labelstudio`.

    *image* is the tasks' field for images, *label* the control of the labelling interface whose
    labels are read; null: all of them.
    """

    image: str = "image"
    label: str | None = None
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, settings: Settings) -> Annotations:
    """Read an export; raise InputError if it is not one, or has no control `annotations.label`."""
    loaded = from_json(source)
    tasks = [_object(task) for task in loaded] if isinstance(loaded, list) else [{}]
    # JSON-MIN does not tell choices from data, nor which annotations were cancelled.
    if tasks and not any("data" in task for task in tasks):
        raise InputError(f"{source.name}: is not a list of tasks; export JSON, not JSON-MIN")
    if settings.label is not None:
        _check_control(tasks, settings.label, source)
    objects = Objects(source, settings)
    for position, task in enumerate(tasks):
        results: list[tuple[str, dict[str, Any]]] = []
        with objects.at("", f"[{position}]"):
            key, chip = _image(task, settings.image, objects.names)
            results = list(_results(task, settings, f"[{position}]"))
        # If a task has several images, a result names its image by a tag of the interface, which is
        # not in the export: it must have the name of `image`. A text has a tag, too, but no size.
        sized = [result for _, result in results if SIDES[0] in result and "to_name" in result]
        names = {str(result["to_name"]) for result in sized}
        others = names - {settings.image} if len(names) > 1 else set()
        for line, result in results:
            with objects.at(key, line):
                if others and str(result.get("to_name", "")) in others:
                    name = shorten(repr(result["to_name"]), SHOWN)
                    what = f"is of the image {name}, and annotations.image is {settings.image!r}"
                    raise Rejected("not_a_box", what)
                labels, shape = _read(result, chip, objects.names.sizes.get(key))
                for name in labels:
                    objects.add(name, **shape)
    return objects.result()


def _object(value: Any) -> dict[str, Any]:
    """Return *value*, or {} if it is not an object, as in a damaged file."""
    return value if isinstance(value, dict) else {}


def _list(item: Any, name: str) -> list[Any]:
    """Return the list *name* of *item*; another value is a list of one."""
    values = _object(item).get(name) or []
    return values if isinstance(values, list) else [values]


def _check_control(tasks: list[dict[str, Any]], control: str, source: AnnotationSource) -> None:
    """Raise InputError if no result is of *control*: it may be a typing error."""
    kinds = ("annotations", "completions", "predictions")
    items = [item for task in tasks for kind in kinds for item in _list(task, kind)]
    results = [result for item in items for result in _list(item, "result")]
    controls = {str(each.get("from_name")) for each in results if isinstance(each, dict)}
    if controls and control not in controls:
        listed = shorten(", ".join(sorted(controls - {"None"})), SHOWN)
        what = f"no result is of the control {control!r}, which annotations.label names"
        raise InputError(f"{source.name}: {what}; there is {listed}")


def _image(task: Mapping[str, Any], field: str, names: ImageNames) -> tuple[str, Shape | None]:
    """Return the key of a task's image, by its data's `key` or else by its address.

    For a task that stages.export has made of a chip, return its centre too.
    """
    data = _object(task.get("data"))
    name, key, chip_key = data.get(field), data.get("key"), data.get("chip_key")
    if isinstance(chip_key, str) and chip_key in names.keys:
        row, col = (pixel(str(data.get(f"chip_{axis}")), axis) for axis in ("row", "col"))
        size, orientation = names.stored_sizes[chip_key], names.orientations.get(chip_key, 1)
        row, col, *_ = displayed_window((row, col, 1, 1), size, orientation)
        return chip_key, {"row": row, "col": col}
    if isinstance(key, str) and key in names.keys:
        return key, None
    if not isinstance(name, str) or not name:
        raise Rejected("no_such_image", f"its data has no {field!r}; set annotations.image")
    key, same = names.key(name), names.uploaded(name)
    if key not in names.keys and same:
        what = (
            f"{len(same):,} images have its name, such as {same[0]}; add its key to the task's data"
        )
        raise Rejected("no_such_image", f"{name} was uploaded without its folder, and {what}")
    return key, None


def _results(task: Any, settings: Settings, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the results of a task that are to be read, each with its place in the file."""
    annotated = [
        (f"{at}.annotations[{position}]", item)
        for position, item in enumerate(_list(task, "annotations") or _list(task, "completions"))
        if isinstance(item, dict) and not item.get("was_cancelled")
    ]
    chosen = [(place, item) for place, item in annotated if item.get("ground_truth")] or annotated
    if settings.keep_unconfirmed and not chosen:
        predictions = enumerate(_list(task, "predictions"))
        places = [(f"{at}.predictions[{position}]", item) for position, item in predictions]
        chosen = [(place, item) for place, item in places if isinstance(item, dict)][-1:]
    for place, item in chosen:
        for position, result in enumerate(map(_object, _list(item, "result"))):
            if settings.label in (None, result.get("from_name")):
                yield f"{place}.result[{position}]", result


def _read(
    result: Mapping[str, Any], chip: Shape | None, size: tuple[int, int] | None
) -> tuple[list[Any], Shape]:
    """Return the labels of a result, and their shape.

    *chip* is the centre of a chip, if the task is of one; *size* is the image's in the index.
    """
    kind, value = str(result.get("type")), result.get("value")
    if kind == "relation":  # between two regions, which have their own labels
        return [], {}
    if not isinstance(value, dict):
        raise Rejected("unreadable_row", "is not a result with a value")
    region, labels = kind, value.get(kind)
    if kind in {"choices", "labels"}:  # those of a region have its value
        region = next((REGIONS[field] for field in REGIONS if field in value), kind)
    if region in REGIONS.values():
        if chip is not None:
            raise Rejected("not_a_box", f"{kind} are not read on the image of a chip")
        shape = _region(result, region, size)
    elif kind == "choices":
        shape = chip or {}
    elif isinstance(labels, list):
        raise Rejected("not_a_box", f"{kind} are not read")
    else:  # a rating or a text
        return [], {}
    labels = [labels] if isinstance(labels, str) else labels
    return (labels if isinstance(labels, list) else []) or [None], shape


def _region(result: Mapping[str, Any], region: str, size: tuple[int, int] | None) -> Shape:
    """Return the shape of a region in pixels, from percent of its image.

    The image has the size that the result states, or else its *size* in the index.
    """
    value, high, wide = result["value"], *(size or (0, 0))
    if result.get("image_rotation"):
        raise Rejected("other_size", f"the image was turned by {result['image_rotation']}°")
    if any(side in result for side in SIDES):
        high, wide = (pixel(str(result.get(side)), side) for side in SIDES)
    elif size is None:
        raise Rejected("no_such_image", "states no size, and its image is not in the index")

    scales = {"y": high, "height": high, "radiusY": high}  # the others are percent of the width

    def pixels(*names: str) -> list[float]:
        shares = zip(names, numbers(value, *names), strict=True)
        return [share * scales.get(name, wide) / 100 for name, share in shares]

    rotation = value.get("rotation") or 0
    match region:
        case "rectanglelabels":
            left, top, width, height = pixels("x", "y", "width", "height")
            right, bottom = left + width, top + height
            shape = _values.box(left, top, right, bottom)
            if rotation:
                corners = (left, top), (right, top), (right, bottom), (left, bottom)
                shape = _values.turned(corners, corners[0], _values.number(rotation, "rotation"))
        case "ellipselabels":
            x, y, across, down = pixels("x", "y", "radiusX", "radiusY")
            shape = _values.ellipse(x, y, across, down, _values.number(rotation, "rotation"))
        case "keypointlabels":
            shape = _values.point(*pixels("x", "y"))
        case "brushlabels":
            _values.check_mask((high, wide), size, is_whole=True)
            shape = _values.mask(unpack(value.get("rle"), high, wide))
        case _:
            pairs = _values.pairs(value.get("points"))
            shape = _values.polygon((x * wide / 100, y * high / 100) for x, y in pairs)
    return {**shape, "image_height": high, "image_width": wide}


def write(annotations: WrittenAnnotations) -> bytes:
    """Return tasks to import, with predictions, and with labels of people as annotations.

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
