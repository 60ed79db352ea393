"""Weights made from a parameter's name and shape alone, so that any program can make the same.

They keep a network alive: what goes in can be told from what comes out, so that a wrong padding,
epsilon or order of channels shows.
"""

import numpy as np


def seeded(name, shape):
    """Give one parameter as float32 (int64 for BatchNorm's counter)."""
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    rng = np.random.default_rng(list(name.encode()))
    noise = rng.standard_normal(tuple(shape))
    if len(shape) > 1:
        return (noise * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if name.endswith("running_var"):
        return (0.375 + 0.75 * np.abs(noise)).astype(np.float32)
    return (0.1 * noise + (1 if name.endswith(".weight") else 0)).astype(np.float32)


def pictures(size=224):
    """Give three procedural chips, uint8 [3, size, size, 3]: waves, a ramp with an edge, noise."""
    row, col = np.mgrid[:size, :size]
    waves = [
        127 + 120 * np.sin(row / 7 + channel) * np.cos(col / (5 + channel)) for channel in range(3)
    ]
    ramp = [row / size * 255, col / size * 255, 255 * (row + col > size)]
    noise = np.random.default_rng(7).integers(0, 256, (3, size, size))
    return np.stack([np.stack(each, axis=-1) for each in (waves, ramp, noise)]).astype(np.uint8)
