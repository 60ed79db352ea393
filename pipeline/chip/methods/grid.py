"""Grid: square windows at equal steps over the whole image, with one of three rules at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import field_validator

from pipeline.chip.methods import Place, centre
from pipeline.config.sections import MASK_FIELDS, ChipParams, NoData, Positive, Share
from pipeline.config.templates import template
from pipeline.images.windows import Window

LEVEL = "image"


class Settings(ChipParams):
    """The settings of `chip.method: grid`."""

    size: Positive = 224
    stride: Positive | None = None
    edge: Literal["drop", "pad", "shift"] = "shift"
    nodata: NoData | None = None
    max_nodata: Share = 1.0

    NOT_IN_RECIPE = frozenset({"max_rejects", "max_nodata"})

    @field_validator("nodata")
    @classmethod
    def _is_alpha_or_keys_of_masks(cls, nodata: NoData | None) -> NoData | None:
        if isinstance(nodata, str) and nodata != "alpha":
            template(nodata, dict.fromkeys(MASK_FIELDS, ""))
        return nodata


def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]:
    """Yield the windows row by row; without a stride they touch and do not overlap."""
    for top in _starts(place.image_height, params):
        for left in _starts(place.image_width, params):
            yield centre((top, left, params.size, params.size))


def _starts(length: int, params: Settings) -> list[int]:
    """Return the first pixel of each window along an axis of *length* pixels.

    drop: only windows that are wholly inside; the pixels left at the far edge are in no window.
    pad: windows continue until every pixel is covered, and the last one extends beyond the border.
    shift: like pad, but the last window is moved back inside, so that it overlaps its neighbour.
        It extends beyond the border only in an image that is smaller than a window.
    """
    step = params.stride or params.size
    last = length - params.size
    inside = list(range(0, last + 1, step))
    covered = inside[-1] + params.size if inside else 0
    if params.edge == "drop" or covered >= length:
        return inside
    if params.edge == "shift":
        return [*inside, max(last, 0)]
    start = inside[-1] + step if inside else 0
    return [*inside, start] if start < length else inside
