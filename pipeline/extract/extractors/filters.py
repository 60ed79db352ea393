"""Filters: a fixed bank of oriented filters and colour statistics; a baseline without weights.

A feature has these statistics of the luminance and two opponent colours of a 64 × 64 chip:
    mean and deviation of the energy of quadrature pairs of Gabor filters, at 6 scales (2
    wavelengths on each of 3 levels of a pyramid) × 8 orientations. The orientations are sorted by
    strength, so that a turned texture has the same feature;
    soft histograms of the three channels, and of the contrast to the neighbourhood at two scales;
    mean and deviation of the channels.
Square roots of energies and shares keep large values from hiding small ones. Filters are applied at
every second pixel: a pair's energy changes slowly, and more pixels give the same statistics.

Sources: Varma and Zisserman 2005 (filter banks for textures without orientation), Leung and Malik
2001 (the bank), Gevers et al. 2012 (opponent colours), Arandjelović and Zisserman 2012 (roots).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipeline.config.sections import ExtractParams
from pipeline.extract.extractors import NO_WEIGHTS, Extractor, Identity
from pipeline.extract.weights import Weights

if TYPE_CHECKING:
    import torch

VERSION = 2
EXPORTS = False
"""Its roots of small sums differ between runtimes by more than their tolerance."""

SIZE = 64
LEVELS = 3
WAVELENGTHS = (2.8, 4.0)
SCALES = LEVELS * len(WAVELENGTHS)
ORIENTATIONS = 8
KERNEL = 9
STEP = 2
WIDTHS = (2, 6)
BINS = 16
RANGES = ((0.0, 1.0), (-0.5, 0.5), (-0.5, 0.5), *((-0.25, 0.25),) * len(WIDTHS))
"""Of the histograms: the three channels, and the contrasts."""

SMALLEST = 1e-8
"""Added to energies, whose root has no slope at 0."""


def identity(extract: ExtractParams, weights: Weights | None) -> Identity:  # noqa: ARG001
    """Return what the filters add to the recipe."""
    return Identity("filters", "", NO_WEIGHTS, f"opponent colours, {SIZE} px", VERSION)


def build(extract: ExtractParams, weights: Weights | None) -> Extractor:  # noqa: ARG001
    """Build the filters."""
    return Filters()


class Filters:
    """The bank, as an Extractor."""

    size = SIZE
    # Two moments: of luminance an orientation, of both colours over orientations; then histograms
    # and the channels' own moments.
    dim = SCALES * 2 * (ORIENTATIONS + 2) + len(RANGES) * BINS + 3 * 2

    def __init__(self) -> None:
        import torch

        self.bank = torch.from_numpy(_gabors())
        self.blurs = [torch.from_numpy(_gaussian(width)) for width in WIDTHS]

    def to(self, device: torch.device) -> Filters:
        """Move to *device*."""
        self.bank = self.bank.to(device)
        self.blurs = [blur.to(device) for blur in self.blurs]
        return self

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Embed uint8 [N, 64, 64, 3] as float32 [N, dim]."""
        import torch
        from torch.nn.functional import avg_pool2d

        channels = _opponent(chips.permute(0, 3, 1, 2).float() / 255)
        luminance = channels[:, :1]
        # Colours vary slowly, and cameras store them at half the resolution.
        colours = avg_pool2d(channels[:, 1:], 2)
        contrasts = [self._contrast(luminance, blur) for blur in self.blurs]
        values = torch.cat([luminance[..., ::STEP, ::STEP], colours, *contrasts], dim=1)
        mean, deviation = _moments(channels.square(), channels)
        textures = [*self._texture(luminance), *self._colours(colours)]
        return torch.cat([*textures, _histograms(values), mean, deviation], dim=1)

    def _texture(self, luminance: torch.Tensor) -> list[torch.Tensor]:
        """Return both moments of each scale, by level; orientations are sorted by strength."""
        moments = (
            moment.sqrt().sort(dim=2, descending=True).values
            for power in self._powers(luminance)
            for moment in _moments(power, power.sqrt())
        )
        return [moment.flatten(1) for moment in moments]

    def _colours(self, colours: torch.Tensor) -> list[torch.Tensor]:
        """Return both moments of each colour and scale, by level, over all orientations."""
        powers = (power.mean(2) for power in self._powers(colours.flatten(0, 1)[:, None]))
        return [
            moment.sqrt().reshape(len(colours), -1)
            for power in powers
            for moment in _moments(power, power.sqrt())
        ]

    def _powers(self, channel: torch.Tensor) -> list[torch.Tensor]:
        """Return the energy of each quadrature pair, by level: [N, wavelengths, 8, h, w]."""
        import torch
        from torch.nn.functional import avg_pool2d, conv2d, pad

        powers = []
        for level in range(LEVELS):
            small = avg_pool2d(channel, 2**level) if level else channel
            padded = pad(small, (KERNEL // 2,) * 4, mode="reflect")
            even, odd = conv2d(padded, self.bank, stride=STEP).chunk(2, dim=1)
            power = even.square().add_(odd.square()).add_(SMALLEST)
            powers.append(torch.unflatten(power, 1, (len(WAVELENGTHS), ORIENTATIONS)))
        return powers

    def _contrast(self, luminance: torch.Tensor, blur: torch.Tensor) -> torch.Tensor:
        """Return the luminance minus its neighbourhood's: [N, 1, 32, 32]."""
        from torch.nn.functional import conv2d, pad

        padded = pad(luminance, (len(blur) // 2,) * 4, mode="reflect")
        rows = conv2d(padded, blur[None, None, None, :], stride=(1, STEP))
        around = conv2d(rows, blur[None, None, :, None], stride=(STEP, 1))
        return luminance[..., ::STEP, ::STEP] - around


def _opponent(rgb: torch.Tensor) -> torch.Tensor:
    """Return luminance, red against green, yellow against blue: [N, 3, H, W]."""
    import torch

    red, green, blue = rgb.unbind(1)
    return torch.stack(
        ((red + green + blue) / 3, (red - green) / 2, (red + green - 2 * blue) / 4), dim=1
    )


def _moments(squares: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation over the pixels of *values* [..., H, W], given their *squares*."""
    mean = values.mean((-2, -1))
    return mean, (squares.mean((-2, -1)) - mean.square()).clamp(min=SMALLEST).sqrt()


def _histograms(values: torch.Tensor) -> torch.Tensor:
    """Return the roots of the shares of [N, C, H, W] in BINS overlapping bins of each of RANGES."""
    import torch

    low, high = torch.tensor(RANGES, device=values.device).unbind(1)
    scale = (BINS - 1) / (high - low)
    places = ((values.flatten(2) - low[:, None]) * scale[:, None]).clamp_(0, BINS - 1)
    shares = [
        (places - centre).abs_().neg_().add_(1).clamp_(min=0).mean(2) for centre in range(BINS)
    ]
    return torch.stack(shares, dim=2).sqrt().flatten(1)


def _gabors() -> Any:
    """Return the even, then the odd halves of the bank, float32 [2 × wavelengths × 8, 1, K, K]."""
    import numpy as np

    half = KERNEL // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    pairs = []
    for wavelength in WAVELENGTHS:
        sigma = 0.45 * wavelength
        window = np.exp(-(x * x + y * y) / (2 * sigma * sigma))
        for orientation in range(ORIENTATIONS):
            angle = math.pi * orientation / ORIENTATIONS
            wave = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength
            even, odd = window * np.cos(wave), window * np.sin(wave)
            even -= window * even.sum() / window.sum()
            pairs.append(np.stack((even, odd)) / np.sqrt((even * even + odd * odd).sum()))
    return np.stack(pairs, axis=1).reshape(-1, 1, KERNEL, KERNEL).astype(np.float32)


def _gaussian(sigma: int) -> Any:
    """Return one axis of a separable blur, float32 [4 sigma + 1]."""
    import numpy as np

    line = np.exp(-(np.arange(-2 * sigma, 2 * sigma + 1) ** 2) / (2 * sigma * sigma))
    return (line / line.sum()).astype(np.float32)
