"""The example of a user's own extractor: DINOv2 by timm, from Meta's file and from timm's."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from safetensors.torch import save_file

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError, SettingError
from pipeline.extract import extractors

NAME = "examples.dinov2:DinoV2"


@pytest.fixture(scope="module")
def network():
    """The model as it is published: for 518 pixels; never trained."""
    torch.manual_seed(0)
    found = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=518)
    for name, values in found.named_parameters():
        if ".ls" in name:  # at 1e-5, as they begin, a feature hardly depends on the picture
            torch.nn.init.constant_(values, 0.5)
    return found.eval()


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def built(tensors, name="weights.safetensors"):
        path = tmp_path / name
        save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
        extract = ExtractParams(extractor=NAME, weights=str(path))
        made = extractors.choose(extract, machine()).build()
        return made.to(torch.device("cpu")), extract

    return built


@pytest.fixture(scope="module")
def chips():
    return np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), np.uint8)


def features(extractor, chips):
    with torch.inference_mode():
        return extractor(torch.from_numpy(chips)).numpy()


def test_its_features_equal_timms(network, build, chips):
    extractor, _ = build(network.state_dict())
    there = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(network.state_dict(), there)
    there.load_state_dict(filtered)
    config = timm.data.resolve_data_config(model=there)
    pixels = (chips / 255 - config["mean"]) / config["std"]
    with torch.inference_mode():
        wanted = there.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()
    found = features(extractor, chips)
    assert found.shape == (3, extractor.dim)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_metas_file_gives_the_same_features(network, build, chips):
    metas = dict(network.state_dict())
    wanted = features(build(metas)[0], chips)
    metas["mask_token"] = torch.zeros(1, 384)
    assert np.array_equal(features(build(metas, "dinov2_vits14_pretrain.pth")[0], chips), wanted)


def test_weights_are_required_and_must_fit(network, build):
    with pytest.raises(SettingError, match="needs weights"):
        extractors.choose(ExtractParams(extractor=NAME), machine()).identity()
    lacking = {
        name: value for name, value in network.state_dict().items() if "blocks.3" not in name
    }
    with pytest.raises(InputError, match=r"it lacks blocks\.3"):
        build(lacking)


def test_naming_it_imports_neither_torch_nor_timm(network, build):
    _, extract = build(network.state_dict())
    code = f"""if True:
        import sys
        from pipeline.extract import extractors
        from pipeline.config.machine import machine
        from pipeline.config.sections import ExtractParams
        extract = ExtractParams.model_validate_json({extract.model_dump_json()!r})
        extractors.choose(extract, machine()).identity()
        print([name for name in ("torch", "timm") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
