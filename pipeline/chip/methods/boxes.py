"""Boxes: one chip an annotated object, its own window or a square around its middle.

A window is what of the object's box lies in the image. Without a `size` chips have many sizes.
"""

from __future__ import annotations

from pipeline.config.sections import ChipParams, Positive

LEVEL = "object"


class Settings(ChipParams):
    """The settings of `chip.method: boxes`; *size* in pixels: squares; null: the boxes."""

    size: Positive | None = None
