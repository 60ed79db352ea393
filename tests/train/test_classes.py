"""From labels to classes, by the label map and the rule for rare classes."""

import numpy as np
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


def test_the_rows_of_merged_labels_count_together_and_the_card_has_what_is_rare():
    labels = ["hard"] * 3 + ["sand"] * 2 + ["soft"] * 2 + ["fish"]
    train = TrainParams(min_class_count=5, rare_classes="drop")
    found = choose_classes(labels, LabelMap({"soft": "coral", "hard": "coral"}, "x"), train)
    assert found.names == ("coral",)
    assert found.card(train) == {
        "to": {"fish": None, "hard": "coral", "sand": None, "soft": "coral"},
        "rare": {"fish": 1, "sand": 2},
        "rule": "drop",
    }
    assert list(found.card(train)["to"]) == ["fish", "hard", "sand", "soft"]


def test_each_label_of_a_row_is_mapped_and_counted():
    texts = ["cod;sand", "coral;eel", "", "coral;eel;shadow", "shark", "cod;sand"]
    train = TrainParams(min_class_count=2, rare_classes="drop")
    found = choose_classes(texts, LabelMap({"cod": "fish", "eel": "fish"}, "x"), train, ";")
    assert found.names == ("coral", "fish", "sand")
    assert found.rare == {"shadow": 1, "shark": 1}
    y, sets = found.encode(texts)
    assert sets.tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert y.tolist() == [2, 1, 0, 1, 0, 2]
    assert (y.dtype, sets.dtype) == (np.int64, np.float32)
    unknown = ["cod", "cod;whale", "", "whale", "cod;shark", "whale", "coral;cod"]
    assert found.count_unknown(unknown) == 3


def test_rows_with_a_label_that_is_no_class_are_counted():
    found = choose_classes(LABELS, MAP, TrainParams())
    assert found.count_unknown(["fish", "whale", "Porites", "whale", "shark"]) == 3


def test_no_row_has_no_class():
    for separator in (None, ";"):
        y, sets = choose_classes(LABELS, MAP, TrainParams(), separator).encode([])
        assert y.dtype == np.int64
        assert y.shape == (0,)
        assert sets is None or sets.shape == (0, 3)
