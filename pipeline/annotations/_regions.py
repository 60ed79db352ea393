"""Label Studio's regions: places in percent of an image → windows, outlines and pixels of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.annotations import _objects, _packed
from pipeline.annotations._objects import number
from pipeline.core.errors import Rejected


class Percent:
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


Shape = Callable[[Percent], dict[str, Any]]


def _rectangle(of: Percent) -> dict[str, Any]:
    left, top, width, height = of.x("x"), of.y("y"), of.x("width"), of.y("height")
    upright = _objects.box((left, top, left + width, top + height), of.at)
    if not of.value.get("rotation"):
        return dict(upright)
    return of.turned(_objects.rectangle(left, top, width, height))


def _ellipse(of: Percent) -> dict[str, Any]:
    radii = of.x("radiusX"), of.y("radiusY")
    return of.turned(_objects.ellipse(of.x("x"), of.y("y"), *radii))


def _polygon(of: Percent) -> dict[str, Any]:
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


def painted(of: Percent) -> dict[str, Any]:
    try:
        pixels = _packed.unpack(of.value.get("rle"), of.height, of.width)
    except ValueError as error:
        raise Rejected("not_a_box", f"{of.at}: what was painted {error}") from error
    return _objects.masked(pixels, 0, 0, of.at)


def _keypoint(of: Percent) -> dict[str, Any]:
    return dict(_objects.pixel(of.x("x"), of.y("y")))


SHAPES: dict[str, Shape] = {
    "rectanglelabels": _rectangle,
    "ellipselabels": _ellipse,
    "polygonlabels": _polygon,
    "keypointlabels": _keypoint,
    "brushlabels": painted,
}


def region(kind: str, value: Mapping[str, Any]) -> Shape | None:
    """Give how the region of a result is read; None: it has none, or one that is not read.

    A choice, or a label of a `Labels` tag, for a region has the region's own value.
    """
    if kind not in {"choices", "labels"}:
        return SHAPES.get(kind)
    marks = {
        "rle": painted,
        "points": _polygon,
        "radiusX": _ellipse,
        "height": _rectangle,
        "x": _keypoint,
    }
    return next((shape for mark, shape in marks.items() if mark in value), None)
