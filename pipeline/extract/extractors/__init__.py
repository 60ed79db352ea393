"""What turns chips into features: one file an extractor, or a user's own `module:Class`.

A file of this folder defines two functions, and may import torch only inside them, so that naming
an extractor costs nothing:

    def identity(extract: Extract, weights: Weights | None) -> Identity
    def build(extract: Extract, weights: Weights | None) -> Extractor

and, where it takes weights,

    def source(extract: Extract, machine: Machine) -> Source

which says where they are. A user's own class is called as `Class(extract, weights)`, with the file
that `extract.weights` names or None, and has `identity()` beside what an Extractor has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import registry
from pipeline.config.machine import Machine, machine
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
    """What an extractor adds to the recipe; no field has a default, so none is forgotten."""

    name: str
    variant: str
    weights_sha256: str
    preprocessing: str
    version: int


class Extractor(Protocol):
    """A function from chips to features.

    Attributes:
        dim: values in a feature.
        size: height and width of the chips it takes, in pixels.
    """

    dim: int
    size: int

    def to(self, device: torch.device) -> Extractor:
        """Move to *device* and give itself."""

    def __call__(self, chips: torch.Tensor) -> torch.Tensor:
        """Give the features of *chips*.

        Args:
            chips: uint8 [N, size, size, 3] on the extractor's device, RGB.

        Returns:
            float32 [N, dim]; row i depends on chip i alone.
        """


def in_whole_vectors(rows: torch.Tensor) -> torch.Tensor:
    """Add rows of zeros up to a multiple of ROWS, so that no value's bits depend on its place.

    Torch computes sigmoid and silu in vectors, up to 32 floats at a time, and what is left over at
    the end of a tensor one by one, by another formula: seen with 2.15, the last row of a batch
    differs in the last bit. Networks' layers have an even number of values a row, so that 16 rows
    leave nothing over. A graph for another runtime is not burdened with it.
    """
    import torch

    if torch.compiler.is_exporting():
        return rows
    missing = -len(rows) % ROWS
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows


def weights_of(extract: ExtractParams) -> Weights | None:
    """Get the weights that *extract* names, or None for an extractor that takes none.

    Raises:
        SettingError: weights are named and none are taken, or needed and not named.
        InputError: they cannot be had, or have another digest.
    """
    settings = machine()
    if USER_PLUGIN.match(extract.extractor):
        source = own_source(extract) if extract.weights else None
    else:
        part = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
        source = part.source(extract, settings) if hasattr(part, "source") else None
        if source is None and extract.weights:
            raise SettingError(
                f"extract.weights: {extract.extractor} takes no weights; set it to null"
            )
    return None if source is None else fetch(source, settings.state / "weights")


def looked_up(extract: ExtractParams) -> Weights | None:
    """Give the table whose features are taken as they are, for an extractor that is one."""
    if USER_PLUGIN.match(extract.extractor):
        return None
    part = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
    return weights_of(extract) if getattr(part, "LOOKED_UP", False) else None


def own_source(extract: ExtractParams, machine: Machine | None = None) -> WeightsSource:  # noqa: ARG001
    """Give the source that `extract.weights` itself names: a part's `source` where no other is.

    Raises:
        SettingError: it names none.
    """
    if not extract.weights:
        raise required(extract.extractor)
    return WeightsSource(extract.weights, extract.weights_sha256 or "")


def identity(extract: ExtractParams, weights: Weights | None) -> dict[str, Any]:
    """Give what the extractor of *extract* adds to the recipe, as JSON values.

    For a user's own class the digest of its file, and of every file beside it that it imports, is
    added: other code is another extractor.
    """
    if not USER_PLUGIN.match(extract.extractor):
        part = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
        return asdict(part.identity(extract, weights))
    own = registry.find_user_plugin(extract.extractor, key="extract.extractor")
    identity: Identity = own.kind(extract, weights).identity()
    return {**asdict(identity), "source_sha256": digest(dict(own.sha256))}


def build(extract: ExtractParams, weights: Weights | None) -> Extractor:
    """Build the extractor that *extract* names, in evaluation mode, on the CPU."""
    extractor: Extractor
    if USER_PLUGIN.match(extract.extractor):
        own = registry.find_user_plugin(extract.extractor, key="extract.extractor")
        extractor = own.kind(extract, weights)
    else:
        part = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
        extractor = part.build(extract, weights)
    return extractor
