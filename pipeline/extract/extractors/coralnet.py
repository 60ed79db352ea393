"""CoralNet: PySpacer's EfficientNet-B0, which gives PySpacer's features from PySpacer's weights.

Pixels are only brought to 0 … 1; chips are 224 pixels wide, cut by `chip.method: points`.
"""

from __future__ import annotations

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import Extractor, Identity, named_source
from pipeline.extract.weights import Weights, apply, load, required

VERSION = 1


source = named_source


def identity(extract: ExtractParams, weights: Weights | None) -> Identity:
    """Say what the network adds to a recipe."""
    if weights is None:
        raise required(extract.extractor)
    return Identity("coralnet", "efficientnet_b0", weights.sha256, "0 to 1, 224 px", VERSION)


def build(extract: ExtractParams, weights: Weights | None) -> Extractor:
    """Build the network; see pipeline/extract/extractors/__init__.py."""
    import torch

    from pipeline.extract.extractors._efficientnet import CoralNet

    if weights is None:
        raise required(extract.extractor)
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        network = CoralNet()
    apply(network, load(weights), head=["_fc."], name=str(weights.path))
    return network.eval()
