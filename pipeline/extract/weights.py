"""Weights: a path, `s3://…` or `https://…` → a local file of known digest → checked tensors.

Nothing pickled is ever run: `.pt` files are read with `weights_only=True`, and safetensors is
preferred. Torch is imported only when tensors are wanted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.core.errors import InputError, Missing, SettingError, StorageError
from pipeline.core.hashing import digest
from pipeline.storage import local_path, open_regular_file, open_storage, read_url, scheme_of

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)

WRAPPINGS = ("net", "state_dict", "model_state_dict", "model")
NAMED = 3
PICKLES = (b"\x80", b"P")
"""First bytes of what torch.save writes: a bare pickle, and one in a zip archive."""

THREE_WAYS = (
    "give them in one of three ways: a file's path in extract.weights; an s3:// or https:// "
    "address in extract.weights, with extract.weights_sha256; or a mirror of torchvision's files "
    "as weights_mirror in luigi.cfg (QUADRAT_WEIGHTS_MIRROR)"
)


@dataclass(frozen=True, slots=True)
class Weights:
    """A local file of weights.

    Attributes:
        path: the file.
        sha256: the digest of its bytes.
        cache: the machine's folder of downloaded weights, and of what is known of them.
    """

    path: Path
    sha256: str
    cache: Path = field(default=Path(), compare=False)


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where weights are, and what is known of their digest beforehand.

    Attributes:
        url: a path or an address.
        sha256: the whole digest, or "" where it is not known.
        prefix: its first digits, as torchvision writes them into file names, or "".
    """

    url: str
    sha256: str = ""
    prefix: str = ""

    def fits(self, sha256: str) -> bool:
        """Say whether a file of digest *sha256* is what was meant."""
        return (not self.sha256 or sha256 == self.sha256) and sha256.startswith(self.prefix)


def fetch(source: WeightsSource, cache: Path) -> Weights:
    """Give a local file with what *source* names.

    A path is used where it is. An address is fetched once and kept below *cache* under its digest;
    it is asked for again only if its digest is not known beforehand.

    Raises:
        InputError: the digest is not the expected one, or the file cannot be had; the message
            names the three ways to provide weights.
    """
    if scheme_of(source.url) in {"s3", "https", "http"}:
        found = _cached(source, cache) or _fetched(source, cache)
    else:
        found = _local(source.url, cache)
    if not source.fits(found.sha256):
        wanted = source.sha256 or f"{source.prefix}…"
        raise InputError(
            f"{source.url}: has SHA-256 {found.sha256}, not {wanted}; get the right file, or set "
            "extract.weights_sha256 to what it has"
        )
    return found


def _local(url: str, cache: Path) -> Weights:
    path = local_path(url)
    try:
        with open_regular_file(path) as stream:
            return Weights(path, hashlib.file_digest(stream, "sha256").hexdigest(), cache)
    except OSError as error:
        raise InputError(
            f"extract.weights: {path} cannot be read ({error.strerror}); {THREE_WAYS}"
        ) from error


def _note(source: WeightsSource) -> str:
    return f"addresses/{digest(source.url)}.json"


def _cached(source: WeightsSource, cache: Path) -> Weights | None:
    """Give the file fetched before, if its digest still stands for what the address has."""
    try:
        note = json.loads((cache / _note(source)).read_text(encoding="utf-8"))
        path = cache / note["path"]
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    known = bool(source.sha256 or source.prefix) and source.fits(found)
    same = known or (note.get("version") and note["version"] == _version(source.url))
    return Weights(path, found, cache) if found == note["sha256"] and same else None


def _version(url: str) -> str:
    """Give the ETag of an object on S3; nothing for the web, which has no sure one."""
    if not url.startswith("s3:"):
        return ""
    folder, _, name = url.rpartition("/")
    try:
        return open_storage(folder).head(name).version
    except StorageError:
        return ""


