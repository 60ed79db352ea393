"""From labels to classes, by the label map and the rule for rare classes."""

import pytest

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError
from pipeline.train.batches import LEFT_OUT
from pipeline.train.classes import choose_classes
from pipeline.train.label_map import LabelMap, check

LABELS = ["Porites"] * 9 + ["Pocillopora"] * 5 + ["sand"] * 4 + ["shadow"] * 2 + ["fish"]


MAP = LabelMap({"Porites": "coral", "Pocillopora": "coral", "shadow": None}, "x")


@pytest.mark.parametrize(
    ("settings", "names", "fish"),
    [
        ({}, ("coral", "fish", "sand"), 1),
        ({"min_class_count": 2, "rare_classes": "drop"}, ("coral", "sand"), LEFT_OUT),
        ({"min_class_count": 2, "rare_classes": "merge"}, ("coral", "other", "sand"), 1),
        ({"min_class_count": 2}, ("coral", "fish", "sand"), 1),
        ({"min_class_count": 5, "rare_classes": "merge"}, ("coral", "other"), 1),
        ({"min_class_count": 99, "rare_classes": "merge"}, ("other",), 0),
    ],
)
def test_labels_become_classes_by_label_map_and_rare_rule(settings, names, fish):
    found = choose_classes(LABELS, MAP, TrainParams(**settings))
    assert found.names == names
    index, _ = found.encode(["fish", "Porites", "shadow", "never seen"])
    assert index[0] == fish
    assert index[1] == (0 if "coral" in names else names.index("other"))
    assert index[2:].tolist() == [LEFT_OUT, LEFT_OUT]


@pytest.mark.parametrize(
    ("labels", "to"), [(["other"], {}), (["misc"], {"misc": "other"})], ids=["label", "map"]
)
def test_a_label_named_as_the_class_of_rare_ones_is_refused(labels, to):
    labels = [*labels * 9, *["sand"] * 9, "fish"]
    merge = TrainParams(rare_classes="merge", min_class_count=2)
    with pytest.raises(InputError) as raised:
        choose_classes(labels, LabelMap(to, "x"), merge)
    assert str(raised.value) == (
        "train.rare_classes: merge puts rare classes into one named 'other', which is a label "
        f"already ({labels[0]!r}): its chips would become one class with them; give it another "
        "name in train.label_map, or set train.rare_classes to keep or drop"
    )
    with pytest.raises(InputError, match="merge puts rare classes"):  # also of another split
        check(LabelMap(to, "x"), set(labels), merge)
    for rule in ("keep", "drop"):
        assert (
            "other"
            in choose_classes(
                labels, LabelMap(to, "x"), TrainParams(rare_classes=rule, min_class_count=2)
            ).names
        )


def test_a_label_other_can_be_renamed():
    labels = ["other"] * 9 + ["sand"] * 9 + ["fish"]
    merge = TrainParams(rare_classes="merge", min_class_count=2)
    found = choose_classes(labels, LabelMap({"other": "unidentified"}, "x"), merge)
    assert found.names == ("other", "sand", "unidentified")
