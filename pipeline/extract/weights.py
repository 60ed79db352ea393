"""Weights: a path, `s3://…` or `https://…` → a local file with its digest → checked tensors.

Pickled code never runs: `.pt` files are read with `weights_only=True`; safetensors is preferred.
Torch is imported only to read tensors.
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

from pipeline.config.machine import Machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError, Missing, SettingError, StorageError
from pipeline.core.hashing import digest
from pipeline.storage import local_path, open_regular_file, open_storage, read_url, scheme_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WRAPPINGS = ("net", "state_dict", "model_state_dict", "model")
"""Keys under which training code saves the tensors beside other things."""

NAMED = 3
"""Names of tensors of each kind in a message."""

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
        cache: the machine's folder of downloaded weights, and of facts about weights.
    """

    path: Path
    sha256: str
    cache: Path = field(default=Path(), compare=False)


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where weights are, and the digest that they must have.

    Attributes:
        url: a path or an address.
        sha256: the whole digest; "" if it is not known.
        prefix: its first digits, which torchvision writes into file names; "" if not known.
    """

    url: str
    sha256: str = ""
    prefix: str = ""

    def fits(self, sha256: str) -> bool:
        """Return True if a file with the digest *sha256* is the right one."""
        return (not self.sha256 or sha256 == self.sha256) and sha256.startswith(self.prefix)


def required(extractor: str) -> SettingError:
    """Return the error of an extractor that needs weights and has none."""
    return SettingError(f"extract.weights: {extractor} needs weights; {THREE_WAYS}")


def named_source(extract: ExtractParams, machine: Machine) -> WeightsSource:  # noqa: ARG001
    """Return the source that `extract.weights` names: the `source` of most extractors.

    Raises:
        SettingError: it names none.
    """
    if not extract.weights:
        raise required(extract.extractor)
    return WeightsSource(extract.weights, extract.weights_sha256 or "")


def fetch(source: WeightsSource, cache: Path) -> Weights:
    """Return a local file with the weights of *source*.

    A path is used where it is. An address is downloaded once and kept below *cache* under its
    digest; it is read again only if its digest is not known beforehand.

    Raises:
        InputError: the digest is another than expected, or the file is not available; the message
            names the three ways to provide weights.
    """
    if scheme_of(source.url) in {"s3", "https", "http"}:
        weights = _cached(source, cache) or _downloaded(source, cache)
    else:
        weights = _local(source.url, cache)
    if not source.fits(weights.sha256):
        expected = source.sha256 or f"{source.prefix}…"
        raise InputError(
            f"{source.url}: has SHA-256 {weights.sha256}, not {expected}; get the right file, or "
            "set extract.weights_sha256 to what it has"
        )
    return weights


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
    """Return the file that was downloaded before, if it is still what the address has."""
    try:
        note = json.loads((cache / _note(source)).read_text(encoding="utf-8"))
        path = cache / note["path"]
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    expected = bool(source.sha256 or source.prefix) and source.fits(sha256)
    same = expected or (note.get("version") and note["version"] == _version(source.url))
    return Weights(path, sha256, cache) if sha256 == note["sha256"] and same else None


def _version(url: str) -> str:
    """Return the ETag of an object on S3, or "" for the web, which has no reliable one."""
    if not url.startswith("s3:"):
        return ""
    folder, _, name = url.rpartition("/")
    try:
        return open_storage(folder).head(name).version
    except StorageError:
        return ""


def _downloaded(source: WeightsSource, cache: Path) -> Weights:
    try:
        data, version = read_url(source.url)
    except (Missing, StorageError) as error:
        raise InputError(f"extract.weights: {error}; {THREE_WAYS}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    name = Path(sha256) / (PurePosixPath(urlsplit(source.url).path).name or "weights")
    storage = open_storage(str(cache))
    storage.put(name.as_posix(), data)
    # Without the address, since a signed one is a secret.
    note = {"path": name.as_posix(), "sha256": sha256, "version": version}
    storage.put(_note(source), json.dumps(note).encode())
    if not (source.sha256 or source.prefix or source.url.startswith("s3:")):
        log.info("set extract.weights_sha256: %s, or they are fetched at every run", sha256)
    return Weights(cache / name, sha256, cache)


def load(weights: Weights) -> dict[str, torch.Tensor]:
    """Read the tensors of *weights* by name, on the CPU.

    Tensors below a key such as `net` or `state_dict` are unwrapped, and `module.`, which
    DataParallel puts before names, is removed, so that CoralNet's file can be read as it is.

    Raises:
        InputError: the file holds other things than tensors, pickled objects, or values that are
            not finite; or it has changed since its digest was taken, which is in a recipe.
    """
    import torch

    data = weights.path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != weights.sha256:
        raise InputError(
            f"{weights.path}: changed while the run went on (SHA-256 was {weights.sha256}, is "
            f"{sha256}); run dvc repro again"
        )
    content = _parse(weights.path, data)
    for wrapping in WRAPPINGS:
        if isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise InputError(f"{weights.path}: holds no tensors")
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{weights.path}: {name} holds values that are not finite")
    return tensors


def _parse(path: Path, data: bytes) -> Mapping[str, Any]:
    import pickle
    import warnings
    from io import BytesIO

    import torch
    from safetensors.torch import load as load_safetensors

    content: Any
    if path.suffix != ".safetensors" and data[:1] not in PICKLES:
        what = "torch.save has not written it, and its name does not end in .safetensors"
        raise InputError(f"{path}: not a file of weights: {what}")
    try:
        if path.suffix == ".safetensors":
            content = load_safetensors(data)
        else:
            with torch.serialization.safe_globals(_numbers()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a pickle's protocol, which torch then refuses
                content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and safetensors raise many kinds of errors on a damaged file, some not public.
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise InputError(
                f"{path}: holds pickled objects, not only tensors; save it again with "
                "safetensors.torch.save_file"
            ) from error
        # Only the first line: in the next ones torch advises weights_only=False.
        why = (str(error).splitlines() or ["it is empty"])[0]
        raise InputError(f"{path}: not a file of weights: {why}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    return content


def _numbers() -> list[Any]:
    """Return the types in CoralNet's file besides tensors: NumPy's numbers, which run no code.

    Their constructor has one name before NumPy 2, and another since.

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
    """Load *tensors* into *module*; every name and shape must fit, except those of the head.

    Args:
        module: the network.
        tensors: by name.
        head: prefixes of the names of a head, which no feature depends on.
        name: of the weights, for messages.

    Raises:
        InputError: names or shapes do not fit; the first three of each kind are named.
    """
    state = module.state_dict()

    def is_used(key: str) -> bool:
        return not key.startswith(tuple(head)) and not key.endswith("num_batches_tracked")

    used = {key: value for key, value in tensors.items() if is_used(key)}
    shared = [key for key in used if key in state]
    faults = {
        "lacks": [key for key in state if is_used(key) and key not in used],
        "has no use for": [key for key in used if key not in state],
        "has another shape for": [key for key in shared if state[key].shape != used[key].shape],
    }
    found = [f"{what} {', '.join(keys[:NAMED])}" for what, keys in faults.items() if keys]
    if found:
        raise InputError(f"{name}: not the weights of this extractor: it {'; it '.join(found)}")
    state.update(used)  # in place: the state keeps the versions of its modules
    module.load_state_dict(state)
