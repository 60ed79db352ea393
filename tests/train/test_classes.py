"""From labels to classes, by the label map and the rule for rare classes."""

import pytest

from pipeline.config.sections import TrainParams
from pipeline.train.batches import LEFT_OUT
from pipeline.train.classes import choose_classes
from pipeline.train.label_map import LabelMap

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
