"""Extractors: what turns chips into features. One file for each, or a user's `module:Class`.

A file of this folder defines two functions. It imports torch only inside them, so that choosing an
extractor costs nothing:

    def identity(extract: ExtractParams, weights: Weights | None) -> Identity
    def build(extract: ExtractParams, weights: Weights | None) -> Extractor

If it takes weights, which are then never None, it also defines where they are:

    def source(extract: ExtractParams, machine: Machine) -> WeightsSource

`EXPORTS = False` keeps it in torch. Instead of `build`, one without a network defines
`engine(extract, weights)`, see pipeline/extract/extractors/precomputed.py. A user's class is called
as `Class(extract, weights)`, with the file that `extract.weights` names or None. It has
`identity()` and the members of an Extractor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config import registry
from pipeline.config.machine import Machine
from pipeline.config.sections import USER_PLUGIN, ExtractParams
from pipeline.core.errors import SettingError
from pipeline.core.hashing import digest
from pipeline.extract.weights import Weights, WeightsSource, fetch, named_source

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
    """A user's class, with the functions of a file of this folder."""

    def __init__(self, name: str) -> None:
        plugin = registry.find_user_plugin(name, key="extract.extractor")
        if not hasattr(plugin.kind, "identity") or not isinstance(plugin.kind, type):
            raise SettingError(
                f"extract.extractor: {name!r} is no extractor: a class with identity(), dim and "
                "size (docs/how-to/own-extractor.md)"
            )
        self.build, self.sha256 = plugin.kind, dict(plugin.sha256)
        self.EXPORTS = getattr(plugin.kind, "EXPORTS", True)

    def source(self, extract: ExtractParams, machine: Machine) -> WeightsSource | None:
        """Return the source of the weights, if the settings name any."""
        return named_source(extract, machine) if extract.weights else None

    def identity(self, extract: ExtractParams, weights: Weights | None) -> Identity:
        """Return the identity that the class states."""
        identity: Identity = self.build(extract, weights).identity()
        return identity


@dataclass(frozen=True, slots=True)
class ChosenExtractor:
    """The extractor that `extract.extractor` names, with its weights.

    Attributes:
        extract: the section.
        part: the extractor's file, or a UserExtractor.
        weights: None if it takes none.
    """

    extract: ExtractParams
    part: Any
    weights: Weights | None

    @property
    def exports(self) -> bool:
        """Whether it can leave torch for another runtime."""
        return bool(getattr(self.part, "EXPORTS", True))

    def identity(self) -> dict[str, Any]:
        """Return what the extractor adds to the recipe, as JSON values.

        For a user's class, the digest of its file and of every file of the user's that it imports
        is added: other code is another extractor.
        """
        values = asdict(self.part.identity(self.extract, self.weights))
        if isinstance(self.part, UserExtractor):
            values["source_sha256"] = digest(self.part.sha256)
        return values

    def build(self) -> Extractor:
        """Build the network, in evaluation mode, on the CPU."""
        extractor: Extractor = self.part.build(self.extract, self.weights)
        return extractor


def choose(extract: ExtractParams, machine: Machine) -> ChosenExtractor:
    """Find the extractor that *extract* names, and its weights.

    Raises:
        SettingError: there is no such extractor; weights are named but not taken, or the reverse.
        InputError: the weights cannot be read, or have another digest.
    """
    if USER_PLUGIN.match(extract.extractor):
        part: Any = UserExtractor(extract.extractor)
    else:
        part = registry.find("extract.extractors", extract.part[0], key="extract.extractor")
    source = part.source(extract, machine) if hasattr(part, "source") else None
    if source is None and extract.weights:
        raise SettingError(f"extract.weights: {extract.extractor} takes no weights; set it to null")
    return ChosenExtractor(extract, part, source and fetch(source, machine.weights))
