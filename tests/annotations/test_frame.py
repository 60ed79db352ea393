"""Places in images as their EXIF orientation displays them, against Pillow's turned images."""

import io
import json
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from annotation_files import labelled, task
from hypothesis import given
from hypothesis import strategies as st
from image_files import EXTRACT, encoded, exif_of, header_and_bytes_read
from PIL import Image, ImageOps

from pipeline import annotations
from pipeline.annotations import AnnotationSource, _frame, cvat, labelstudio, points
from pipeline.annotations._merge import to_table
from pipeline.annotations._objects import AnnotatedObject
from pipeline.annotations._values import mask, polygon
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.commands.annotate import encode
from pipeline.core import schemas
from pipeline.images.decode import decode_image

HEIGHT, WIDTH = 24, 40
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
ORIENTATIONS = range(1, 9)


def jpeg(orientation):
    """Return a JPEG with this orientation, every block of 8 × 8 pixels in another colour."""
    options = {"quality": 100, "subsampling": 0, "exif": exif_of(t274=orientation)}
    return encoded(Image.fromarray(PIXELS), "JPEG", **options)


def image(orientation):
    """Return the pixels of the JPEG, as they are stored."""
    return decode_image(jpeg(orientation), EXTRACT)


def displayed(pixels, orientation):
    """Return pixels turned by Pillow as it displays an image with this orientation."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


def images(orientation):
    rows = [{"key": "a.jpg", "version": "1", "height": HEIGHT, "width": WIDTH}]
    rows.append({**rows[0], "key": "plain.jpg", "orientation": 1})
    rows[0]["orientation"] = orientation
    return pa.Table.from_pylist(rows, schema=schemas.IMAGES)


def stored(rows, orientation):
    table = to_table([AnnotatedObject(**{"label": "x", "line": 1, **row}) for row in rows], SCHEMA)
    moved, rejects = _frame.to_stored(table, images(orientation), "f.json")
    return moved.to_pylist(), rejects


SCHEMA = schemas.OBJECTS


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_is_stored_and_displayed_as_assumed_here(orientation):
    header, _ = header_and_bytes_read(jpeg(orientation))
    assert (header["orientation"], header["height"], header["width"]) == (orientation, 24, 40)
    by_pillow = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg(orientation)))))
    assert (displayed(image(orientation), orientation) == by_pillow).all()
    assert by_pillow.shape[:2] == _frame.displayed_size((24, 40), orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_point_of_the_displayed_image_is_on_the_same_pixel_of_the_stored_one(orientation):
    pixels = image(orientation)
    shown = displayed(pixels, orientation)
    places = [(r, c) for r in range(0, shown.shape[0], 7) for c in range(0, shown.shape[1], 7)]
    places.append((shown.shape[0] - 1, shown.shape[1] - 1))
    rows = [{"key": "a.jpg", "row": row, "col": col} for row, col in places]
    numbered = [{**row, "line": str(number)} for number, row in enumerate(rows)]
    moved, rejects = stored(numbered, orientation)
    assert not rejects
    for row in moved:
        assert (pixels[row["row"], row["col"]] == shown[places[int(row["line"])]]).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_box_and_a_mask_of_the_displayed_image_turn_with_it(orientation):
    pixels = image(orientation)
    shown = displayed(pixels, orientation)
    where = RNG.random(shown.shape[:2]) < 0.1
    where[:3], where[:, :5] = False, False
    (row,), _ = stored([{"key": "a.jpg", **mask(where)}], orientation)
    top, left, height, width = (row[side] for side in _frame.WINDOW)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=height * width)
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    whole[top : top + height, left : left + width] = bits.reshape(height, width)
    assert (displayed(whole, orientation) == where).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_outline_of_the_displayed_image_surrounds_the_same_pixels(orientation):
    high, wide = _frame.displayed_size((HEIGHT, WIDTH), orientation)
    corners = [(1.2, 3.3), (wide - 2.1, 0.4), (wide - 8.3, high - 4.2), (6.7, high / 2 + 0.2)]
    (row,), _ = stored([{"key": "a.jpg", **polygon(corners)}], orientation)
    moved = np.reshape(row["outline"][0], (-1, 2))
    covered = inside(moved, HEIGHT, WIDTH)
    assert covered.sum() > 100
    assert (displayed(covered, orientation) == inside(corners, high, wide)).all()
    top, left, height, width = (row[side] for side in _frame.WINDOW)
    rows, cols = np.nonzero(covered)
    assert top <= rows.min() <= rows.max() < top + height
    assert left <= cols.min() <= cols.max() < left + width


def inside(corners, height, width):
    """Return which pixels have their middle on the same side of all edges of a convex outline."""
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    sides = [
        (x2 - x1) * (rows - y1) - (y2 - y1) * (cols - x1) > 0
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return (np.all(sides, axis=0) | ~np.any(sides, axis=0)).astype(np.uint8)


def test_images_without_an_orientation_and_unknown_ones_are_left_alone():
    rows = [{"key": key, "row": 1, "col": 2} for key in ("plain.jpg", "unknown.jpg")]
    assert [(row["row"], row["col"]) for row in stored(rows, 6)[0]] == [(1, 2), (1, 2)]


@given(
    window=st.tuples(*[st.integers(-50, 50)] * 2, *[st.integers(1, 50)] * 2),
    orientation=st.integers(1, 8),
)
def test_what_is_displayed_and_stored_again_is_the_same(window, orientation):
    size = (HEIGHT, WIDTH)
    shown = _frame.displayed_window(window, size, orientation)
    assert _frame.stored_window(shown, size, orientation) == window


def test_a_point_outside_the_displayed_image_is_a_reject_that_names_it_as_it_is_in_the_file():
    _, (reject,) = stored([{"key": "a.jpg", "row": 40, "col": 3}], 6)
    assert (reject.reason, reject.row, reject.col) == ("points_outside", 40, 3)
    assert reject.detail == "f.json:1: (40, 3) lies outside a.jpg, which is displayed as 40 × 24"


def test_the_stored_size_in_a_file_of_the_displayed_frame_is_a_reject():
    _, (reject,) = stored(
        [{"key": "a.jpg", "image_height": 24, "image_width": 40, "row": 1, "col": 1}], 6
    )
    assert reject.reason == "other_size"
    assert reject.detail == (
        "f.json:1: a.jpg is 24 × 40 here, and its EXIF orientation displays it as 40 × 24; it was "
        "scaled, or annotations.frame should be stored"
    )


def test_the_frame_is_the_formats_unless_it_is_set():
    frames = {
        name: annotations.default_frame(name)
        for name in (
            "points",
            "coralnet",
            "mermaid",
            "squidle",
            "boxes",
            "coco",
            "cvat",
            "labelstudio",
        )
    }
    turned = {name for name, frame in frames.items() if frame == "displayed"}
    assert turned == {"cvat", "labelstudio"}
    settings = cvat.Settings(format="cvat", path="x", frame="stored")
    assert annotations.frame(settings) == "stored"


@pytest.mark.parametrize("frame", [None, "stored", "displayed"])
def test_turned_images_with_places_are_counted_and_named(caplog, frame):
    caplog.set_level(logging.INFO)
    params = points.Settings(format="points", path="p.csv", frame=frame)
    keys = [f"{number}.jpg" for number in range(5)]
    rows = [{"key": key, "version": "1", "height": 9, "width": 9, "orientation": 6} for key in keys]
    table = pa.Table.from_pylist(rows, schema=schemas.IMAGES)
    places = [{"key": key, "row": 1, "col": 1, "line": "1"} for key in keys[1:]]
    _frame.report_turned(pa.Table.from_pylist(places, schema=schemas.ANNOTATIONS), table, params)
    (record,) = caplog.records
    said = (
        "chip: 4 images with annotations have an EXIF orientation, such as 1.jpg, 2.jpg, 3.jpg; "
        f"rows and columns are read as those of the {frame or 'stored'} image"
    )
    if frame is None:
        said += ", as in points; annotations.frame says which"
    assert record.getMessage() == said
    assert record.levelno == (logging.WARNING if frame is None else logging.INFO)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("part", [cvat, labelstudio])
def test_what_is_written_for_a_tool_that_shows_turned_images_is_read_again(part, orientation):
    name = part.__name__.rpartition(".")[2]
    params = (
        part.Settings(format=name, path="x", keep_unconfirmed=True)
        if (part is labelstudio)
        else part.Settings(format=name, path="x")
    )
    window = (3, 5, 7, 11)
    chip = AnnotatedChip("a.jpg", 6, 10, window, HEIGHT, WIDTH, "x", "x", 0.9, orientation)
    data = encode(name, WrittenAnnotations(rows=[chip]), params)
    turned = {"a.jpg": orientation}
    source = AnnotationSource("f", data, ["a.jpg"], [(HEIGHT, WIDTH)], turned)
    table, rejects = part.read(source, params)
    assert not rejects
    moved, rejects = _frame.to_stored(table, images(orientation), "f")
    assert not rejects
    assert [tuple(row[side] for side in _frame.WINDOW) for row in moved.to_pylist()] == [window]
    stored_params = params.model_copy(update={"frame": "stored"})
    assert encode(name, WrittenAnnotations(rows=[chip]), stored_params) == encode(
        name, WrittenAnnotations(rows=[replace(chip, orientation=1)]), stored_params
    )


def test_a_chip_that_was_exported_for_label_studio_keeps_its_place():
    made = task(labelled("choices", ["x"], {}))
    made["data"] |= {"chip_key": "a.jpg", "chip_row": 6, "chip_col": 10}
    params = labelstudio.Settings(format="labelstudio", path="x")
    source = AnnotationSource(
        "f", json.dumps([made]).encode(), ["a.jpg"], [(HEIGHT, WIDTH)], {"a.jpg": 6}
    )
    table, rejects = labelstudio.read(source, params)
    assert not rejects
    (row,) = _frame.to_stored(table, images(6), "f")[0].to_pylist()
    assert (row["row"], row["col"]) == (6, 10)
