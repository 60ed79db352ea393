"""Label Studio's packed pictures of what was painted, against lists that its own packer wrote."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations._labelstudio_brush import unpack
from pipeline.core.errors import Rejected

# By `encode` of @thi.ng/rle-pack, of RGBA: 200, 30, 0, 255 where painted, else 0.
# fmt: off
SCATTERED = [
    0, 0, 0, 140, 57, 27, 252, 96, 1, 228, 15, 0, 127, 225, 112, 0, 242, 7, 128, 63, 227, 0, 31, 32,
    120, 3, 255, 32, 120, 3, 254, 48, 0, 242, 7, 128, 63, 227, 0, 31, 32, 120, 3, 255, 32, 120, 3,
    254, 248, 0, 121, 3, 192, 31, 243, 128, 7, 144, 60, 1, 255, 24, 0, 121, 3, 192, 31, 241, 128,
    15, 144, 60, 1, 255, 144, 60, 1, 255, 132, 192, 0,
]
SCATTERED_MASK = "0100000 0101101 0110000 1001010 1100000"
# Of 255, 0, 64, and an alpha of 90 or 255.
ROUND = [
    0, 0, 0, 192, 57, 27, 254, 43, 0, 27, 252, 1, 1, 107, 252, 1, 2, 31, 240, 128, 16, 22, 175, 128,
    13, 254, 0, 128, 181, 254, 0, 129, 15, 248, 160, 8, 11, 95, 224, 8, 16, 255, 132, 0, 128, 181,
    108, 0, 47, 240, 4, 8, 127, 197, 0, 64, 90, 255, 0, 64, 135, 252, 96, 4, 5, 175, 240, 4, 15,
    251, 96, 3, 127, 128, 32, 45, 127, 128, 32, 67, 254, 40, 2, 2, 215, 248, 2, 4, 63, 225, 0, 32,
    45, 95, 0, 27, 252, 1, 1, 107, 252, 1, 2, 31, 240, 128, 16, 22, 167, 0,
]
# fmt: on
ROUND_MASK = "00000000 00011100 00111110 00111110 00111110 00011100"


def mask(text):
    return np.array([[letter == "1" for letter in row] for row in text.split()])


@pytest.mark.parametrize(("packed", "text"), [(SCATTERED, SCATTERED_MASK), (ROUND, ROUND_MASK)])
def test_the_lists_of_label_studios_packer_are_unpacked(packed, text):
    painted = mask(text)
    assert np.array_equal(unpack(packed, *painted.shape), painted)


def packed_by_runs(values, lengths, each, widths):
    """Pack *values* in runs of these *lengths*, repeated where a run has one value."""
    bits = f"{len(values):032b}{each - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    start = 0
    for length in lengths:
        run = values[start : start + length]
        kind = next(at for at, width in enumerate(widths) if len(run) <= 2**width)
        is_repeated = len(set(run)) == 1
        bits += f"{is_repeated:b}{kind:02b}{len(run) - 1:0{widths[kind]}b}"
        bits += "".join(f"{value:0{each}b}" for value in (run[:1] if is_repeated else run))
        start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.integers(3, 9))
def test_pixels_that_are_not_transparent_are_unpacked_from_every_packing(data, height, width, each):
    size = 4 * height * width
    value = st.sampled_from([0, 0, 0, 1, 2**each - 1])
    values = data.draw(st.lists(value, min_size=size, max_size=size))
    lengths, remaining = [], size
    while remaining:
        lengths.append(data.draw(st.integers(1, min(remaining, 64))))
        remaining -= lengths[-1]
    widths = data.draw(st.permutations([1, 3, 6, 11]))
    packed = packed_by_runs(values, lengths, each, widths)
    painted = np.array(values).reshape(height, width, 4)[:, :, 3] > 0
    assert np.array_equal(unpack(packed, height, width), painted)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (None, "is not a list of bytes"),
        ("0123", "is not a list of bytes"),
        ([0, 0, True], "is not a list of bytes"),
        ([0, 0, 300], "is not a list of bytes"),
        ([], "ends early"),
        (ROUND[:40], "ends early"),
        ([255] * 90, "its brush has 4,294,967,295 values, and its image 192"),
        (
            [0, 0, 0, 192, 57, 27, 255, 255, 255, 0],
            "its brush has runs that are longer than its image",
        ),
    ],
)
def test_bytes_that_are_not_a_packed_picture_are_rejected(packed, message):
    with pytest.raises(Rejected, match=message):
        unpack(packed, 6, 8)
