"""An extractor that leaves torch: the same bytes by any workers, and nothing imports torch."""

import json

import pytest
import torch
from safetensors.torch import save_file
from test_repro import counts
from torchvision import models


@pytest.fixture
def backbone(repo):
    """A clone whose extractor is a small backbone with weights that were never trained."""
    torch.manual_seed(0)
    save_file(
        models.mobilenet_v3_small(weights=None).state_dict(), repo.path / "weights.safetensors"
    )
    repo.set(extract__extractor="torchvision/mobilenet_v3_small")
    repo.set(extract__weights="weights.safetensors", extract__runtime="auto")
    repo.env["QUADRAT_DEVICE"] = "cpu"
    return repo


def computes_with(repo):
    manifest = json.loads((repo.path / "data/manifests/features.json").read_text())
    return manifest["made_by"]["numerics"]["runtime"]


@pytest.mark.slow
def test_a_processor_extracts_with_openvino_and_torch_stays_a_choice(backbone):
    said = backbone.said("dvc", "repro", "extract")
    assert said.count("trying openvino") == 1
    assert counts(said)["extract"] == (144, 0)
    assert computes_with(backbone).startswith("openvino")
    by_openvino = backbone.digests("data/features")

    nothing = backbone.run("python", "-X", "importtime", "-m", "stages.extract")
    assert counts(nothing.stderr)["extract"] == (0, 144)
    imported = {line.rpartition("|")[2].strip() for line in nothing.stderr.splitlines()}
    assert "pipeline.extract.recipe" in imported
    assert not {"torch", "torchvision", "openvino"} & imported

    backbone.set(extract__runtime="torch")
    assert counts(backbone.said("dvc", "repro", "extract"))["extract"] == (144, 0)
    assert computes_with(backbone) == "torch"
    assert backbone.digests("data/features") != by_openvino
    backbone.set(extract__runtime="auto")
    said = backbone.said("dvc", "repro", "extract", "--no-run-cache")
    assert counts(said)["extract"] == (0, 144)
    assert "trying openvino" not in said
    assert backbone.digests("data/features") == by_openvino


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 8])
def test_any_workers_and_shards_give_openvinos_bytes(backbone, shards):
    backbone.run("dvc", "repro", "extract")
    wanted = backbone.digests("data/features")
    backbone.set(shards__count=shards)
    for workers in ("1", "2", "4"):
        store = f"store-{workers}"
        backbone.run("dvc", "repro", "extract", QUADRAT_STORE=store, QUADRAT_WORKERS=workers)
        backbone.set(shards__count=4)
        backbone.run("dvc", "repro", "extract", QUADRAT_STORE=store, QUADRAT_WORKERS="1")
        assert backbone.digests("data/features") == wanted
        backbone.set(shards__count=shards)