def _fetched(source: WeightsSource, cache: Path) -> Weights:
    try:
        data, version = read_url(source.url)
    except (Missing, StorageError) as error:
        raise InputError(f"extract.weights: {error}; {THREE_WAYS}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    name = Path(sha256) / (PurePosixPath(urlsplit(source.url).path).name or "weights")
    kept = open_storage(str(cache))
    kept.put(name.as_posix(), data)
    # Without the address, which may be signed: a note is no place for a secret.
    note = {"path": name.as_posix(), "sha256": sha256, "version": version}
    kept.put(_note(source), json.dumps(note).encode())
    if not (source.sha256 or source.prefix or source.url.startswith("s3:")):
        LOG.info("set extract.weights_sha256: %s, or they are fetched at every run", sha256)
    return Weights(cache / name, sha256, cache)


def load(weights: Weights) -> dict[str, torch.Tensor]:
    """Read the tensors of *weights* by name, unwrapped, on the CPU.

    `{"net": …}`, `{"state_dict": …}` and the like are unwrapped and `module.`, which DataParallel
    puts before names, is taken away, so that CoralNet's own file loads as it is.

    Raises:
        InputError: not a file of tensors, pickled objects in it, values that are not finite, or
            other bytes than when it was named: a recipe has its digest already.
    """
    import torch

    found = _tensors(weights.path, _bytes(weights))
    for wrapping in WRAPPINGS:
        if isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    named = {str(name).removeprefix("module."): value for name, value in found.items()}
    tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(f"{weights.path}: holds no tensors")
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{weights.path}: {name} holds values that are not finite")
    return tensors


def _bytes(weights: Weights) -> bytes:
    data = weights.path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise InputError(
            f"{weights.path}: changed while the run went on (SHA-256 was {weights.sha256}, is "
            f"{found}); run dvc repro again"
        )
    return data


def _tensors(path: Path, data: bytes) -> Mapping[str, Any]:
    import pickle
    import warnings
    from io import BytesIO

    import torch
    from safetensors.torch import load as load_safetensors

    try:
        if path.suffix == ".safetensors":
            tensors: Mapping[str, Any] = load_safetensors(data)
            return tensors
        with torch.serialization.safe_globals(_numbers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a pickle's protocol, then refuses it
            found = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and safetensors raise a dozen kinds on a damaged file, some of them not public.
        refused = isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error)
        if refused and data[:1] in PICKLES:
            raise InputError(
                f"{path}: holds pickled objects, not only tensors; save it again with "
                "safetensors.torch.save_file"
            ) from error
        # The first line alone: torch goes on to advise weights_only=False.
        said = "it is damaged" if refused else (str(error).splitlines() or ["it is empty"])[0]
        raise InputError(f"{path}: not a file of weights: {said}") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: holds a {type(found).__name__}, not tensors by name")
    return found


def _numbers() -> list[Any]:
    """Give what CoralNet's file needs beside tensors: NumPy's numbers, which run no code.

    Both names of their constructor, before and since NumPy 2.

    Source: PySpacer 0.14, `extractors/torch_extractors.py: load_weights`.
    """
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    return [
        np.dtype,
        *(type(np.dtype(name)) for name in ("int64", "float64", "float32")),
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]


def apply(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, head: Sequence[str], name: str
) -> None:
    """Put *tensors* into *module*, all of them and no others.

    Args:
        module: the network.
        tensors: by name.
        head: prefixes of names that give no feature: they may be missing, other, or too many.
        name: what to call the weights in messages.

    Raises:
        InputError: names or shapes do not fit; the first three of each kind are named.
    """
    own = module.state_dict()

    def matters(key: str) -> bool:
        return not key.startswith(tuple(head)) and not key.endswith("num_batches_tracked")

    kept = {key: value for key, value in tensors.items() if matters(key)}
    faults = {
        "lacks": [key for key in own if matters(key) and key not in kept],
        "has no use for": [key for key in kept if key not in own],
        "has another shape for": [
            key for key, value in kept.items() if key in own and own[key].shape != value.shape
        ],
    }
    said = [f"{what} {', '.join(keys[:NAMED])}" for what, keys in faults.items() if keys]
    if said:
        raise InputError(f"{name}: not the weights of this extractor: it {'; it '.join(said)}")
    own.update(kept)  # in place: the state keeps the versions of its modules
    module.load_state_dict(own)


def required(extractor: str) -> SettingError:
    """Give the error of an extractor that needs weights and has none."""
    return SettingError(f"extract.weights: {extractor} needs weights; {THREE_WAYS}")
