"""EfficientNet-B0 as in EfficientNet-PyTorch, with the same names of parameters.

It differs from torchvision's in TensorFlow's "same" padding, which is one pixel more at the bottom
and the right, and in BatchNorm's epsilon.

Sources: Tan and Le 2019, table 1; lukemelas/EfficientNet-PyTorch 0.6 (Apache-2.0), by way of
PySpacer 0.14 (MIT), `extractors/efficientnet.py`.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn
from torch.nn.functional import pad, silu

from pipeline.extract.extractors import in_whole_vectors

SIZE = 224
DIM = 1280
EPSILON = 1e-3

BLOCKS = (
    # repeats, kernel, stride, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class Same(nn.Conv2d):
    """A convolution whose output is the input's size over the stride, rounded up."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Pad as TensorFlow does, the odd pixel after, then convolve."""
        sides: list[int] = []
        for size in (input.shape[-1], input.shape[-2]):
            steps = -(-size // self.stride[0])
            missing = max((steps - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(pad(input, sides))


def norm(channels: int) -> nn.BatchNorm2d:
    """Return the BatchNorm of this network."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)


class Block(nn.Module):
    """A mobile inverted bottleneck with squeeze and excitation."""

    def __init__(self, kernel: int, stride: int, expansion: int, before: int, after: int) -> None:
        super().__init__()
        wide = before * expansion
        self.skips = stride == 1 and before == after
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv, self._bn0 = Same(before, wide, 1, bias=False), norm(wide)
        self._depthwise_conv = Same(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = norm(wide)
        squeezed = max(1, before // 4)
        self._se_reduce = Same(wide, squeezed, 1)
        self._se_expand = Same(squeezed, wide, 1)
        self._project_conv, self._bn2 = Same(wide, after, 1, bias=False), norm(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, added to its input if the shapes are equal."""
        y = silu(self._bn0(self._expand_conv(x))) if self.expands else x
        y = silu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(self._gate(y) * y))
        output: torch.Tensor = y + x if self.skips else y
        return output

    def _gate(self, y: torch.Tensor) -> torch.Tensor:
        """Return the weight of each channel: [N, channels, 1, 1], 0 to 1."""
        squeezed = in_whole_vectors(y.mean((2, 3), keepdim=True))
        gate = torch.sigmoid(self._se_expand(silu(self._se_reduce(squeezed))))
        return gate[: len(y)]


class CoralNet(nn.Module):
    """The network up to the pooled features, as an Extractor."""

    size = SIZE
    dim = DIM

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, stride=2, bias=False), norm(32)
        self._blocks = nn.ModuleList()
        for repeats, kernel, stride, expansion, before, after in BLOCKS:
            for number in range(repeats):
                first = number == 0
                self._blocks.append(
                    Block(
                        kernel, stride if first else 1, expansion, before if first else after, after
                    )
                )
        self._conv_head, self._bn1 = Same(320, DIM, 1, bias=False), norm(DIM)

    def to(self, *args: object, **kwargs: object) -> Self:
        """Move, as every module does."""
        return super().to(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        """Embed uint8 [N, 224, 224, 3] as float32 [N, 1280]."""
        x = chips.permute(0, 3, 1, 2).float() / 255
        x = silu(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return silu(self._bn1(self._conv_head(x))).mean((2, 3)).float()
