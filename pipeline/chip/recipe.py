"""The recipes of the chips table and of the labels table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline import images
from pipeline.chip import labels as labels_module
from pipeline.chip import methods
from pipeline.config.loader import Params
from pipeline.config.sections import ChipParams
from pipeline.core import code_version, schemas
from pipeline.images import windows
from pipeline.store.recipe import Recipe, recipe_of


def chips(chip: ChipParams) -> Recipe:
    """Return the recipe of the chips table."""
    code: dict[str, Any] = {"chips": methods.VERSION, "windows": windows.VERSION}
    code |= code_version.edited("pipeline.chip")
    part = methods.find(chip)
    if hasattr(part, "TABLES"):
        columns = (schemas.LISTED_WINDOWS, schemas.MEASUREMENTS)
        code |= {"method": part.VERSION, "tables": schemas.fingerprint(pa.unify_schemas(columns))}
    if methods.nodata(chip) is None:
        return recipe_of(chip, code=code, schema=schemas.fingerprint(schemas.CHIPS))
    code |= {"images": images.VERSION}
    return recipe_of(chip, code=code, schema=schemas.fingerprint(schemas.SCENE_CHIPS))


def labels(params: Params) -> Recipe:
    """Return the recipe of the labels table: the format of the annotations, and the split."""
    split = params.split.recipe_fields()
    if params.split.by in params.index.fields:
        split["pattern"] = params.index.pattern
    annotations = f"pipeline.annotations.{params.annotations.format}"
    edited = code_version.edited("pipeline.chip", annotations)
    return recipe_of(
        params.annotations,
        split=split,
        code={"labels": labels_module.VERSION, **edited},
        schema=schemas.fingerprint(schemas.LABELS),
    )


def requested(params: Params) -> Recipe:
    """Return both recipes as one: what DVC compares to decide whether the stage must run."""
    return Recipe({"chips": dict(chips(params.chip).parts), "labels": dict(labels(params).parts)})
