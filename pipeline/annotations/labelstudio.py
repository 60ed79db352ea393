"""Label Studio: its JSON of tasks, with boxes, outlines, ellipses, keypoints and choices.

Of a task the annotations count that nobody has cancelled, or of several the ones that are the
ground truth; predictions are a machine's and count only with `keep_unconfirmed`. Places are percent
of the image as the annotator saw it.

Source: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.annotations import Source, _objects, _rows
from pipeline.annotations._answers import Answers, Chip
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.errors import InputError, Rejected
from pipeline.rejects import Reject

__all__ = ["LEVEL", "Params", "read", "write"]

POINT_WIDTH = 0.5
"""Percent of the image's width that a keypoint is drawn in."""


class Params(_objects.Params):
    """The settings of `annotations.format: labelstudio`; *image* is the tasks' field for images."""

    image: str = "image"
    keep_unconfirmed: bool = False


def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]:
    """Read an export; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is no JSON, or not a list of tasks.
    """
    tasks = _objects.from_json(source)
    if not isinstance(tasks, list):
        raise InputError(f"{source.name}: is no list of tasks; export them as JSON, not JSON-MIN")
    names = _objects.Names(source.keys, params.prefix)
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for place, task in enumerate(tasks):
            try:
                key, chip = _image(task, params, names, f"{source.name}:[{place}]")
            except Rejected as rejected:
                rejects.append(Reject("chip", "", rejected.reason, rejected.detail))
                continue
            for line, result in _results(task, params, f"[{place}]"):
                at = f"{source.name}:{line}"
                try:
                    for label, shape in _read(result, chip, at):
                        own = _objects.label(label, params.label_separator, at)
                        yield Object(key=key, label=own, line=line, **shape)
                except Rejected as rejected:
                    rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _image(
    task: Any, params: Params, names: _objects.Names, at: str
) -> tuple[str, dict[str, int] | None]:
    """Give the image's key: as we have put it into the task, or else by its address.

    Of a task that stages.export has made of a chip, also the chip's middle.
    """
    data = task.get("data") if isinstance(task, dict) else None
    data = data if isinstance(data, dict) else {}
    name, own, of_chip = data.get(params.image), data.get("key"), data.get("chip_key")
    if isinstance(of_chip, str) and of_chip in names.keys:
        row, col = (_rows.pixel(str(data.get(f"chip_{axis}")), axis, at) for axis in ("row", "col"))
        return of_chip, {"row": row, "col": col}
    if isinstance(own, str) and own in names.keys:
        return own, None
    if not isinstance(name, str) or not name:
        raise Rejected(
            "no_such_image", f"{at}: its data have no {params.image!r}; set annotations.image"
        )
    return names.key(name), None


def _results(task: Mapping[str, Any], params: Params, at: str) -> Iterator[tuple[str, Any]]:
    """Give what counts of a task, each with its place in the file."""
    given = [
        (f"{at}.annotations[{place}]", said)
        for place, said in enumerate(task.get("annotations") or task.get("completions") or [])
        if isinstance(said, dict) and not said.get("was_cancelled")
    ]
    truth = [(where, said) for where, said in given if said.get("ground_truth")]
    counted = truth or given
    if params.keep_unconfirmed and not counted:
        counted = [
            (f"{at}.predictions[{place}]", said)
            for place, said in enumerate(task.get("predictions") or [])
            if isinstance(said, dict)
        ][-1:]
    for where, said in counted:
        for place, result in enumerate(said.get("result") or []):
            yield f"{where}.result[{place}]", result


