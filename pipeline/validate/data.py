"""What analyses may use: predictions, features, labels and images, each read when it is needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chip.labels import image_values
from pipeline.config.loader import Params
from pipeline.config.sections import ValidateParams
from pipeline.core import schemas
from pipeline.core.errors import InputError, Rejected, StorageError
from pipeline.images.sandbox import decoding
from pipeline.store import tables
from pipeline.store.context import Context
from pipeline.store.outputs import CLASSIFIER
from pipeline.train import model, training_record
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.train.model import Classifier
from pipeline.validate import baselines, label_issues, near_duplicates, overlaps
from pipeline.validate.analyses import Result
from pipeline.validate.comparable import Comparable, Today, compare_on_unused
from pipeline.validate.evaluation import Evaluation
from pipeline.validate.near_duplicates import NearDuplicates
from pipeline.validate.overlaps import Overlaps
from pipeline.validate.predictions import Predictions, predict
from pipeline.validate.report import pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ValidationData:
    """The classifier and the data that it is evaluated on.

    Attributes:
        context: of the stage.
        classifier: the one to be evaluated.
        labels: schemas.LABELS of the labelled chips, of all splits.
        validation, calibration: the labelled chips of these splits, with their features.
        inputs: digests of what the results are made from.
        results: of the analyses so far.
    """

    context: Context
    classifier: Classifier
    labels: pa.Table
    validation: LabelledFeatures
    calibration: LabelledFeatures
    inputs: Mapping[str, Any]
    results: list[Result] = field(default_factory=list)

    @property
    def params(self) -> Params:
        """All of params.yaml."""
        return self.context.params

    @property
    def validate(self) -> ValidateParams:
        """The section `validate`."""
        return self.params.validate

    @property
    def card(self) -> Mapping[str, Any]:
        """Where the classifier comes from; see train/model.py."""
        return self.classifier.card

    @property
    def label_map(self) -> Mapping[str, str | None]:
        """The class of each label that has another name; None if the label is left out."""
        label_map: Mapping[str, str | None] = self.card["labels"]["to"]
        return label_map

    @cached_property
    def predictions(self) -> Predictions:
        """The predictions of the validation split."""
        return predict(self.classifier, self.validation, self.label_map)

    @cached_property
    def calibration_predictions(self) -> Predictions:
        """The predictions of the calibration split, by a classifier that has not seen it.

        The split may be empty.
        """
        held_out = model.read_held_out(CLASSIFIER, self.classifier)
        return predict(held_out, self.calibration, self.label_map)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The predictions of the validation split beside its labels."""
        return self.predictions.evaluation

    @cached_property
    def earlier(self) -> dict[str, Comparable]:
        """The classifiers that `validate.compare` names, each beside this one."""
        earlier = baselines.read_all(self.context, self.validation.dim)
        if not earlier:
            return {}
        own = training_record.read(CLASSIFIER, self.card)
        if own is None:
            raise InputError(f"{CLASSIFIER}: not a classifier of this version; run dvc repro train")
        today = Today(tables.images(), self.params.split.by, own)
        return {
            name: compare_on_unused(
                name,
                (self.predictions, predict(one.classifier, self.validation, self.label_map)),
                one.record,
                today,
            )
            for name, one in earlier.items()
        }

    @cached_property
    def curve(self) -> pd.DataFrame:
        """The learning curve; see train/loop.py."""
        return pd.read_csv(CLASSIFIER / "curve.csv")

    @cached_property
    def images(self) -> pa.Table:
        """`key` and `version` of the images that have labelled chips."""
        columns = ["key", "version"]
        parts = (part.group_by(columns).aggregate([]) for part in tables.chips(columns))
        images = pa.concat_tables(parts)
        return images.filter(pc.is_in(images["key"], value_set=self.labels["key"].unique()))

    @cached_property
    def overlaps(self) -> Overlaps:
        """The chips of different splits that share pixels, and images in several splits."""
        images = tables.images(["key", "version", "width", "height"])
        return overlaps.find(self.labels, images, tables.chips())

    @cached_property
    def near_duplicates(self) -> NearDuplicates:
        """The validation chips that look nearly the same as a chip of the other splits."""
        return near_duplicates.find(self.validation, self.labels)

    @cached_property
    def label_issues(self) -> pd.DataFrame:
        """The labels of the validation and calibration splits that are likely to be wrong."""
        return label_issues.find(self.predictions, self.calibration_predictions)

    @cached_property
    def rejected(self) -> pa.Table:
        """schemas.REJECTS of the stages before this one."""
        return tables.rejected()

    @cached_property
    def decoder_warnings(self) -> pa.Table:
        """The chips of images that their decoder warned of; see `tables.decoder_warnings`."""
        return tables.decoder_warnings()

    def metadata(self, name: str) -> list[str | None]:
        """Return the value of *name*, see `validate.by`, for the image of each validation chip."""
        keys = self.predictions.table["key"]
        values: list[str | None] = image_values(keys, tables.images(), name).to_pylist()
        return values

    def pictures(self, chip_ids: Sequence[bytes], count: int) -> dict[bytes, bytes]:
        """Cut chips and their surroundings out of their images.

        Args:
            chip_ids: the chips; those whose image cannot be decoded are left out.
            count: how many pictures the page has in all, which decides how large they are.

        Returns:
            WebP by chip.

        Raises:
            StorageError: an image cannot be read, or has changed.
        """
        if not chip_ids:
            return {}
        wanted = pa.array(sorted(chip_ids), schemas.CHIP_ID)
        rows = (
            table.filter(pc.is_in(table["chip_id"], value_set=wanted)).to_pylist()
            for table in tables.chips()
        )
        machine = self.context.machine
        found: dict[bytes, bytes] = {}
        with decoding(self.params.extract, isolate=machine.isolates_decoding) as decode:
            for (key, version), chips in groupby(
                chain(*rows), lambda row: (row["key"], row["version"])
            ):
                try:
                    data = self.context.bucket.read(key, if_version=version)
                except Rejected as error:
                    raise StorageError(error.detail) from error
                try:
                    pixels = decode(data, key).pixels
                except Rejected as error:  # its features were precomputed elsewhere
                    log.warning("validate: %s: not shown: %s", key, error.detail)
                    continue
                for row in chips:
                    window = (row["top"], row["left"], row["height"], row["width"])
                    found[row["chip_id"]] = pictures.picture(pixels, window, count)
        return found
