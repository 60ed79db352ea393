"""CoralNet's extractor: PySpacer's features from PySpacer's weights."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from golden.seeded_weights import pictures, seeded
from safetensors.torch import save_file

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError, SettingError
from pipeline.extract import extractors

GOLDEN = json.loads((ROOT / "tests" / "golden" / "pyspacer.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.fixture(scope="module")
def weights():
    """By PySpacer's own names and shapes, its head of 1,275 classes included."""
    return {
        name: torch.from_numpy(np.asarray(seeded(name, shape)))
        for name, shape in GOLDEN["parameters"].items()
    }


def build(path):
    extract = ExtractParams(extractor="coralnet", weights=str(path))
    return extractors.choose(extract, machine()).build()


def features(extractor):
    with torch.inference_mode():
        return extractor(torch.from_numpy(pictures())).numpy()


@pytest.fixture(scope="module")
def ours(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "b0.safetensors"
    save_file(weights, path)
    return features(build(path))


def test_the_recorded_features_depend_on_the_picture():
    """Features of dead weights would agree with anything."""
    recorded = np.array(GOLDEN["features"])
    scale = np.abs(recorded).max()
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(recorded[one] - recorded[other]).max() > 0.1 * scale


def test_features_are_those_that_pyspacer_gave(ours):
    """Recorded by tests/golden/pyspacer.py. Other features: raise VERSION in coralnet.py."""
    recorded = np.array(GOLDEN["features"])
    scale = np.abs(recorded).max(axis=1, keepdims=True)
    assert np.abs(ours[:, :: GOLDEN["every"]] - recorded).max() <= 1e-4 * scale.min()
    assert ours.mean(1) == pytest.approx(GOLDEN["mean"], rel=1e-4)
    assert ours.std(1, ddof=1) == pytest.approx(GOLDEN["deviation"], rel=1e-4)


def test_coralnets_own_layout_loads_as_it_is(weights, ours, tmp_path):
    """A pickle of `net`, under DataParallel's names, beside NumPy's numbers."""
    path = tmp_path / "efficientnet_b0_ver1.pt"
    net = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"net": net, "acc": np.float64(0.5), "epoch": np.int64(3)}, path)
    assert np.array_equal(features(build(path)), ours)


@pytest.mark.parametrize(
    "head", [{}, {"_fc.weight": torch.ones(7, 1280)}, {"_fc.0.bias": torch.ones(2)}]
)
def test_the_head_may_be_missing_of_another_shape_or_another(head, weights, ours, tmp_path):
    body = {name: value for name, value in weights.items() if not name.startswith("_fc.")}
    save_file(body | head, tmp_path / "w.safetensors")
    assert np.array_equal(features(build(tmp_path / "w.safetensors")), ours)


def test_weights_of_another_network_are_refused_by_name(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    wrong = dict(weights)
    wrong["_conv_stem.weight"] = torch.ones(2, 3, 3, 3)
    wrong["stem"] = wrong.pop("_bn0.weight")
    save_file(wrong, path)
    with pytest.raises(InputError) as stop:
        build(path)
    assert str(stop.value) == (
        f"{path}: not the weights of this extractor: it lacks _bn0.weight; it has no use for stem; "
        "it has another shape for _conv_stem.weight"
    )


def test_weights_are_needed():
    with pytest.raises(
        SettingError, match="extract.weights: coralnet needs weights; give them in one of"
    ):
        extractors.choose(ExtractParams(extractor="coralnet"), machine())
