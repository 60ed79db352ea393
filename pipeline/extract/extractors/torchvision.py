"""torchvision/NAME: any of torchvision's classification models, up to its last linear layer.

A feature is the input of the model's last linear layer; SqueezeNet has none, and its feature is the
pooled output of its `features`. Chips are brought to the size, mean and deviation that the weights
are for. `extract.weights` is one of torchvision's names (`DEFAULT`, `IMAGENET1K_V1`; null is
`DEFAULT`), or a path, `s3://` or `https://` to weights of the same layout.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.machine import Machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import SettingError
from pipeline.extract.extractors import Extractor, Identity, in_whole_vectors
from pipeline.extract.weights import Weights, WeightsSource, apply, load, named_source

if TYPE_CHECKING:
    import torch
    from torch import nn

VERSION = 1

HOME = "https://download.pytorch.org/models"
ENUM_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of GoogLeNet and Inception that only training uses."""

TRAINING_ONLY = {"googlenet", "inception_v3"}

OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
"""Names in torchvision's published files of DenseNet and ViT that its code has changed since.

Source: torchvision 0.29, `densenet.py: _load_state_dict`, `vision_transformer.py: MLPBlock`.
"""


def source(extract: ExtractParams, machine: Machine) -> WeightsSource:
    """Return where the weights are: at torchvision's address, or at the mirror's instead."""
    name = extract.weights or "DEFAULT"
    if not ENUM_NAME.fullmatch(name):
        return named_source(extract, machine)
    url = _facts(extract, machine.weights)["url"]
    prefix = HASH_IN_NAME.search(url)
    if machine.weights_mirror:
        url = url.replace(HOME, machine.weights_mirror.rstrip("/"))
    return WeightsSource(url, extract.weights_sha256 or "", prefix[1] if prefix else "")


def identity(extract: ExtractParams, weights: Weights) -> Identity:
    """Return what the model adds to the recipe."""
    facts = _facts(extract, weights.cache)
    preprocessing = f"{facts['size']} px, mean {facts['mean']}, deviation {facts['std']}"
    return Identity("torchvision", extract.part[1], weights.sha256, preprocessing, VERSION)


def build(extract: ExtractParams, weights: Weights) -> Extractor:
    """Build the model without its head."""
    facts = _facts(extract, weights.cache)
    model, head, dim = headless(extract.part[1], int(facts["size"]))
    tensors = {_renamed(key): value for key, value in load(weights).items()}
    apply(model, tensors, head=[head, *AUXILIARY], name=str(weights.path))
    return Backbone(model, dim, facts)


def _renamed(key: str) -> str:
    for pattern, replacement in OLD_NAMES:
        key = pattern.sub(replacement, key)
    return key


def headless(name: str, size: int) -> tuple[nn.Module, str, int]:
    """Return an untrained model without its head, the head's prefix, and the feature's length.

    The position embedding of a ViT depends on the *size* of the chips.
    """
    import torch
    from torch import nn
    from torchvision import models

    settings: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
    if name in TRAINING_ONLY:
        settings = {"init_weights": False, "transform_input": True, "aux_logits": False}
    with torch.random.fork_rng(devices=[]):
        model = models.get_model(name, weights=None, **settings)
    linear = [(at, part) for at, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        model.classifier = nn.AdaptiveAvgPool2d(1)
        return model.eval(), "classifier.", 512
    at, last = linear[-1]
    prefix = _prefix(model, at)
    parent, _, child = at.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return model.eval(), prefix, int(last.in_features)


def _prefix(model: nn.Module, head: str) -> str:
    """Return the widest prefix that names only the *head*: `classifier.` of dropout and linear.

    A fine-tuned model has another head in that place, with other names.
    """

    def below(prefix: str) -> set[str]:
        return {name for name, _ in model.named_parameters() if name.startswith(f"{prefix}.")}

    parent = head.rpartition(".")[0]
    while parent and below(parent) == below(head):
        head, parent = parent, parent.rpartition(".")[0]
    return f"{head}."


class Backbone:
    """A model as an Extractor: pixels are scaled and normalised on the device."""

    def __init__(self, model: nn.Module, dim: int, facts: dict[str, Any]) -> None:
        import torch

        self.model, self.dim, self.size = model, dim, int(facts["size"])
        self.mean = torch.tensor(facts["mean"]).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(facts["std"]).view(1, 3, 1, 1) * 255

    def to(self, device: torch.device) -> Backbone:
        """Move to *device*."""
        self.model = self.model.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Embed uint8 [N, size, size, 3] as float32 [N, dim]."""
        pixels = in_whole_vectors(chips).permute(0, 3, 1, 2).float()
        features: torch.Tensor = self.model((pixels - self.mean) / self.std).flatten(1).float()
        return features[: len(chips)]


def _facts(extract: ExtractParams, cache: Path) -> dict[str, Any]:
    """Return the address of a model's weights, and their size, mean and deviation.

    They are kept beside the weights, by torchvision's version: to import it takes seconds, and the
    index needs them at every run.
    """
    model = extract.part[1]
    name = extract.weights or "DEFAULT"
    name = name if ENUM_NAME.fullmatch(name) else "DEFAULT"
    folder = cache / f"torchvision-{version('torchvision')}"
    path = folder / f"{model}-{name}.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = _facts_of_torchvision(model, name)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts), encoding="utf-8")
    return facts


@cache
def _facts_of_torchvision(model: str, name: str) -> dict[str, Any]:
    """Read the facts from torchvision.

    Raises:
        SettingError: there is no such model, or no such weights of it.
    """
    from difflib import get_close_matches

    from torchvision import models

    names = models.list_models(module=models)
    if model not in names:
        nearest = get_close_matches(model, names, n=1) or [names[0]]
        raise SettingError(
            f"extract.extractor: torchvision has no classification model {model!r} "
            f"(nearest: 'torchvision/{nearest[0]}')"
        )
    enum = models.get_model_weights(model)
    if name not in enum.__members__:
        raise SettingError(
            f"extract.weights: torchvision/{model} has no {name!r} among "
            f"{', '.join(enum.__members__)}"
        )
    chosen = enum[name]
    preset = chosen.transforms()
    return {
        "url": chosen.url,
        "size": preset.crop_size[0],
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
