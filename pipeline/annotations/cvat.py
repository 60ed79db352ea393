"""CVAT: "CVAT for images 1.1", XML with images and on them boxes, outlines, masks, points, tags.

A `points` element is one chip a point. Lines, cuboids and skeletons have no pixels of their own and
are rejects, and tasks on videos (tracks) are refused by name.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _objects, _rows, _text
from pipeline.annotations._answers import AnnotatedChip, WrittenAnnotations
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.core.errors import InputError, Rejected
from pipeline.core.rejects import Reject

__all__ = ["LEVEL", "Settings", "read", "write"]

Attributes = Mapping[str, str]
NO_PIXELS = ("polyline", "cuboid", "skeleton")


class Settings(_objects.Settings):
    """The settings of `annotations.format: cvat`."""


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read an XML file; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is no XML, not CVAT's, or of a video.
    """
    names = _objects.Names(source, params.prefix)
    found: list[Object] = []
    rejects: list[Reject] = []
    image: dict[str, Any] = {}
    for line, name, attributes in _elements(source):
        at = f"{source.name}:{line}"
        try:
            if name == "image":
                image = {}
                image = _image(attributes, names, at)
            elif image and name in SHAPES:
                label = _objects.label(attributes.get("label"), params.label_separator, at)
                if name == "mask":
                    _check_mask(attributes, names.sizes.get(image["key"]), at)
                shapes = SHAPES[name](attributes, at)
                found += [Object(**image, label=label, line=line, **shape) for shape in shapes]
            elif image and name in NO_PIXELS:
                raise Rejected("not_a_box", f"{at}: a {name} has no pixels of its own")  # noqa: TRY301
        except Rejected as rejected:
            key = image.get("key", "")
            rejects.append(Reject("chip", key, rejected.reason, rejected.detail))
    return _objects.table(found, rejects)


def _elements(source: AnnotationSource) -> Iterator[tuple[int, str, Attributes]]:
    """Give the line, name and attributes of every element.

    Declarations of types and entities are refused: CVAT writes none, and an attack would.
    """
    _text.check_text(source, "unpack it and name its annotations.xml")
    parser = expat.ParserCreate()
    found: list[tuple[int, str, Attributes]] = []
    within: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if not found and name != "annotations":
            raise InputError(f"{source.name}: its root is {name!r}; CVAT's is 'annotations'")
        if name == "track":
            raise InputError(
                f"{source.name}:{parser.CurrentLineNumber}: has tracks; export the task as "
                "'CVAT for images 1.1'"
            )
        if "skeleton" not in within:  # the points of which are no points by themselves
            found.append((parser.CurrentLineNumber, name, attributes))
        within.append(name)

    def end(_: str) -> None:
        within.pop()

    def doctype(*_: Any) -> None:
        raise InputError(f"{source.name}: declares a document type, which CVAT's files do not")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(source.data, True)  # noqa: FBT003 - it is all of the file
    except (expat.ExpatError, LookupError, ValueError) as error:  # of encodings, the last two
        raise InputError(f"{source.name}: not XML: {error}") from error
    return iter(found)


def _image(attributes: Attributes, names: _objects.Names, at: str) -> dict[str, Any]:
    if not attributes.get("name"):
        raise Rejected("no_such_image", f"{at}: the image has no name")
    sides = {}
    for side in ("height", "width"):
        if side in attributes:
            sides[f"image_{side}"] = _rows.pixel(attributes[side], side, at)
    return {"key": names.key(attributes["name"]), **sides}


def _numbers(attributes: Attributes, wanted: tuple[str, ...], at: str) -> list[float]:
    return [number(attributes.get(name), name, at) for name in wanted]


def _box(attributes: Attributes, at: str) -> list[dict[str, Any]]:
    edges = _numbers(attributes, ("xtl", "ytl", "xbr", "ybr"), at)
    return [_objects.turned_box(edges, number(attributes.get("rotation", 0), "rotation", at), at)]


def _ellipse(attributes: Attributes, at: str) -> list[dict[str, Any]]:
    x, y, across, down = _numbers(attributes, ("cx", "cy", "rx", "ry"), at)
    degrees = number(attributes.get("rotation", 0), "rotation", at)
    corners = _objects.turned(_objects.ellipse(x, y, across, down), (x, y), degrees)
    return [_objects.outlined([corners], at)]


def _pairs(attributes: Attributes, at: str) -> list[list[float]]:
    pairs = [text.split(",") for text in attributes.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - x, y
        raise Rejected("not_a_box", f"{at}: points {attributes.get('points', '')!r} are no pairs")
    return [[number(value, "point", at) for value in pair] for pair in pairs]


def _polygon(attributes: Attributes, at: str) -> list[dict[str, Any]]:
    return [_objects.outlined([[value for pair in _pairs(attributes, at) for value in pair]], at)]


def _points(attributes: Attributes, at: str) -> list[dict[str, Any]]:
    return [dict(_objects.pixel(x, y)) for x, y in _pairs(attributes, at)]


def _mask(attributes: Attributes, at: str) -> list[dict[str, Any]]:
    left, top, width, height = (
        _rows.pixel(attributes.get(name, ""), name, at)
        for name in ("left", "top", "width", "height")
    )
    counts = [
        _rows.pixel(count, "run", at) for count in attributes.get("rle", "").split(",") if count
    ]
    if len(counts) % 2 == 0:  # what lies outside after the last run inside may be left out
        counts.append(max(height * width - sum(counts), 0))
    pixels = _objects.runs(counts, height * width, at).reshape(height, width)
    return [_objects.masked(pixels, top, left, at)]


def _check_mask(attributes: Attributes, image: tuple[int, int] | None, at: str) -> None:
    height, width = (
        _rows.pixel(attributes.get(name, ""), name, at) for name in ("height", "width")
    )
    _objects.check_mask((height, width), image, at, is_whole=False)


def _tag(attributes: Attributes, at: str) -> list[dict[str, Any]]:  # noqa: ARG001
    return [{}]


SHAPES: dict[str, Callable[[Attributes, str], list[dict[str, Any]]]] = {
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
    "points": _points,
    "polygon": _polygon,
    "tag": _tag,
}


def write(answers: WrittenAnnotations) -> bytes:
    """Give "CVAT for images 1.1": a box for every chip, a tag where it is the whole image."""
    images: dict[str, list[AnnotatedChip]] = {}
    for chip in answers.rows:
        images.setdefault(chip.key, []).append(chip)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    for place, (key, chips) in enumerate(images.items()):
        size = {"width": chips[0].image_width, "height": chips[0].image_height}
        head = _attributes({"id": place, "name": answers.name(key), **size})
        said = [_element(chip, label) for chip in chips for label in answers.split(chip.answer)]
        lines += [f"  <image{head}>", *said, "  </image>"]
    return "\n".join([*lines, "</annotations>", ""]).encode()


def _attributes(values: Mapping[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items())


def _element(chip: AnnotatedChip, label: str) -> str:
    said = {"label": label, "source": "manual" if chip.score is None else "auto"}
    top, left, height, width = chip.inside
    if chip.is_whole:
        return f"    <tag{_attributes(said)}></tag>"
    edges = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
    return f"    <box{_attributes({**said, **edges, 'occluded': 0, 'z_order': 0})}></box>"
