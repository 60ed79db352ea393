"""Features that were computed elsewhere, looked up by key, row and column; no network runs.

`extract.weights` names a Parquet file with the columns `key`, `row`, `col` and `feature`;
`python -m stages.pyspacer_features` makes one from PySpacer's feature files.
"""

from __future__ import annotations

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import Identity
from pipeline.extract.weights import Weights, named_source

VERSION = 2

EXPORTS = False

IS_PRECOMPUTED = True
"""There is nothing to build: pipeline/extract/precomputed.py reads the file."""

source = named_source


def identity(extract: ExtractParams, weights: Weights) -> Identity:  # noqa: ARG001
    """Return what the file adds to the recipe: its digest."""
    return Identity("precomputed", "", weights.sha256, "none", VERSION)
