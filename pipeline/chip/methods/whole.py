"""Whole: one window for each image, all of it, which is resized to the extractor's size."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.chip.methods import Place, centre
from pipeline.config.sections import ChipParams
from pipeline.images.windows import Window

LEVEL = "image"


class Settings(ChipParams):
    """The settings of `chip.method: whole`: none besides those of every method."""


def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]:  # noqa: ARG001
    """Yield the window that is the whole image."""
    yield centre((0, 0, place.image_height, place.image_width))
