"""CVAT: "CVAT for images 1.1", XML with images and on them boxes, outlines, masks, points, tags.

Each point of a `points` element is a chip. Lines, cuboids and skeletons have no pixels and are
rejects; tasks on videos (tracks) are an error.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from pipeline.annotations import Annotations, AnnotationSource, ObjectSettings, _rows, _values
from pipeline.annotations._objects import Objects
from pipeline.annotations._values import Shape, numbers, pixel
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.core.errors import InputError, Rejected

LEVEL = "object"
FRAME = "displayed"

Attributes = Mapping[str, str]
DEEPEST = 32
"""Elements inside one another; CVAT's are at most 5."""

SHAPES = {"box", "ellipse", "mask", "points", "polygon", "tag", "polyline", "cuboid", "skeleton"}

Settings = ObjectSettings


def read(source: AnnotationSource, settings: ObjectSettings) -> Annotations:
    """Read an XML file; raise InputError if it is not XML, not CVAT's, or of a video."""
    objects = Objects(source, settings)
    key, stated = "", dict[str, int]()
    for line, element, attributes in _elements(source):
        if element == "image":
            key, stated = "", {}
        with objects.at(key, line):
            if element == "image":
                if not attributes.get("name"):
                    raise Rejected("no_such_image", "the image has no name")
                sides = [side for side in ("height", "width") if side in attributes]
                stated = {f"image_{side}": pixel(attributes[side], side) for side in sides}
                key = objects.names.key(attributes["name"])
            elif key and element in SHAPES:
                size = objects.names.sizes.get(key)
                for shape in _shapes_of(element, attributes, size):
                    objects.add(attributes.get("label"), **stated, **shape)
    return objects.result()


def _elements(source: AnnotationSource) -> list[tuple[int, str, Attributes]]:
    """Return the line, name and attributes of every element.

    A document type is an error: CVAT writes none, and its entities could be an attack.
    """
    _rows.check_text(source, "unpack it and name its annotations.xml")
    parser = expat.ParserCreate()
    elements: list[tuple[int, str, Attributes]] = []
    around: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        line = parser.CurrentLineNumber
        if not elements and name != "annotations":
            raise InputError(f"{source.name}: its root is {name!r}; CVAT's root is 'annotations'")
        if name == "track":
            what = "has tracks; export the task as 'CVAT for images 1.1'"
            raise InputError(f"{source.name}:{line}: {what}")
        if len(around) == DEEPEST:
            what = f"elements are nested more than {DEEPEST} deep; this is no file of CVAT"
            raise InputError(f"{source.name}:{line}: {what}")
        if "skeleton" not in around:  # whose points are not annotations
            elements.append((line, name, attributes))
        around.append(name)

    def doctype(*_: Any) -> None:
        raise InputError(f"{source.name}: declares a document type, which CVAT's files do not")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: around.pop()
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(source.data, True)  # noqa: FBT003 - it is all of the file
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: of its encoding
        raise InputError(f"{source.name}: not XML: {error}") from error
    return elements


def _shapes_of(element: str, attributes: Attributes, size: tuple[int, int] | None) -> list[Shape]:
    """Return the shapes of an element on an image of this *size* in the index."""
    values = {"rotation": 0, **attributes}
    match element:
        case "box":
            return [_values.box(*numbers(values, "xtl", "ytl", "xbr", "ybr", "rotation"))]
        case "ellipse":
            return [_values.ellipse(*numbers(values, "cx", "cy", "rx", "ry", "rotation"))]
        case "points" | "polygon":
            pairs = [text.split(",") for text in attributes.get("points", "").split(";")]
            corners = _values.pairs(pairs)
            if element == "polygon":
                return [_values.polygon(corners)]
            return [_values.point(x, y) for x, y in corners]
        case "mask":
            return [_mask(attributes, size)]
        case "tag":
            return [{}]
    raise Rejected("not_a_box", f"a {element} has no pixels")


def _mask(attributes: Attributes, size: tuple[int, int] | None) -> Shape:
    sides = {name: attributes.get(name, "") for name in ("height", "width", "left", "top")}
    height, width, left, top = (pixel(value, name) for name, value in sides.items())
    _values.check_mask((height, width), size, is_whole=False)
    runs = [pixel(run, "run") for run in attributes.get("rle", "").split(",") if run]
    if len(runs) % 2 == 0:  # some programs leave out the last run, which is outside
        runs.append(max(height * width - sum(runs), 0))
    return _values.mask(_values.unpacked(runs, height, width), top, left)


def write(annotations: WrittenAnnotations) -> bytes:
    """Return "CVAT for images 1.1": a box for every chip, a tag where it is the whole image."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    for at, (key, (high, wide), chips) in enumerate(annotations.images()):
        head = {"id": at, "name": annotations.name(key), "width": wide, "height": high}
        elements = [_element(chip, name) for chip, name in annotations.labelled(chips)]
        lines += [f"  <image{_attributes(head)}>", *elements, "  </image>"]
    return "\n".join([*lines, "</annotations>", ""]).encode()


def _element(chip: AnnotatedChip, name: str) -> str:
    values = {"label": name, "source": "manual" if chip.score is None else "auto"}
    if chip.is_whole:
        return f"    <tag{_attributes(values)}></tag>"
    top, left, height, width = chip.inside
    edges = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
    return f"    <box{_attributes({**values, **edges, 'occluded': 0, 'z_order': 0})}></box>"


def _attributes(values: Mapping[str, Any]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items())
