"""Whole: one window an image, all of it; the extractor's size decides how it is resized."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.chip.methods import Place, centre
from pipeline.config.sections import ChipParams
from pipeline.images.windows import Window

LEVEL = "image"


class Settings(ChipParams):
    """The settings of `chip.method: whole`: none of its own."""


def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]:  # noqa: ARG001
    """Give the window that is the image."""
    yield centre((0, 0, place.image_height, place.image_width))
