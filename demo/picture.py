"""Draw the outlines and the points on the photographs, so that a person can check them."""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from demo.make_bucket import original
from demo.sample_points import POINTS, outlines, photographs_of

WIDTH = 400
ACROSS = 4
COLOURS = (
    "#e6194b",
    "#3cb44b",
    "#ffe119",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#46f0f0",
    "#f032e6",
    "#bcf60c",
    "#fabebe",
    "#008080",
    "#e6beff",
    "#9a6324",
    "#fffac8",
    "#aaffc3",
)


def draw(key: str, points: list[dict[str, str]]) -> Image.Image:
    """Draw one photograph with its regions and points, WIDTH pixels wide."""
    colour = dict(zip(photographs_of(), COLOURS, strict=True))
    with Image.open(original(key)) as opened:
        scale = WIDTH / opened.width
        picture = opened.convert("RGB").resize((WIDTH, round(opened.height * scale)))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for label, corners in outlines()[key]:
        at = [(col * scale, row * scale) for row, col in corners]
        pen.polygon(at, outline=colour[label], width=2)
        middle = tuple(sum(axis) / len(at) for axis in zip(*at, strict=True))
        pen.text(middle, label, colour[label], font, "mm", stroke_width=2, stroke_fill="black")
    for point in points:
        row, col = int(point["row"]) * scale, int(point["column"]) * scale
        pen.ellipse((col - 1.5, row - 1.5, col + 1.5, row + 1.5), fill=colour[point["label"]])
    return picture


def sheet() -> Image.Image:
    """Draw all photographs on one sheet, each where the column is shortest."""
    of_image: dict[str, list[dict[str, str]]] = defaultdict(list)
    with POINTS.open(encoding="utf-8", newline="") as stream:
        for point in csv.DictReader(stream):
            of_image[point["image"]].append(point)
    heights = [0] * ACROSS
    placed = []
    for key in outlines():
        picture = draw(key, of_image[key])
        column = heights.index(min(heights))
        placed.append((picture, (column * WIDTH, heights[column])))
        heights[column] += picture.height
    whole = Image.new("RGB", (ACROSS * WIDTH, max(heights)), "white")
    for picture, at in placed:
        whole.paste(picture, at)
    return whole


def main() -> None:
    """Save the sheet where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    sheet().save(parser.parse_args().to, quality=85)


if __name__ == "__main__":
    main()
