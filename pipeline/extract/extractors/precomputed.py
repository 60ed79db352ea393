"""Features that were computed elsewhere, looked up by key, row and column; no network runs.

`extract.weights` names the Parquet file, with columns `key`, `row`, `col` and `feature`;
`python -m stages.pyspacer_features` makes one of PySpacer's feature files.
"""

from __future__ import annotations

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import Identity, named_source
from pipeline.extract.weights import Weights, required

VERSION = 2

EXPORTS = False

IS_PRECOMPUTED = True
"""Read by pipeline/extract/precomputed.py: there is nothing to build."""


source = named_source


def identity(extract: ExtractParams, weights: Weights | None) -> Identity:
    """Say what the table adds to a recipe: its digest."""
    if weights is None:
        raise required(extract.extractor)
    return Identity("precomputed", "", weights.sha256, "none", VERSION)
