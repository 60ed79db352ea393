"""A user's own extractor, and settings of extractors that cannot be meant."""

import numpy as np
import pytest
import torch

from pipeline import extractors
from pipeline.errors import SettingError
from pipeline.params import Extract


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def chips(size, count=4):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_an_extractor_that_takes_no_weights_says_so():
    with pytest.raises(SettingError, match="filters takes no weights; set it to null"):
        extractors.weights_of(Extract(extractor="filters", weights="x.pt"))


def test_an_unknown_model_or_name_of_weights_is_named_with_what_there_is():
    with pytest.raises(SettingError, match="no classification model 'resnet55' .*resnet50"):
        extractors.weights_of(Extract(extractor="torchvision/resnet55"))
    with pytest.raises(SettingError, match="resnet18 has no 'IMAGENET1K_V7' among IMAGENET1K_V1"):
        extractors.weights_of(Extract(extractor="torchvision/resnet18", weights="IMAGENET1K_V7"))


OWN = """
from pipeline.extractors import Identity

class Mean:
    dim, size = 3, 8

    def __init__(self, extract, weights):
        pass

    def identity(self):
        return Identity("mean", "", "none", "plain", 1)

    def to(self, device):
        return self

    def __call__(self, chips):
        return chips.float().mean((1, 2))
"""


def test_a_users_own_class_is_found_and_its_code_is_in_its_identity(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    extract = Extract(extractor="mine_for_test:Mean")
    assert extractors.weights_of(extract) is None
    assert extractors.build(extract, None)(chips(8)).shape == (4, 3)
    before = extractors.identity(extract, None)
    (tmp_path / "mine_for_test.py").write_text(OWN.replace(".mean(", ".amax("))
    assert extractors.identity(extract, None) != before
    with pytest.raises(SettingError, match="module 'mine_for_test' has no 'Other'"):
        extractors.build(Extract(extractor="mine_for_test:Other"), None)
