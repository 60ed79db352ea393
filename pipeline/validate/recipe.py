"""The recipe of the results."""

from __future__ import annotations

from pipeline.annotations import label_separator
from pipeline.config.loader import Params
from pipeline.core import code_version
from pipeline.store.recipe import Recipe, recipe_of
from pipeline.validate import baselines

VERSION = 7
"""Of the analyses and the report: raise it when the same predictions give other results."""


def recipe(params: Params) -> Recipe:
    """Return the recipe of the results.

    Raises:
        SettingError: `validate.compare` names something that is no classifier.
    """
    results = recipe_of(params.validate, code={"results": VERSION})
    if params.validate.compare:
        digests = {name: baselines.digest_of(name) for name in params.validate.compare}
        results = results.extended(baselines=digests)
    separator = label_separator(params.annotations)
    return results if separator is None else results.extended(label_separator=separator)


def shown(params: Params) -> dict[str, object]:
    """Return what the report shows of this run: the code, and all settings that shape rows."""
    return {"code": code_version.tree(), "params": params.recipe_fields()}


def requested(params: Params) -> Recipe:
    """Return the recipe and what the report shows: if either changes, DVC runs the stage again."""
    return Recipe({"results": dict(recipe(params).parts), "shown": shown(params)})
