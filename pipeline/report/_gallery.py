"""Which chips the report shows: confident mistakes, doubtful answers, and right ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.metrics import Judged
from pipeline.windows import Pixels

LARGEST = 192
KINDS = ("wrong", "doubtful", "right")


@dataclass(frozen=True, slots=True)
class Shown:
    """One chip of the gallery: its pixels as a data address, and what is said under it."""

    kind: str
    key: str
    row: int
    col: int
    label: str
    predicted: str
    score: float
    png: str


def choose(judged: Judged, count: int) -> list[tuple[str, int]]:
    """Choose up to *count* chips, a third of each kind, as (kind, row of the predictions).

    wrong: mistakes by falling score; doubtful: by the smallest lead over the second class;
    right: by falling score. Each kind goes round the labels, so that none takes all the places,
    and no chip is shown twice.
    """
    ordered = np.sort(judged.probabilities, axis=1)
    lead = ordered[:, -1] - (ordered[:, -2] if judged.n_classes > 1 else 0)
    every = np.arange(len(judged.true))
    ranked = {
        "wrong": every[~judged.right][np.argsort(-judged.score[~judged.right], kind="stable")],
        "doubtful": every[np.argsort(lead, kind="stable")],
        "right": every[judged.right][np.argsort(-judged.score[judged.right], kind="stable")],
    }
    chosen: list[tuple[str, int]] = []
    taken: set[int] = set()
    for kind in KINDS:
        free = [int(row) for row in ranked[kind] if int(row) not in taken]
        some = _round_the_labels(free, judged, -(-count // len(KINDS)))
        taken.update(some)
        chosen += [(kind, row) for row in some]
    return chosen[:count]


def _round_the_labels(rows: Iterable[int], judged: Judged, count: int) -> list[int]:
    """Take each label's first, then each label's second, and so on."""
    seen: dict[int, int] = {}
    turns = []
    for place, row in enumerate(rows):
        label = int(judged.true[row])
        seen[label] = seen.get(label, 0) + 1
        turns.append((seen[label], place, row))
    return [row for _, _, row in sorted(turns)[:count]]


def data_address(pixels: Pixels) -> str:
    """Give a chip as a PNG in a `data:` address, made smaller where it is large."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
