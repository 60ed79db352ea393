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
    """A folder, or `s3://bucket/prefix` on any S3-compatible service."""
    include: tuple[str, ...] = ("*.jpg", "*.jpeg", "*.png", "*.tif", "*.tiff", "*.webp", "*.bmp")
    """Patterns of the keys that are images, for the key or its last part; case is ignored."""
    exclude: tuple[str, ...] = ()
    """Patterns of keys that are left out, in the same form."""
    follow_symlinks: bool = False
    """Follow links in a folder that lead out of it or to another folder."""
    max_pixels: Positive = 200_000_000
    """Images with more pixels are rejected by their header, before they are decoded."""
    max_bytes: Positive = 1_000_000_000
    """Larger objects are rejected before they are read: each is held in memory to be decoded."""
    max_rejects: Share = 0.05
    """The run stops if a larger share of the objects cannot be used."""


class IndexParams(Section):
    """What the index reads from an image's key."""

    pattern: str | None = None
    """Fields in the keys, such as `{site}/{date}/{transect}_{n}.jpg`: each is a column of the index
    and a name for `split.by` and `validate.by`."""

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
    """Who wrote the annotation file, or what it is."""
    path: str | None = None
    """The annotation file: a path, `s3://…` or `https://…`; null for `folders`."""
    background: Annotated[float, Field(ge=0)] = 0.0
    """Unlabelled chips that get `background_label`, for each labelled chip; 0.5 is one for two."""
    background_label: str = Field(default="background", min_length=1)
    """The label of background; no annotation may have it."""
    background_seed: Annotated[int, Field(ge=0)] = 0
    """Another seed chooses other background chips."""


class ChipParams(Section):
    """Which windows of an image become chips. Each method has more settings, in its own file."""

    method: str
    """Which windows of an image become chips."""
    max_rejects: Share = 0.05
    """The run stops if a larger share of the annotations cannot be used."""


class SplitParams(Section):
    """Which groups are for training, calibration, validation and the final test."""

    by: str = "group"
    """What stays in one split: `group` (the annotations' column; if blank, that of its image),
    `image`, `folder`, `day` or `place` (from EXIF), or a field of `index.pattern`."""
    validation: Share = 0.2
    """The share of the groups that the classifier is evaluated on."""
    calibration: Share = 0.15
    """The share of the groups for calibration and thresholds."""
    test: Share = 0.0
    """The share of the groups that only `python -m stages.test` looks at, once all is chosen."""

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.calibration + self.test >= 1:
            raise ValueError("validation, calibration and test together leave nothing to train on")
        return self


