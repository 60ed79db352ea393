"""Boxes: one chip for each annotated object, its box or a square around its middle.

A box is cut off at the image's border. Without a `size`, chips have the sizes of their boxes.
"""

from __future__ import annotations

from pipeline.config.sections import ChipParams, Positive

LEVEL = "object"


class Settings(ChipParams):
    """The settings of `chip.method: boxes`; `size` is in pixels."""

    size: Positive | None = None
