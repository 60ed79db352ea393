"""CoralNet: PySpacer's EfficientNet-B0; with PySpacer's weights it returns PySpacer's features.

Pixels are only scaled to 0 … 1. Chips are 224 pixels wide, cut by `chip.method: points`.
"""

from __future__ import annotations

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import Extractor, Identity
from pipeline.extract.weights import Weights, apply, load, named_source

VERSION = 1

source = named_source


def identity(extract: ExtractParams, weights: Weights) -> Identity:  # noqa: ARG001
    """Return what the network adds to the recipe."""
    return Identity("coralnet", "efficientnet_b0", weights.sha256, "0 to 1, 224 px", VERSION)


def build(extract: ExtractParams, weights: Weights) -> Extractor:  # noqa: ARG001
    """Build the network."""
    import torch

    from pipeline.extract.extractors._efficientnet import CoralNet

    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        network = CoralNet()
    apply(network, load(weights), head=["_fc."], name=str(weights.path))
    return network.eval()