class ShardParams(Section):
    """How many shards tables have, by hash of the image's key."""

    NOT_IN_RECIPE = frozenset({"count"})

    count: Positive = 16
    """Files that each table is divided into, a power of two; 1,000 to 10,000 chips each is good."""

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
    """What computes features: a part, `torchvision/NAME`, or your own `module:Class`."""
    weights: str | None = None
    """A path, `s3://…`, `https://…`, or a name that torchvision has, as `IMAGENET1K_V1`; null:
    none, or torchvision's default."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """The digest that the weights must have; null: the digest that they have is recorded."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """fp32 is exact; bf16 and fp16 are faster on some devices; tf32 is for NVIDIA cards."""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the network; auto: OpenVINO on a processor if a trial gives PyTorch's features to
    1e-5, else PyTorch."""
    batch: Positive | None = None
    """Chips in one forward pass; null: the fastest for the runtime. Use a multiple of 16."""
    dtype: Literal["float32", "float16"] = "float32"
    """The type of stored features; float16 halves their size."""
    intensity_range: tuple[float, float] = (0.0, 65535.0)
    """The values that become black and white, for images of more than 8 bits."""
    grey_intensity_range: tuple[float, float] | None = None
    """The same for grey images of 8 bits; null: they are unchanged."""
    alpha: Literal["drop", "white", "black"] = "drop"
    """Transparency: drop it (as PySpacer does), or composite the image over white or black."""
    resize: Literal["stretch", "pad"] = "stretch"
    """Stretch chips of another size than the extractor's, or pad them (keeps shape and scale)."""
    pad_extent: Positive = 224
    """Under `pad`: pixels of the image that fill the extractor's input; larger chips are shrunk."""
    max_rejects: Share = 0.05
    """The run stops if a larger share of the chips cannot be read."""

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

    NOT_IN_RECIPE = frozenset({"label_map", "label_map_check", "memory_gib"})

    preset: Literal["pyspacer", "mermaid"] | None = None
    """The settings of a peer, for the fields below that are null."""
    classifier: str = "mlp"
    """A multilayer perceptron or logistic regression."""
    hidden: tuple[Positive, ...] | None = None
    """Sizes of the hidden layers; null: 100, and from 50,000 labelled chips on 200 and 100."""
    epochs: Positive | None = None
    """Passes over the labelled chips; null: 10, up to 40 for fewer than 10,000 chips, and 2 to 4
    for 50,000 or more."""
    batch: Positive | None = None
    """Chips in one step; null: 500, or a tenth of few chips, but at least 32."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """null: 0.001, from 50,000 chips on 0.0025 (lr: 0.00125), scaled by the batch."""
    schedule: Literal["constant", "cosine"] | None = None
    """Constant, or down to 0 by a cosine; null: cosine from 50,000 chips on, without a preset."""
    weight_decay: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """The L2 penalty. auto: `lr` is solved to its optimum, with the penalty that suits the
    calibration split best; it is 0 for `mlp`, beyond 30 million values, and where a setting of
    minibatches (`epochs`, `batch`, `learning_rate`, `schedule`, `patience`) is set."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of hidden values that are dropped in training."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each label that is spread over all classes."""
    patience: Positive | None = None
    """Stop after so many epochs without a lower calibration loss, and use the best; null: never."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the training: bf16 is faster where the device has it."""
    standardize: bool = True
    """Bring features to mean 0 and, by one scale for all values, to deviation 1."""
    label_map: str | None = None
    """A CSV of `from,to` that merges labels, or drops them where `to` is empty."""
    label_map_check: Literal["names", "closed", "open"] = "names"
    """What must exist: the names in the map; closed: and a line for every label; open: nothing."""
    min_class_count: Positive = 1
    """Classes with fewer labelled chips in the train split are rare."""
    rare_classes: Literal["keep", "drop", "merge"] = "keep"
    """Keep rare classes, drop them, or merge them into `other`."""
    balance: Literal["none", "weights", "resample", "logit_adjustment"] = "none"
    """Rare classes weigh more in the loss (weights), their chips are repeated (resample), or the
    loss knows the shares of the classes, and the scores do not (logit_adjustment)."""
    min_per_class: Positive = 100
    """resample: chips of a smaller class are repeated up to this number."""
    max_per_class: Positive = 10_000
    """resample: at most so many chips of a class in an epoch."""
    calibration: Literal["mixture", "temperature", "sigmoid", "none"] = "mixture"
    """Chosen on the calibration split: one temperature; mixture: and the share of wrong labels;
    sigmoid: two numbers for each class, as in PySpacer."""
    final: Literal["train", "all"] = "train"
    """The chips that the final classifier is trained on: `all` are those of the calibration split,
    too, once it has decided calibration, thresholds, the penalty, and when to stop. Classes are
    those of the train split in any case."""
    memory_gib: Annotated[float, Field(gt=0)] = 4.0
    """Features that exceed this are kept in a scratch file in `.quadrat/`, to the same results."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed starts the training from other weights."""

    @property
    def decay(self) -> float:
        """The L2 penalty in minibatches."""
        return 0.0 if self.weight_decay == "auto" else self.weight_decay

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
    """Resamples of the groups behind the 95 % interval of the calibration error."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed draws other resamples, and other signs for the test of a comparison."""
    gallery_size: Annotated[int, Field(ge=0, le=200)] = 60
    """Chips that the report shows; 0: none, and the bucket is not read."""
    compare: tuple[str, ...] = ()
    """Earlier classifiers to evaluate on the same chips: git revisions, or folders."""
    by: tuple[str, ...] = ()
    """Accuracy by these, one table each: names as in `split.by`."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The accuracy that predictions above the threshold must reach."""
    sweep: str | None = None
    """What `python -m stages.sweep` wrote: the report shows what choosing the best is worth."""
    title: str | None = None
    """The title of the report; null: the bucket's name."""
