"""What a classifier was trained and calibrated on: groups and images, by digests of their names.

They are in a file of their own, 8 bytes for each name: 100,000 groups and a million images take
9 MB. `model.json` has its name and digest, and the settings of the split. Images are there because
another `split.by` makes other groups, which have no name in common with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.config.sections import SplitParams
from pipeline.core.errors import InputError
from pipeline.storage import open_regular_file

FILE = "trained_on.safetensors"
ENTRY = "trained_on"
"""Of model.json."""

DIGEST_BYTES = 8

Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRecord:
    """The groups and images of the labelled chips of the train and calibration splits.

    Attributes:
        split: the settings of the split, by name; `by` says what a group is.
        groups: digests of their names, uint64, sorted.
        images: digests of their keys, uint64, sorted.
    """

    split: Mapping[str, Any]
    groups: Digests
    images: Digests

    @classmethod
    def of(cls, rows: Sequence[pa.Table], split: SplitParams) -> TrainingRecord:
        """Return the record of *rows* of schemas.LABELS, divided as *split* says."""
        names = pa.concat_tables([part.select(["group", "key"]) for part in rows])
        digests = (np.unique(_digests(names[column])) for column in ("group", "key"))
        return cls(split.recipe_fields(), *digests)

    def file(self) -> bytes:
        """Return the file; equal records give equal bytes."""
        return save({"groups": self.groups, "images": self.images})

    def card(self) -> dict[str, Any]:
        """Return what model.json says of it."""
        counts = {"groups": len(self.groups), "images": len(self.images)}
        about = {"file": FILE, "sha256": hashlib.sha256(self.file()).hexdigest()}
        return {ENTRY: {"split": dict(self.split), **counts, **about}}

    def has_groups(self, names: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return which of *names* are of groups that were trained or calibrated on, bool [n]."""
        return _are_in(names, self.groups)

    def has_images(self, keys: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return which of *keys* are of images that were trained or calibrated on, bool [n]."""
        return _are_in(keys, self.images)


def read(folder: Path, card: Mapping[str, Any]) -> TrainingRecord | None:
    """Read the record of the classifier in *folder*; None if its *card* names none.

    Raises:
        InputError: the file is missing, or is not the one that the card describes.
    """
    if ENTRY not in card:
        return None
    where = f"{folder}/{FILE}"
    try:
        expected, by = card[ENTRY]["sha256"], str(card[ENTRY]["split"]["by"])
        with open_regular_file(folder / FILE) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != expected:
            raise InputError(
                f"{where} is not the one that model.json describes; one of them was damaged or "
                "changed since the classifier was trained"
            )
        tensors = load(data)
        return TrainingRecord({"by": by}, tensors["groups"], tensors["images"])
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error.strerror or error}): it says what the classifier was "
            "trained on, and belongs to model.json"
        ) from error
    except (SafetensorError, LookupError, TypeError) as error:
        raise InputError(f"{folder}: its record of what it was trained on is damaged") from error


def _are_in(names: pa.ChunkedArray, digests: Digests) -> NDArray[np.bool_]:
    known = names.combine_chunks().dictionary_encode()
    is_in: NDArray[np.bool_] = np.isin(_digests(known.dictionary), digests)[
        known.indices.to_numpy()
    ]
    return is_in


def _digests(names: pa.Array | pa.ChunkedArray) -> Digests:
    """Return the digest of each different one of *names*, in the order of their first places."""
    unique = pc.unique(names).to_pylist()
    parts = (hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).digest() for name in unique)
    return np.frombuffer(b"".join(parts), "<u8").astype(np.uint64)
