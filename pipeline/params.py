"""params.yaml, parsed once into frozen values: every experiment setting and its bounds.

Read with ruamel.yaml as YAML 1.2, the reader that DVC uses: PyYAML takes `1e-3` for a string and
`off` for false. Machine settings are not here; they live in luigi.cfg (see pipeline/settings.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from pipeline import plugins
from pipeline.errors import SettingError
from pipeline.hashing import MAX_SHARDS, canonical_json, digest

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]

OWN = re.compile(r"^[\w.]+:\w+$")


class Section(BaseModel):
    """One top-level section of params.yaml, or the settings of one part: frozen and closed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    VERDICTS: ClassVar[frozenset[str]] = frozenset({"max_rejects"})
    """Fields that judge rows or choose which there are, and shape none: not in the recipe."""

    def shaping(self) -> dict[str, Any]:
        """Give the fields that shape a row, as JSON values: the section's part of a recipe."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in self.VERDICTS}


class Bucket(Section):
    """Where the images are, and which of them count."""

    VERDICTS = frozenset({"url", "include", "exclude", "max_rejects"})

    url: str = Field(min_length=1)
    include: tuple[str, ...] = ("*.jpg", "*.jpeg", "*.png", "*.tif", "*.tiff", "*.webp", "*.bmp")
    exclude: tuple[str, ...] = ()
    max_pixels: Positive = 200_000_000
    max_rejects: Share = 0.05


class Annotations(Section):
    """What people have said about the images. A format's own settings stand in its own file."""

    VERDICTS = frozenset({"path"})

    format: str
    path: str | None = None


class ChipMethod(Section):
    """Which windows of an image become chips. A method's own settings stand in its own file."""

    method: str
    max_rejects: Share = 0.05


class Split(Section):
    """Which of the three a group belongs to."""

    by: Literal["group", "image", "folder"] = "group"
    validation: Share = 0.2
    calibration: Share = 0.15

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.calibration >= 1:
            raise ValueError("validation and calibration together leave nothing to train on")
        return self


class Shards(Section):
    """Into how many pieces the tables are cut, by hash of the image's key."""

    count: Positive = 16

    @field_validator("count")
    @classmethod
    def _is_a_power_of_two(cls, count: int) -> int:
        if count & (count - 1) or count > MAX_SHARDS:
            raise ValueError(f"{count} is not a power of two up to {MAX_SHARDS:,}")
        return count


class Extract(Section):
    """What turns chips into features.

    What weights, runtime and batch it comes to is part of the recipe, not how they are named here.
    """

    VERDICTS = frozenset({"batch", "max_rejects", "runtime", "weights", "weights_sha256"})

    extractor: str
    weights: str | None = None
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    batch: Positive | None = None
    store: Literal["float32", "float16"] = "float32"
    levels: tuple[float, float] = (0.0, 65535.0)
    alpha: Literal["drop", "white", "black"] = "drop"
    max_rejects: Share = 0.05

    @field_validator("levels")
    @classmethod
    def _rise(cls, levels: tuple[float, float]) -> tuple[float, float]:
        if not levels[0] < levels[1]:
            raise ValueError("the first level (black) must be below the second (white)")
        return levels

    @property
    def part(self) -> tuple[str, str]:
        """The extractor's file and variant: `torchvision/resnet50` is that file's `resnet50`."""
        return self.extractor.partition("/")[::2]

    @model_validator(mode="after")
    def _names_a_part(self) -> Self:
        name, variant = self.part
        if OWN.match(self.extractor):
            return self
        if name == "torchvision" and not variant:
            raise ValueError("extractor 'torchvision' needs a model: 'torchvision/resnet50'")
        return self


class Train(Section):
    """How the classifier learns."""

    classifier: str = "mlp"
    hidden: tuple[Positive, ...] | None = None
    epochs: Positive = 10
    batch: Positive = 200
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    standardize: bool = True
    calibration: Literal["temperature", "none"] = "temperature"
    seed: Annotated[int, Field(ge=0)] = 0


class Validate(Section):
    """How the classifier is judged."""

    rounds: Positive = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    gallery: Annotated[int, Field(ge=0, le=200)] = 24


@dataclass(frozen=True, slots=True)
class Params:
    """params.yaml, whole: one frozen section a top-level key."""

    bucket: Bucket
    annotations: Annotations
    chip: ChipMethod
    split: Split
    shards: Shards
    extract: Extract
    train: Train
    validate: Validate

    def to_json(self) -> str:
        """Give the text that `from_json` reads back, for Luigi's scheduler."""
        sections = {key: getattr(self, key).model_dump(mode="json") for key in SECTIONS}
        return canonical_json(sections).decode()


SECTIONS: Mapping[str, type[Section]] = {
    "bucket": Bucket,
    "annotations": Annotations,
    "chip": ChipMethod,
    "split": Split,
    "shards": Shards,
    "extract": Extract,
    "train": Train,
    "validate": Validate,
}


def recipe(section: Section, **identity: Any) -> str:
    """Digest everything that shapes a row: the whole section and what the parts say they are."""
    return digest({"section": section.shaping(), "identity": identity})


