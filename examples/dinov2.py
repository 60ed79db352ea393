"""DINOv2 as an extractor: Meta's vision transformer, by way of timm.

    pip install timm

and in params.yaml

    extract:
      extractor: examples.dinov2:DinoV2
      weights: https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth

or the path of a copy, or of timm's own safetensors file. Copy this file to make an extractor of
another of timm's models: NAME, and the mean and deviation that it was trained with, are all that is
DINOv2's here. Torch and timm are imported only when features are to be made, so that a run with
nothing to do does not wait for them.

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import Identity
from pipeline.extract.weights import Weights, apply, load, required

if TYPE_CHECKING:
    import torch

NAME = "vit_small_patch14_dinov2"
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class DinoV2:
    """Chips of 224 pixels, 16 × 16 patches, to the 384 values of the class token.

    Args:
        extract: the section of params.yaml.
        weights: the file that it names.

    Raises:
        SettingError: it names none.
    """

    dim = 384
    size = 224

    def __init__(self, extract: ExtractParams, weights: Weights | None) -> None:
        if weights is None:
            raise required(extract.extractor)
        self.weights = weights
        self.network: Any = None

    def identity(self) -> Identity:
        """Say what shapes the features, beside this file's code: a part of every recipe."""
        variant = f"{NAME}, timm {version('timm')}"
        return Identity("dinov2", variant, self.weights.sha256, "ImageNet's mean and deviation", 1)

    def to(self, device: torch.device) -> DinoV2:
        """Build the network where there is none yet, and move it to *device*."""
        self.network = (self.network or self._built()).to(device)
        return self

    def _built(self) -> torch.nn.Module:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn

        network = timm.create_model(NAME, img_size=self.size, num_classes=0)
        # Meta's names become timm's; positions learned for 518 pixels are resized to ours.
        tensors = checkpoint_filter_fn(load(self.weights), network)
        apply(network, tensors, head=["head.", "mask_token"], name=str(self.weights.path))
        return network.eval()

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Give the features of *chips*: uint8 [N, 224, 224, 3] to float32 [N, 384]."""
        pixels = chips.permute(0, 3, 1, 2).float() / 255
        mean = pixels.new_tensor(MEAN)[:, None, None]
        deviation = pixels.new_tensor(DEVIATION)[:, None, None]
        features: torch.Tensor = self.network((pixels - mean) / deviation)
        return features
