"""The sections of params.yaml: their settings, bounds and defaults, and what is in recipes.

The settings of an annotation format or a chip method are in its own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.config.templates import Template, template
from pipeline.core import schemas
from pipeline.core.hashing import MAX_SHARDS

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]

USER_PLUGIN = re.compile(r"^[\w.]+:\w+$")

GROUPINGS = ("group", "image", "folder", "day", "place")
"""What chips can be grouped by, besides the fields of `index.pattern`."""

NoData = float | str
"""How no-data is marked: a pixel value, or "alpha", or a template of the keys of masks."""

MASK_FIELDS = ("key", "folder", "stem")
"""An image's key without the extension, and its two parts."""


class Section(BaseModel):
    """A section of params.yaml, or the settings of a part: frozen, and without other keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    NOT_IN_RECIPE: ClassVar[frozenset[str]] = frozenset({"max_rejects"})
    """Fields that do not change the content of rows: not in the recipe."""

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields that shape a row, as JSON values: the section's part of a recipe."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in self.NOT_IN_RECIPE}


class BucketParams(Section):
    """Where the images are, and which of them are used."""

    NOT_IN_RECIPE = frozenset({"url", "include", "exclude", "follow_symlinks", "max_rejects"})

    url: str = Field(min_length=1)
    include: tuple[str, ...] = ("*.jpg", "*.jpeg", "*.png", "*.tif", "*.tiff", "*.webp", "*.bmp")
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    max_pixels: Positive = 200_000_000
    max_bytes: Positive = 1_000_000_000
    max_rejects: Share = 0.05


class IndexParams(Section):
    """What the index reads from an image's key."""

    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _is_a_template(cls, pattern: str | None) -> str | None:
        fields = () if pattern is None else template(pattern).fields
        for taken in (name for name in fields if name in {*schemas.IMAGES.names, *GROUPINGS}):
            raise ValueError(f"{{{taken}}} is the name of something else; rename the field")
        return pattern

    @property
    def template(self) -> Template | None:
        """The pattern as a template."""
        return None if self.pattern is None else template(self.pattern)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in the pattern."""
        return () if self.template is None else self.template.fields


class AnnotationParams(Section):
    """What people have annotated. Each format has more settings, in its own file."""

    NOT_IN_RECIPE = frozenset({"path"})

    format: str
    path: str | None = None
    background: Annotated[float, Field(ge=0)] = 0.0
    background_label: str = Field(default="background", min_length=1)
    background_seed: Annotated[int, Field(ge=0)] = 0


class ChipParams(Section):
    """Which windows of an image become chips. Each method has more settings, in its own file."""

    method: str
    max_rejects: Share = 0.05


class SplitParams(Section):
    """Which groups are for training, calibration and validation."""

    by: str = "group"
    validation: Share = 0.2
    calibration: Share = 0.15

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.calibration >= 1:
            raise ValueError("validation and calibration together leave nothing to train on")
        return self


class ShardParams(Section):
    """How many shards tables have, by hash of the image's key."""

    count: Positive = 16

    @field_validator("count")
    @classmethod
    def _is_a_power_of_two(cls, count: int) -> int:
        if count & (count - 1) or count > MAX_SHARDS:
            raise ValueError(f"{count} is not a power of two up to {MAX_SHARDS:,}")
        return count


class ExtractParams(Section):
    """How features are computed from chips.

    The weights, runtime and batch that are used are in the recipe, instead of their settings.
    """

    NOT_IN_RECIPE = frozenset({"batch", "max_rejects", "runtime", "weights", "weights_sha256"})

    extractor: str
    weights: str | None = None
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    batch: Positive | None = None
    dtype: Literal["float32", "float16"] = "float32"
    intensity_range: tuple[float, float] = (0.0, 65535.0)
    grey_intensity_range: tuple[float, float] | None = None
    alpha: Literal["drop", "white", "black"] = "drop"
    resize: Literal["stretch", "pad"] = "stretch"
    pad_extent: Positive = 224
    max_rejects: Share = 0.05

    @field_validator("intensity_range", "grey_intensity_range")
    @classmethod
    def _rises(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError("the first value (black) must be below the second (white)")
        return limits

    @property
    def part(self) -> tuple[str, str]:
        """The extractor's file and variant: `torchvision/resnet50` is that file's `resnet50`."""
        return self.extractor.partition("/")[::2]

    @model_validator(mode="after")
    def _names_a_part(self) -> Self:
        if self.part == ("torchvision", ""):
            raise ValueError("extractor 'torchvision' needs a model: 'torchvision/resnet50'")
        return self


RENAMED: Mapping[str, str] = {
    "bucket.follow_links": "follow_symlinks",
    "extract.fit": "resize, and its value resize is now stretch",
    "extract.grey_levels": "grey_intensity_range",
    "extract.levels": "intensity_range",
    "extract.span": "pad_extent",
    "extract.store": "dtype",
    "train.balance_cap": "max_per_class",
    "train.balance_floor": "min_per_class",
    "train.memory": "memory_gib",
    "train.min_labels": "min_class_count",
    "train.rare": "rare_classes",
    "validate.gallery": "gallery_size",
    "validate.rounds": "bootstrap_rounds",
    "validate.wanted_accuracy": "target_accuracy",
}
"""The old names of settings, up to version 0.1, and their new names."""

PYSPACER = {
    "epochs": 10,
    "batch": 200,
    "weight_decay": 5e-7,
    "standardize": False,
    "calibration": "sigmoid",
}
MERMAID = {"hidden": (500, 300, 100), "learning_rate": 1e-4, "epochs": 40, "patience": 3}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "pyspacer": PYSPACER,
    "mermaid": {**PYSPACER, **MERMAID},
}
"""How other tools train. PySpacer 0.14: `train_classifier.py`, whose MLPClassifier has alpha 1e-4,
which scikit-learn divides by the batch of 200. MERMAID: its production recipe, with PySpacer."""


class TrainParams(Section):
    """How the classifier is trained. Null: the value of the preset, or else the default."""

    NOT_IN_RECIPE = frozenset({"label_map", "label_map_check"})

    preset: Literal["pyspacer", "mermaid"] | None = None
    classifier: str = "mlp"
    hidden: tuple[Positive, ...] | None = None
    epochs: Positive | None = None
    batch: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["constant", "cosine"] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Positive | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    standardize: bool = True
    label_map: str | None = None
    label_map_check: Literal["names", "closed", "open"] = "names"
    min_class_count: Positive = 1
    rare_classes: Literal["keep", "drop", "merge"] = "keep"
    balance: Literal["none", "weights", "resample"] = "none"
    min_per_class: Positive = 100
    max_per_class: Positive = 10_000
    calibration: Literal["mixture", "temperature", "sigmoid", "none"] = "mixture"
    memory_gib: Annotated[float, Field(gt=0)] = 4.0
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        set_values = {name: value for name, value in values.items() if value is not None}
        return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **set_values}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.max_per_class < self.min_per_class:
            raise ValueError("max_per_class is below min_per_class")
        return self


class ValidateParams(Section):
    """How the classifier is evaluated."""

    bootstrap_rounds: Positive = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    gallery_size: Annotated[int, Field(ge=0, le=200)] = 60
    compare: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    target_accuracy: Annotated[float, Field(gt=0, le=1)] = 0.95
    title: str | None = None
