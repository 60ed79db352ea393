"""The recipe of the images table: what shapes an image's row in the index."""

from __future__ import annotations

from pipeline import images
from pipeline.config.sections import BucketParams
from pipeline.core import code_version, schemas
from pipeline.store.recipe import Recipe, recipe_of

VERSION = 1


def recipe(bucket: BucketParams) -> Recipe:
    """Return the recipe of the images table."""
    code = {"index": VERSION, "images": images.VERSION, **code_version.edited("pipeline.index")}
    return recipe_of(bucket, code=code, schema=schemas.fingerprint(schemas.HEADERS))
