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

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _objects, _regions, _rows
from pipeline.annotations._answers import AnnotatedChip, WrittenAnnotations
from pipeline.annotations._objects import LEVEL, Object
from pipeline.core.errors import InputError, Rejected, shorten
from pipeline.core.rejects import Reject

__all__ = ["LEVEL", "Settings", "read", "write"]

SIDES = ("original_height", "original_width")
POINT_WIDTH = 0.5
"""Percent of the image's width that a keypoint is drawn in."""


class Settings(_objects.Settings):
    """The settings of `annotations.format: labelstudio`.

    *image* is the tasks' field for images, *label* the control of the labelling interface whose
    labels count; null: those of all.
    """

    image: str = "image"
    label: str | None = None
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read an export; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is no JSON, not a list of tasks, or nothing is of the control asked for.
    """
    tasks = _objects.from_json(source)
    if not isinstance(tasks, list) or (tasks and not any(map(_is_task, tasks))):
        raise InputError(f"{source.name}: is no list of tasks; export them as JSON, not JSON-MIN")
    _check_control(tasks, params, source)
    names = _objects.Names(source, params.prefix)
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for place, task in enumerate(tasks):
            try:
                key, chip = _image(task, params, names, f"{source.name}:[{place}]")
            except Rejected as rejected:
                rejects.append(Reject("chip", "", rejected.reason, rejected.detail))
                continue
            told = list(_results(task, params, f"[{place}]"))
            others = _others(told, params.image)
            size = names.sizes.get(key)
            for line, result in told:
                at = f"{source.name}:{line}"
                try:
                    _check_image(result, others, params.image, at)
                    for label, shape in _read(result, chip, size, at):
                        own = _objects.label(label, params.label_separator, at)
                        yield Object(key=key, label=own, line=line, **shape)
                except Rejected as rejected:
                    rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _is_task(task: Any) -> bool:
    """Say whether it is a task; what JSON-MIN has tells neither choices from data nor why."""
    return isinstance(task, dict) and "data" in task


def _check_control(tasks: list[Any], params: Settings, source: AnnotationSource) -> None:
    """See that something is of the control whose labels are to count: its name may be mistyped."""
    if params.label is None:
        return
    results = [
        result
        for task in tasks
        if isinstance(task, dict)
        for name in ("annotations", "completions", "predictions")
        for said in _list(task, name)
        if isinstance(said, dict)
        for result in _list(said, "result")
    ]
    found = {str(result.get("from_name")) for result in results if isinstance(result, dict)}
    if found and params.label not in found:
        listed = shorten(", ".join(sorted(found - {"None"})), _objects.SHOWN)
        raise InputError(
            f"{source.name}: no result is of the control {params.label!r}, which annotations.label "
            f"names; there are {listed}"
        )


def _image(
    task: Any, params: Settings, names: _objects.Names, at: str
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


def _results(task: Mapping[str, Any], params: Settings, at: str) -> Iterator[tuple[str, Any]]:
    """Give what counts of a task, each with its place in the file."""
    given = [
        (f"{at}.annotations[{place}]", said)
        for place, said in enumerate(_list(task, "annotations") or _list(task, "completions"))
        if isinstance(said, dict) and not said.get("was_cancelled")
    ]
    truth = [(where, said) for where, said in given if said.get("ground_truth")]
    counted = truth or given
    if params.keep_unconfirmed and not counted:
        counted = [
            (f"{at}.predictions[{place}]", said)
            for place, said in enumerate(_list(task, "predictions"))
            if isinstance(said, dict)
        ][-1:]
    for where, said in counted:
        for place, result in enumerate(_list(said, "result")):
            name = result.get("from_name") if isinstance(result, dict) else None
            if params.label is None or params.label == name:
                yield f"{where}.result[{place}]", result


def _others(told: list[tuple[str, Any]], image: str) -> set[str]:
    """Give the names of a task's images that are not *image*, where it has several.

    A result says by a name of the labelling interface which image it is of, and what the interface
    calls by that name stands in no export: it must be what *image* is called.
    """
    sized = [result for _, result in told if isinstance(result, dict) and SIDES[0] in result]
    shown = {str(result["to_name"]) for result in sized if "to_name" in result}
    return shown - {image} if len(shown) > 1 else set()


def _check_image(result: Any, others: set[str], image: str, at: str) -> None:
    name = str(result.get("to_name", "")) if isinstance(result, dict) else ""
    if name in others:
        what = (
            f"is of the image {shorten(name, _objects.SHOWN)!r}, and annotations.image is {image!r}"
        )
        raise Rejected("not_a_box", f"{at}: {what}")


def _list(of: Mapping[str, Any], name: str) -> list[Any]:
    """Give a list; what is none, as in a file that something has mangled, as one of one."""
    found = of.get(name) or []
    return found if isinstance(found, list) else [found]


def _read(
    result: Any, chip: dict[str, int] | None, size: tuple[int, int] | None, at: str
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give each label of one result, and the shape that it is of; *chip*: of a chip's own image.

    *size* is the image's in the index, if it is there.
    """
    kind = result.get("type") if isinstance(result, dict) else None
    value = result.get("value") if isinstance(result, dict) else None
    if kind == "relation":
        return  # between two regions, which have labels of their own
    if not isinstance(value, dict):
        raise Rejected("unreadable_row", f"{at}: is no result with a value")
    kind = str(kind)
    region = _regions.region(kind, value)
    if kind == "choices" and region is None:
        shape: dict[str, Any] = dict(chip or {})
    elif region is not None and chip is not None:
        raise Rejected("not_a_box", f"{at}: {kind} on the image of a chip are not read")
    elif region is not None:
        shape = _sized(result, region, size, at)
    elif isinstance(value.get(kind), list):
        raise Rejected("not_a_box", f"{at}: {kind} are not read")
    else:
        return  # a rating, a text, a relation: nothing about what a chip shows
    labels = value.get(kind)
    labels = [labels] if isinstance(labels, str) else labels
    yield from ((label, shape) for label in (labels if isinstance(labels, list) else []) or [None])


def _sized(
    result: Mapping[str, Any], shape: _regions.Shape, size: tuple[int, int] | None, at: str
) -> dict[str, Any]:
    """Give a region in pixels of its image, of the *size* in the index where it states none."""
    if result.get("image_rotation"):
        raise Rejected("other_size", f"{at}: the image was turned by {result['image_rotation']}°")
    if any(side in result for side in SIDES):
        height, width = (_rows.pixel(str(result.get(side)), side, at) for side in SIDES)
    elif size is not None:
        height, width = size
    else:
        raise Rejected("no_such_image", f"{at}: states no size, and its image is not in the index")
    if shape is _regions.painted:
        _objects.check_mask((height, width), size, at, is_whole=True)
    found = shape(_regions.Percent(result["value"], height, width, at))
    return {**found, "image_height": height, "image_width": width}


def write(answers: WrittenAnnotations) -> bytes:
    """Give tasks to import: answers as predictions, people's labels as annotations, to correct.

    The labelling interface that they fit is the one of docs/annotations/labelstudio.md. Chips of
    points are keypoints at the chip's centre, other chips boxes, whole images choices.
    """
    images: dict[str, list[AnnotatedChip]] = {}
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


def _result(
    answers: WrittenAnnotations, chip: AnnotatedChip, text: str | None, what: str
) -> dict[str, Any]:
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
