"""Earlier classifiers, judged on the chips that the new one is judged on."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.annotations import label_separator
from pipeline.core.errors import InputError, SettingError
from pipeline.store import outputs
from pipeline.store.context import Context
from pipeline.store.objects import Piece
from pipeline.store.outputs import FEATURES
from pipeline.train import labelled_features
from pipeline.train.model import Classifier
from pipeline.validate import baselines
from pipeline.validate import recipe as results_recipe
from pipeline.validate.metrics._several import Either
from pipeline.validate.predictions import answers, separator_of


def others(
    context: Context,
    target: Piece,
    found: labelled_features.LabelledFeatures,
    to: Mapping[str, str | None],
) -> dict[str, Either]:
    """Judge the classifiers that `validate.compare` names.

    Args:
        context: of the stage.
        target: the results, as they were named before.
        found: chips of the validation split.
        to: what becomes of labels; see `answers`.

    Raises:
        SettingError: a classifier is not there, or has learnt from other features.
        InputError: it cannot be read, or is not the one that *target* is named by.
    """
    names = context.params.validate.compare
    read = {name: _fitting(name, context, found.dim) for name in names}
    if results_recipe.recipe(context.params).digest != target.recipe:
        raise InputError("validate.compare: a classifier has just changed; run dvc repro again")
    return {name: answers(classifier, found, to).judged() for name, classifier in read.items()}


def _fitting(name: str, context: Context, dim: int) -> Classifier:
    found = baselines.read(name, context.machine.state)
    made_by = outputs.require_manifest(FEATURES)["made_by"]
    if baselines.identity(found) != baselines.identity_of(made_by):
        raise SettingError(
            f"validate.compare: {name!r} has learnt from another extractor's features, which are "
            "not at hand; compare classifiers of one extractor"
        )
    if found.sizes[0] != dim:
        raise SettingError(
            f"validate.compare: {name!r} takes features of {found.sizes[0]} values, not {dim}"
        )
    if separator_of(found.card) != label_separator(context.params.annotations):
        raise SettingError(
            f"validate.compare: {name!r} gives chips "
            f"{'one label' if separator_of(found.card) is None else 'several labels'}, and "
            "annotations.label_separator asks for something else"
        )
    return found