def _read(
    result: Any, chip: dict[str, int] | None, at: str
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give each label of one result, and the shape that it is of; *chip*: of a chip's own image."""
    kind = result.get("type") if isinstance(result, dict) else None
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        raise Rejected("unreadable_row", f"{at}: is no result with a value")
    kind = str(kind)
    region = _region(kind, value)
    if kind == "choices" and region is None:
        shape: dict[str, Any] = dict(chip or {})
    elif region is not None and chip is not None:
        raise Rejected("not_a_box", f"{at}: {kind} on the image of a chip are not read")
    elif region is not None:
        shape = _sized(result, region, value, at)
    elif isinstance(value.get(kind), list):
        raise Rejected("not_a_box", f"{at}: {kind} are not read")
    else:
        return  # a rating, a text, a relation: nothing about what a chip shows
    labels = value.get(kind)
    yield from ((label, shape) for label in (labels if isinstance(labels, list) else []) or [None])


def _region(kind: str, value: Mapping[str, Any]) -> Shape | None:
    """Give how the region of a result is read; None: it has none, or one that is not read.

    A choice for a region has the region's own value.
    """
    if kind != "choices":
        return SHAPES.get(kind)
    marks = {"points": _polygon, "radiusX": _ellipse, "height": _rectangle, "x": _keypoint}
    return next((shape for mark, shape in marks.items() if mark in value), None)


def _sized(
    result: Mapping[str, Any], shape: Shape, value: Mapping[str, Any], at: str
) -> dict[str, Any]:
    if result.get("image_rotation"):
        raise Rejected("other_size", f"{at}: the image was turned by {result['image_rotation']}°")
    height, width = (
        _rows.pixel(str(result.get(name)), name, at)
        for name in ("original_height", "original_width")
    )
    found = shape(_Percent(value, height, width, at))
    return {**found, "image_height": height, "image_width": width}


class _Percent:
    """A value's places and lengths, in pixels of the image."""

    def __init__(self, value: Mapping[str, Any], height: int, width: int, at: str) -> None:
        self.value, self.height, self.width, self.at = value, height, width, at

    def x(self, name: str) -> float:
        return number(self.value.get(name), name, self.at) * self.width / 100

    def y(self, name: str) -> float:
        return number(self.value.get(name), name, self.at) * self.height / 100

    def turned(self, corners: list[float]) -> dict[str, Any]:
        degrees = number(self.value.get("rotation") or 0, "rotation", self.at)
        about = (self.x("x"), self.y("y"))  # of a box the first corner, of an ellipse its middle
        return _objects.outlined([_objects.turned(corners, about, degrees)], self.at)


Shape = Callable[[_Percent], dict[str, Any]]


def _rectangle(of: _Percent) -> dict[str, Any]:
    left, top, width, height = of.x("x"), of.y("y"), of.x("width"), of.y("height")
    upright = _objects.box((left, top, left + width, top + height), of.at)
    if not of.value.get("rotation"):
        return dict(upright)
    return of.turned(_objects.rectangle(left, top, width, height))


def _ellipse(of: _Percent) -> dict[str, Any]:
    radii = of.x("radiusX"), of.y("radiusY")
    return of.turned(_objects.ellipse(of.x("x"), of.y("y"), *radii))


def _polygon(of: _Percent) -> dict[str, Any]:
    points = of.value.get("points")
    if not isinstance(points, list):
        raise Rejected("not_a_box", f"{of.at}: has no points")
    pairs = [point for point in points if isinstance(point, list) and len(point) == 2]  # noqa: PLR2004
    if len(pairs) < len(points):
        raise Rejected("not_a_box", f"{of.at}: its points are no pairs")
    ring = []
    for x, y in pairs:
        ring += [
            number(x, "x", of.at) * of.width / 100,
            number(y, "y", of.at) * of.height / 100,
        ]
    return _objects.outlined([ring], of.at)


def _keypoint(of: _Percent) -> dict[str, Any]:
    return dict(_objects.pixel(of.x("x"), of.y("y")))


SHAPES: dict[str, Shape] = {
    "rectanglelabels": _rectangle,
    "ellipselabels": _ellipse,
    "polygonlabels": _polygon,
    "keypointlabels": _keypoint,
}


def write(answers: Answers) -> bytes:
    """Give tasks to import: answers as predictions, people's labels as annotations, to correct.

    The labelling interface that they fit is the one of docs/annotations/labelstudio.md. Chips of
    points are keypoints at the chip's centre, other chips boxes, whole images choices.
    """
    images: dict[str, list[Chip]] = {}
    for chip in answers.rows:
        images.setdefault(chip.key, []).append(chip)
    tasks = []
    for key, chips in images.items():
        task: dict[str, Any] = {"data": {"image": f"{answers.url.rstrip('/')}/{key}", "key": key}}
        told = [chip for chip in chips if chip.score is not None and chip.answer is not None]
        if told:
            least = min(chip.score or 0.0 for chip in told)
            result = [_result(answers, chip, chip.answer, "a") for chip in told]
            score = {"score": round(least, 6), "model_version": answers.model}
            task["predictions"] = [{"result": result, **score}]
        said = [chip for chip in chips if chip.label is not None]
        if said:
            result = [_result(answers, chip, chip.label, "l") for chip in said]
            task["annotations"] = [{"result": result}]
        tasks.append(task)
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def _result(answers: Answers, chip: Chip, text: str | None, what: str) -> dict[str, Any]:
    top, left, height, width = chip.inside
    across, down = 100 / chip.image_width, 100 / chip.image_height
    labels = list(answers.split(text))
    where: dict[str, Any]
    if chip.is_whole:
        kind, name, where = "choices", "choice", {}
    elif answers.at_points:
        place = {"x": (chip.col + 0.5) * across, "y": (chip.row + 0.5) * down}
        kind, name, where = "keypointlabels", "point", {**place, "width": POINT_WIDTH}
    else:
        place = {"x": left * across, "y": top * down}
        size = {"width": width * across, "height": height * down, "rotation": 0}
        kind, name, where = "rectanglelabels", "box", {**place, **size}
    identity = f"{what} {chip.key} {chip.row} {chip.col} {chip.window}"
    result = {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:10],
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "original_width": chip.image_width,
        "original_height": chip.image_height,
        "image_rotation": 0,
        "value": {**where, kind: labels},
    }
    return result if chip.score is None or what == "l" else {**result, "score": chip.score}
