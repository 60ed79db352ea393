"""The recipe of the results."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.annotations import label_separator
from pipeline.config.loader import Params
from pipeline.core import code_version
from pipeline.core.errors import SettingError
from pipeline.store.recipe import Recipe, recipe_of
from pipeline.validate import baselines

VERSION = 11
"""Of the analyses and the report: raise it when the same predictions give other results."""


def recipe(params: Params) -> Recipe:
    """Return the recipe of the results.

    Raises:
        SettingError: `validate.compare` names something that is no classifier, or `validate.sweep`
            no file.
    """
    code = {"results": VERSION, **code_version.edited("pipeline.validate")}
    results = recipe_of(params.validate, code=code)
    if params.validate.compare:
        digests = {name: baselines.digest_of(name) for name in params.validate.compare}
        results = results.extended(baselines=digests)
    if params.validate.sweep:
        results = results.extended(sweep=_sha256(params.validate.sweep))
    separator = label_separator(params.annotations)
    return results if separator is None else results.extended(label_separator=separator)


def _sha256(sweep: str) -> str:
    try:
        return hashlib.sha256(Path(sweep).read_bytes()).hexdigest()
    except OSError as error:
        raise SettingError(
            f"validate.sweep: {sweep}: cannot be read ({error.strerror}); python -m stages.sweep "
            "writes it"
        ) from error


def data_set(params: Params) -> str:
    """Return the title of the report: `validate.title`, or the bucket's name.

    A path in the checkout is the same on every machine. Of another one only the last part is shown.
    """
    scheme, _, path = params.bucket.url.rstrip("/").rpartition("://")
    is_portable = scheme == "s3" or not (scheme or path.startswith("/"))
    return params.validate.title or (path if is_portable else path.rpartition("/")[2])


def shown(params: Params) -> dict[str, object]:
    """Return what the report shows: the data set, and all settings that shape rows."""
    return {"data_set": data_set(params), "params": params.recipe_fields()}


def requested(params: Params) -> Recipe:
    """Return the recipe and what the report shows: if either changes, DVC runs the stage again."""
    return Recipe({"results": dict(recipe(params).parts), "shown": shown(params)})
