"""Extractors: what turns chips into features. One file for each, or a user's own `module:Class`.

A file of this folder defines two functions. It may import torch only inside them, so that naming an
extractor costs nothing:

    def identity(extract: ExtractParams, weights: Weights | None) -> Identity
    def build(extract: ExtractParams, weights: Weights | None) -> Extractor

and, if it takes weights, a third one, which says where they are:

    def source(extract: ExtractParams, machine: Machine) -> WeightsSource

`EXPORTS = False` keeps it in torch. A user's class is called as `Class(extract, weights)`, with the
file that `extract.weights` names or None. It has `identity()` and all that an Extractor has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import registry
from pipeline.config.machine import Machine
from pipeline.config.sections import USER_PLUGIN, ExtractParams
from pipeline.core.errors import SettingError
from pipeline.core.hashing import digest
from pipeline.extract.weights import Weights, WeightsSource, fetch, required

if TYPE_CHECKING:
    import torch

NO_WEIGHTS = "none"

ROWS = 16
"""See `in_whole_vectors`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an extractor adds to the recipe. No field has a default, so that none is forgotten."""

    name: str
    variant: str
    weights_sha256: str
    preprocessing: str
    version: int


class Extractor(Protocol):
    """A function that turns chips into features.

    Attributes:
        dim: values in a feature.
        size: height and width of the chips it takes, in pixels.
    """

    dim: int
    size: int

    def to(self, device: torch.device) -> Extractor:
        """Move to *device* and return itself."""

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Return the features of *chips*.

        Args:
            chips: uint8 [N, size, size, 3] on the extractor's device, RGB.

        Returns:
            float32 [N, dim]; row i depends on chip i alone.
        """


def in_whole_vectors(rows: torch.Tensor) -> torch.Tensor:
    """Append rows of zeros up to a multiple of ROWS, so that no bit depends on a row's place.

    Torch computes sigmoid and silu in vectors of up to 32 floats, and the remaining values at the
    end of a tensor one by one, by another formula: with torch 2.15, the last row of a batch was
    seen to differ in its last bit. Layers have an even number of values for each row, so 16 rows
    leave no remainder. Graphs exported for other runtimes do not need this.
    """
    import torch

    if torch.compiler.is_exporting():
        return rows
    missing = -len(rows) % ROWS
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows


class UserExtractor:
    """A user's class, with the functions that a file of this folder has."""

    def __init__(self, extract: ExtractParams) -> None:
        plugin = registry.find_user_plugin(extract.extractor, key="extract.extractor")
        self.kind, self.sha256 = plugin.kind, dict(plugin.sha256)
        self.EXPORTS = getattr(plugin.kind, "EXPORTS", True)

    def source(self, extract: ExtractParams, machine: Machine) -> WeightsSource | None:
        """Return the source of the weights, if the settings name any."""
        return named_source(extract, machine) if extract.weights else None

    def identity(self, extract: ExtractParams, weights: Weights | None) -> Identity:
        """Return what the class says of itself."""
        identity: Identity = self.kind(extract, weights).identity()
        return identity

    def build(self, extract: ExtractParams, weights: Weights | None) -> Extractor:
        """Create an instance."""
        extractor: Extractor = self.kind(extract, weights)
        return extractor


def find(extract: ExtractParams) -> Any:
    """Return the file of the extractor that *extract* names, or a UserExtractor.

    Raises:
        SettingError: there is no such extractor.
    """
    if USER_PLUGIN.match(extract.extractor):
        return UserExtractor(extract)
    return registry.find("extract.extractors", extract.part[0], key="extract.extractor")


def weights_of(extract: ExtractParams, machine: Machine) -> Weights | None:
    """Return the weights that *extract* names, or None if the extractor takes none.

    Raises:
        SettingError: weights are named but not taken, or needed but not named.
        InputError: they cannot be read, or have another digest.
    """
    part = find(extract)
    source = part.source(extract, machine) if hasattr(part, "source") else None
    if source is None and extract.weights and not isinstance(part, UserExtractor):
        raise SettingError(f"extract.weights: {extract.extractor} takes no weights; set it to null")
    return None if source is None else fetch(source, machine.weights)


def named_source(extract: ExtractParams, machine: Machine) -> WeightsSource:  # noqa: ARG001
    """Return the source that `extract.weights` names: the `source` of most extractors.

    Raises:
        SettingError: it names none.
    """
    if not extract.weights:
        raise required(extract.extractor)
    return WeightsSource(extract.weights, extract.weights_sha256 or "")


def identity(extract: ExtractParams, weights: Weights | None) -> dict[str, Any]:
    """Return what the extractor adds to the recipe, as JSON values.

    For a user's class, the digest of its file and of every file of the user's that it imports is
    added: other code is another extractor.
    """
    part = find(extract)
    values = asdict(part.identity(extract, weights))
    if isinstance(part, UserExtractor):
        values["source_sha256"] = digest(part.sha256)
    return values


def build(extract: ExtractParams, weights: Weights | None) -> Extractor:
    """Build the extractor that *extract* names, in evaluation mode, on the CPU."""
    extractor: Extractor = find(extract).build(extract, weights)
    return extractor
