"""A recipe: everything except the input rows that shapes a row of a table.

Each stage has a `recipe.py` that says what its recipe consists of: its section of params.yaml, the
identities of its parts (weights, the version of the code, the columns) and, where floats are
computed, what of the machine decides their bits. The digest of a recipe is part of the name of
every piece in the store, so rows of different recipes are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.sections import Section
from pipeline.core.hashing import digest


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe as readable parts."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The recipe's name in the store: 64 hex digits."""
        return digest(dict(self.parts))

    def extended(self, **parts: Any) -> Recipe:
        """Return this recipe with more parts."""
        return Recipe({**self.parts, **parts})


def recipe_of(section: Section, **parts: Any) -> Recipe:
    """Return the recipe made of a whole section of params.yaml and of *parts*."""
    return Recipe({"section": section.recipe_fields(), **parts})
