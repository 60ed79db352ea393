"""Points: one square window around every annotated point, exactly where PySpacer cuts it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from pipeline.chip.methods import Place
from pipeline.config.sections import ChipParams, Positive
from pipeline.images.windows import Window, around

LEVEL = "point"


class Settings(ChipParams):
    """The settings of `chip.method: points`."""

    size: Positive = 224
    background: Annotated[int, Field(ge=0)] = 0


def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]:
    """Yield the window around the point of *place*; it may extend beyond the border."""
    if place.row is None or place.col is None:
        raise TypeError("a place without a point")
    yield place.row, place.col, around(place.row, place.col, params.size)