def load(path: Path | str) -> Params:
    """Read and check *path*, with every fault in one message.

    Raises:
        SettingError: the file is missing or not YAML, or a key or a value is wrong; each fault
            stands on its own line with file, line, key and what to do.
    """
    path = Path(path)
    try:
        found = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(f"{path}: not there; run from the repository's root") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingError(f"{path.name}:{line}: not YAML: {error.problem}") from error
    if not isinstance(found, CommentedMap):
        raise SettingError(f"{path.name}:1: not a table of sections")
    return _checked(found, path.name)


def from_json(text: str) -> Params:
    """Read what `Params.to_json` wrote.

    Raises:
        SettingError: as `load` does.
    """
    found = YAML(typ="safe", pure=True).load(text)
    return _checked(found, "params")


def _checked(found: Any, name: str) -> Params:
    sections: dict[str, Section] = {}
    faults: list[str] = list(_unknown(found, SECTIONS, name, ""))
    for key, kind in SECTIONS.items():
        values = found.get(key)
        if not isinstance(values, Mapping):
            line = _line(found, key)
            faults.append(f"{name}:{line}: {key}: the section is missing or empty")
            continue
        try:
            sections[key] = _section(key, kind, values, name)
        except SettingError as error:
            faults.extend(str(error).split("\n"))
    if faults:
        raise SettingError("\n".join(faults))
    return Params(**cast("dict[str, Any]", sections))


PARTS = {"annotations": ("annotations", "format"), "chip": ("chips", "method")}
"""Sections whose settings belong to a part: the folder, and the key that names the part."""


def _section(key: str, kind: type[Section], values: Mapping[str, Any], name: str) -> Section:
    if key in PARTS:
        folder, chooser = PARTS[key]
        kind = _part_section(folder, f"{key}.{chooser}", values.get(chooser), values, name)
    elif key == "train":
        _named_part(
            "classifiers", "train.classifier", values.get("classifier", "mlp"), values, name
        )
    elif key == "extract":
        chosen = values.get("extractor")
        if isinstance(chosen, str) and not OWN.match(chosen):
            part = chosen.partition("/")[0]
            _named_part("extractors", "extract.extractor", part, values, name)
    try:
        return kind.model_validate(_plain(values))
    except ValidationError as error:
        raise SettingError("\n".join(_faults(error, kind, key, values, name))) from error


def _named_part(
    folder: str, setting: str, chosen: Any, values: Mapping[str, Any], name: str
) -> None:
    """Check that *folder* has the part, without importing it: extractors import slowly."""
    known = plugins.names(folder)
    if chosen not in known:
        nearest = get_close_matches(str(chosen), known, n=1, cutoff=0.5)
        hint = f" (nearest: {nearest[0]!r})" if nearest else ""
        line = _line(values, setting.partition(".")[2])
        raise SettingError(
            f"{name}:{line}: {setting}: no {chosen!r} among {', '.join(known)}{hint}"
        )


def _part_section(
    folder: str, setting: str, chosen: Any, values: Mapping[str, Any], name: str
) -> type[Section]:
    _named_part(folder, setting, chosen, values, name)
    section: type[Section] = plugins.find(folder, chosen, key=setting).Params
    return section


def _plain(value: Any) -> Any:
    """Strip ruamel's own types, and give lists as the tuples that frozen sections hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _line(values: Any, key: str) -> int:
    """The line of *key* in the file, or of its section where the key is not there."""
    if not isinstance(values, CommentedMap):
        return 1
    if key in values:
        return int(values.lc.key(key)[0]) + 1
    return int(values.lc.line) + 1 if values.lc.line is not None else 1


def _unknown(values: Any, known: Mapping[str, Any], name: str, prefix: str) -> Iterator[str]:
    for key in values:
        if key not in known:
            yield (
                f"{name}:{_line(values, key)}: {prefix}{key}: not a setting"
                f"{_nearest(str(key), list(known), prefix)}"
            )


def _nearest(key: str, known: list[str], prefix: str) -> str:
    owner = _owner(key)
    if owner:
        return owner
    close = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {prefix + close[0]!r}?" if close else f"; known are {', '.join(known)}"


@cache
def _owner(key: str) -> str:
    """Say which section or part has *key*, for a setting that stands in the wrong place."""
    for section, kind in SECTIONS.items():
        if key in kind.model_fields:
            return f"; it is a setting of {section!r}"
    for section, (folder, chooser) in PARTS.items():
        for part in plugins.names(folder):
            fields = plugins.find(folder, part, key=f"{section}.{chooser}").Params.model_fields
            if key in fields:
                return f"; it is a setting of {section}.{chooser} {part!r}"
    return ""


def _faults(
    error: ValidationError, kind: type[Section], key: str, values: Mapping[str, Any], name: str
) -> Iterator[str]:
    for fault in error.errors():
        where = [str(part) for part in fault["loc"]]
        line = _line(values, where[0]) if where else _line(values, "")
        at = f"{name}:{line}: {'.'.join([key, *where])}"
        if fault["type"] == "extra_forbidden":
            near = _nearest(where[0], list(kind.model_fields), f"{key}.")
            yield f"{at}: not a setting{near}"
        elif fault["type"] == "missing":
            yield f"{at}: missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = "" if not where else f": {fault['input']!r}"
            yield f"{at}{shown}: {message[0].lower()}{message[1:]}"
