"""Filters: a fixed bank of oriented filters and colour statistics; no weights, a baseline.

What is measured, on luminance and two opponent-colour channels of a 64 × 64 chip:
    energy of quadrature pairs of Gabor filters at 6 scales (2 wavelengths on each of 3 levels of a
    pyramid) × 8 orientations: its mean and deviation, the orientations sorted by strength, so that
    a turned texture looks alike;
    soft histograms of the three channels, and of the contrast to the neighbourhood at two scales.
Square roots of energies and shares keep large values from drowning small ones.

Sources: Varma and Zisserman 2005 (filter banks for textures without orientation), Leung and Malik
2001 (the bank), Gevers et al. 2012 (opponent colours), Arandjelović and Zisserman 2012 (roots).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipeline.extractors import NO_WEIGHTS, Extractor, Identity
from pipeline.params import Extract
from pipeline.weights import Weights

if TYPE_CHECKING:
    import torch

VERSION = 1

SIZE = 64
LEVELS = 3
WAVELENGTHS = (2.8, 4.0)
SCALES = LEVELS * len(WAVELENGTHS)
ORIENTATIONS = 8
KERNEL = 9
BINS = 16
WIDTHS = (2, 6)


def identity(extract: Extract, weights: Weights | None) -> Identity:  # noqa: ARG001
    """Say what the filters add to a recipe."""
    return Identity("filters", "", NO_WEIGHTS, f"opponent colours, {SIZE} px", VERSION)


def build(extract: Extract, weights: Weights | None) -> Extractor:  # noqa: ARG001
    """Build the filters; see pipeline/extractors/__init__.py."""
    return Filters()


class Filters:
    """The bank, as an Extractor."""

    size = SIZE
    # Per scale: sorted means, mean and deviation over orientations of both moments; twice for
    # colour without orientations; histograms; moments of the channels.
    dim = SCALES * (2 * ORIENTATIONS) + SCALES * 2 * 2 + 3 * BINS + len(WIDTHS) * BINS + 6

    def __init__(self) -> None:
        import torch

        self.even, self.odd = (torch.from_numpy(bank) for bank in _gabors())
        self.blurs = [torch.from_numpy(_gaussian(width)) for width in WIDTHS]

    def to(self, device: torch.device) -> Filters:
        """Move to *device*."""
        self.even, self.odd = self.even.to(device), self.odd.to(device)
        self.blurs = [blur.to(device) for blur in self.blurs]
        return self

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Embed uint8 [N, 64, 64, 3] as float32 [N, dim]."""
        import torch

        channels = _opponent(chips.permute(0, 3, 1, 2).float() / 255)
        # Colours vary slowly, and cameras store them at half the resolution.
        colours = torch.nn.functional.avg_pool2d(channels[:, 1:], 2)
        parts = [*self._texture(channels[:, :1]), *self._colour_texture(colours)]
        parts += [
            _histogram(channels[:, index], low) for index, low in ((0, 0.0), (1, -0.5), (2, -0.5))
        ]
        parts += [
            _histogram(self._contrast(channels[:, :1], blur), -0.25, 0.25) for blur in self.blurs
        ]
        parts += [channels.mean((2, 3)), channels.std((2, 3))]
        return torch.cat(parts, dim=1)

    def _energies(self, channel: torch.Tensor) -> list[torch.Tensor]:
        """Give, a level, the amplitude of each quadrature pair: [N, wavelengths, 8, h, w]."""
        import torch
        from torch.nn.functional import avg_pool2d, conv2d, pad

        found = []
        for level in range(LEVELS):
            small = avg_pool2d(channel, 2**level) if level else channel
            padded = pad(small, (KERNEL // 2,) * 4, mode="reflect")
            even, odd = conv2d(padded, self.even), conv2d(padded, self.odd)
            amplitude = torch.sqrt(even * even + odd * odd + 1e-8)
            found.append(torch.unflatten(amplitude, 1, (len(WAVELENGTHS), ORIENTATIONS)))
        return found

    def _texture(self, luminance: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for energy in self._energies(luminance):
            moments = (energy.mean((3, 4)).sqrt(), energy.std((3, 4)).sqrt())
            found += [part.sort(dim=2, descending=True).values.flatten(1) for part in moments]
        return found

    def _colour_texture(self, colours: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for index in range(2):
            for energy in self._energies(colours[:, index : index + 1]):
                over_orientations = energy.mean(2)
                found.append(over_orientations.mean((2, 3)).sqrt())
                found.append(over_orientations.std((2, 3)).sqrt())
        return found

    def _contrast(self, luminance: torch.Tensor, blur: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import conv2d, pad

        half = blur.shape[-1] // 2
        around = conv2d(pad(luminance, (half,) * 4, mode="reflect"), blur)
        return (luminance - around)[:, 0]


def _opponent(rgb: torch.Tensor) -> torch.Tensor:
    """Give luminance, red against green, yellow against blue: [N, 3, H, W]."""
    import torch

    red, green, blue = rgb.unbind(1)
    return torch.stack(
        ((red + green + blue) / 3, (red - green) / 2, (red + green - 2 * blue) / 4), dim=1
    )


def _histogram(values: torch.Tensor, low: float, high: float | None = None) -> torch.Tensor:
    """Give the roots of the shares of [N, H, W] in BINS overlapping bins from *low* to *high*."""
    import torch

    high = low + 1.0 if high is None else high
    places = (values.flatten(1).clamp(low, high) - low) / (high - low) * (BINS - 1)
    centres = torch.arange(BINS, device=values.device, dtype=values.dtype)
    shares = [(1 - (places - centre).abs()).clamp(min=0).mean(1) for centre in centres]
    return torch.stack(shares, dim=1).sqrt()


def _gabors() -> tuple[Any, Any]:
    """Give the even and odd halves of the bank, float32 [wavelengths × 8, 1, K, K]."""
    import numpy as np

    half = KERNEL // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    even, odd = [], []
    for wavelength in WAVELENGTHS:
        sigma = 0.45 * wavelength
        for orientation in range(ORIENTATIONS):
            angle = math.pi * orientation / ORIENTATIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            window = np.exp(-(x * x + y * y) / (2 * sigma * sigma))
            wave = 2 * math.pi * along / wavelength
            real, imaginary = window * np.cos(wave), window * np.sin(wave)
            real -= window * real.sum() / window.sum()
            norm = np.sqrt((real * real + imaginary * imaginary).sum())
            even.append(real / norm)
            odd.append(imaginary / norm)
    banks = [np.stack(half)[:, None].astype(np.float32) for half in (even, odd)]
    return banks[0], banks[1]


def _gaussian(sigma: int) -> Any:
    import numpy as np

    half = 2 * sigma
    line = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma * sigma))
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)[None, None]
