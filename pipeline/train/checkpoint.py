"""Checkpoints: the state of a training after each epoch, from which an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline.core.errors import Missing
from pipeline.core.hashing import digest
from pipeline.storage import Storage

Tensors = dict[str, torch.Tensor]


class Checkpoint:
    """The last checkpoint of a training, as one file of the store."""

    def __init__(self, storage: Storage, key: str) -> None:
        self.storage, self.key = storage, key

    def load(self) -> bytes | None:
        """Return the checkpoint; None before the end of the first epoch."""
        try:
            return self.storage.read(self.key)
        except Missing:
            return None

    def save(self, state: bytes) -> None:
        """Replace the checkpoint by *state*."""
        self.storage.put(self.key, state)

    def of_final(self) -> Checkpoint:
        """Return the checkpoint of the final fit, which follows this training."""
        return Checkpoint(self.storage, f"{self.key}.final")

    def delete(self) -> None:
        """Delete the checkpoints of a finished training."""
        self.storage.delete(self.key)
        self.storage.delete(self.of_final().key)


def encode(tensors: Tensors, curve: list[dict[str, Any]]) -> bytes:
    """Return a checkpoint of *tensors* and the learning curve, with a digest of both."""
    tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
    text = json.dumps(curve)
    return save(tensors, {"curve": text, "sha256": _sha256(tensors, text)})


def decode(state: bytes) -> tuple[Tensors, list[dict[str, Any]]] | None:
    """Return the tensors and the learning curve of a checkpoint; None if it is damaged."""
    try:
        length = int.from_bytes(state[:8], "little")
        metadata = json.loads(state[8 : 8 + length])["__metadata__"]
        tensors, curve = load(state), metadata["curve"]
        if metadata["sha256"] == _sha256(tensors, curve):
            return tensors, json.loads(curve)
    except (SafetensorError, ValueError, KeyError, TypeError):
        pass
    return None


def _sha256(tensors: Tensors, curve: str) -> str:
    return digest({"curve": curve, "tensors": hashlib.sha256(save(tensors)).hexdigest()})
