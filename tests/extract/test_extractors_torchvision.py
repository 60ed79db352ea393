"""Torchvision's models: every one of them, its own weights, and what its head is given."""

import hashlib
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED
from safetensors.torch import load_file, save_file
from torchvision import models
from torchvision.models import regnet

from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError
from pipeline.extract import extractors
from pipeline.extract.extractors import torchvision as backbone
from pipeline.extract.weights import WeightsSource

NAMES = models.list_models(module=models)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("QUADRAT_WEIGHTS_MIRROR", raising=False)


@pytest.fixture
def no_data():
    """Networks get shapes and no values: eighty of them in seconds."""
    plain = regnet.BlockParams.from_init_params

    def with_data(*args, **kwargs):  # RegNet computes its own plan with tensors
        with torch.device("cpu"):
            return plain(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(regnet.BlockParams, "from_init_params", with_data)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_every_model_tells_its_dim_and_its_size(name, no_data):
    size = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    model, head, dim = backbone.headless(name, size)
    assert model(torch.empty(2, 3, size, size)).flatten(1).shape == (2, dim)
    assert not [key for key in model.state_dict() if key.startswith(head)]


def test_every_published_file_carries_its_digest_and_can_be_mirrored():
    for name in NAMES:
        for enum in models.get_model_weights(name):
            assert enum.url.startswith(f"{backbone.HOME}/"), enum
            assert backbone.HASH_IN_NAME.search(enum.url), enum
            assert backbone.ENUM_NAME.fullmatch(enum.name), enum


def saved(state, path):
    torch.save(state, path)
    return ExtractParams(extractor=f"torchvision/{path.stem}", weights=str(path))


def build(extract):
    return extractors.choose(extract, machine()).build()


def alive(name, **settings):
    """A whole untrained model, its BatchNorm moved off its rest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, **settings).eval()
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(part.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return model


def chips(size, count=2):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def logits(model, name, enum, pixels):
    """By torchvision's own preprocessing."""
    preset = models.get_model_weights(name)[enum].transforms(resize_size=pixels.shape[1])
    return model(preset(pixels.permute(0, 3, 1, 2)))


PUBLISHED = {
    "densenet121": lambda key: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key),
    "vit_b_32": lambda key: key.replace("mlp.0.", "mlp.linear_1.").replace(
        "mlp.3.", "mlp.linear_2."
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_that_torchvision_has_changed_since_publishing_are_mapped(name, no_data):
    model, _, _ = backbone.headless(name, 224)
    now = list(model.state_dict())
    published = [PUBLISHED[name](key) for key in now]
    assert published != now
    assert [backbone._renamed(key) for key in published] == now
    assert [backbone._renamed(key) for key in now] == now


def test_densenets_published_file_gives_its_features(tmp_path):
    whole = alive("densenet121")
    state = {PUBLISHED["densenet121"](key): value for key, value in whole.state_dict().items()}
    extractor = build(saved(state, tmp_path / "densenet121.pth"))
    with torch.inference_mode():
        expected = logits(whole, "densenet121", "DEFAULT", chips(224))
        found = whole.classifier(extractor(chips(224)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_googlenets_weights_come_with_auxiliary_heads_and_its_own_scaling(tmp_path):
    """torchvision sets `transform_input` whenever it loads weights, and drops the two heads."""
    whole = alive("googlenet", aux_logits=True, transform_input=True, init_weights=False)
    extractor = build(saved(whole.state_dict(), tmp_path / "googlenet.pth"))
    with torch.inference_mode():
        expected = logits(whole, "googlenet", "DEFAULT", chips(224))
        torch.testing.assert_close(whole.fc(extractor(chips(224))), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("resnet18", "fc."),
        ("efficientnet_b0", "classifier."),
        ("vit_b_32", "heads."),
        ("swin_t", "head."),
        ("vgg11", "classifier.6."),
        ("mobilenet_v3_small", "classifier.3."),
        ("convnext_tiny", "classifier.2."),
        ("maxvit_t", "classifier.5."),
        ("squeezenet1_0", "classifier."),
        ("densenet121", "classifier."),
    ],
)
def test_the_head_is_all_that_only_the_last_layer_needs(name, prefix, no_data):
    assert backbone.headless(name, 224)[1] == prefix


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"fc.weight": torch.ones(5, 512), "fc.bias": torch.ones(5)},
        {"fc.0.weight": torch.ones(9, 512)},
    ],
)
def test_a_fine_tuned_head_is_no_obstacle(head, tmp_path):
    whole = alive("resnet18")
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith("fc.")}
    extractor = build(saved(state | head, tmp_path / "resnet18.pth"))
    with torch.inference_mode():
        expected = logits(whole, "resnet18", "DEFAULT", chips(224))
        torch.testing.assert_close(whole.fc(extractor(chips(224))), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "resnet18.pth"
    extract = saved(alive("resnet18").state_dict(), path)
    other = extract.model_copy(update={"extractor": "torchvision/resnet34"})
    with pytest.raises(InputError) as stop:
        build(other)
    assert str(stop.value) == (
        f"{path}: not the weights of this extractor: it lacks layer1.2.conv1.weight, "
        "layer1.2.bn1.weight, layer1.2.bn1.bias"
    )


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_imagenets_head_on_our_features_gives_imagenets_prediction(name):
    path = SHARED / "weights" / f"{name}.safetensors"
    photographs = sorted((SHARED / "reef" / "images").glob("*.jpg"))[:2]
    if not (path.exists() and photographs):
        pytest.skip("the weights or the photographs are not here")
    from PIL import Image

    pixels = [np.asarray(Image.open(each).convert("RGB"))[300:524, 300:524] for each in photographs]
    pixels = torch.from_numpy(np.stack(pixels))
    whole = models.get_model(name).eval()
    whole.load_state_dict(load_file(path))
    with torch.inference_mode():
        feature = build(ExtractParams(extractor=f"torchvision/{name}", weights=str(path)))(pixels)
        expected = logits(whole, name, "DEFAULT", pixels)
        if name == "mobilenet_v2":
            found = whole.classifier(feature)
        else:  # a head of a convolution, a ReLU and a mean: the feature is the mean before all that
            found = feature
            expected = whole.features(
                models.get_model_weights(name).DEFAULT.transforms(resize_size=224)(
                    pixels.permute(0, 3, 1, 2)
                )
            ).mean((2, 3))
    assert not torch.allclose(found[0], found[1], rtol=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def identity(extract, digest="0" * 64):
    weights = extractors.Weights(Path("w"), digest)
    return extractors.ChosenExtractor(extract, backbone, weights).identity()


def test_other_weights_of_one_model_bring_their_own_size_and_normalisation():
    """SWAG's files of one ViT are for 224 and for 384 pixels; EfficientNetV2-L has other means."""
    default = identity(ExtractParams(extractor="torchvision/vit_b_16"))
    swag = identity(
        ExtractParams(extractor="torchvision/vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
    )
    large = identity(ExtractParams(extractor="torchvision/efficientnet_v2_l"))
    assert (
        default["preprocessing"]
        == "224 px, mean [0.485, 0.456, 0.406], deviation [0.229, 0.224, 0.225]"
    )
    assert swag["preprocessing"].startswith("384 px, ")
    assert large["preprocessing"] == "480 px, mean [0.5, 0.5, 0.5], deviation [0.5, 0.5, 0.5]"


def test_a_vit_of_another_size_takes_its_weights(tmp_path, no_data):
    model, _, _ = backbone.headless("vit_b_16", 384)
    assert model.encoder.pos_embedding.shape == (1, (384 // 16) ** 2 + 1, 768)


def test_named_weights_are_asked_of_torchvision_or_of_its_mirror(monkeypatch):
    extract = ExtractParams(extractor="torchvision/resnet50", weights="IMAGENET1K_V1")
    from pipeline.config.machine import machine

    plain = backbone.source(extract, machine())
    assert plain == WeightsSource(
        "https://download.pytorch.org/models/resnet50-0676ba61.pth", "", "0676ba61"
    )
    for mirror in (
        "https://example.org/files",
        "https://example.org/files/",
        "s3://bucket/files",
        "/mnt/files",
    ):
        monkeypatch.setenv("QUADRAT_WEIGHTS_MIRROR", mirror)
        found = backbone.source(extract, machine())
        assert found == WeightsSource(f"{mirror.rstrip('/')}/resnet50-0676ba61.pth", "", "0676ba61")


def test_the_default_weights_come_whole_from_a_mirror(tmp_path, monkeypatch):
    """By the real path, with a file whose own digest stands in its name."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    whole = alive("squeezenet1_1")
    torch.save(whole.state_dict(), folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    (folder / "w.pth").rename(folder / f"squeezenet1_1-{digest[:8]}.pth")
    enum = models.get_model_weights("squeezenet1_1")
    published = models._api.Weights(
        url=f"{backbone.HOME}/squeezenet1_1-{digest[:8]}.pth",
        transforms=enum.DEFAULT.value.transforms,
        meta={},
    )
    monkeypatch.setattr(enum.DEFAULT, "_value_", published)
    backbone._facts_of_torchvision.cache_clear()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("QUADRAT_WEIGHTS_MIRROR", f"http://127.0.0.1:{server.server_port}")
        extract = ExtractParams(extractor="torchvision/squeezenet1_1")
        extractor = extractors.choose(extract, machine())
        server.shutdown()
    backbone._facts_of_torchvision.cache_clear()
    assert extractor.weights.sha256 == digest
    with torch.inference_mode():
        feature = extractor.build()(chips(224))
        preset = enum.DEFAULT.transforms(resize_size=224)
        expected = whole.features(preset(chips(224).permute(0, 3, 1, 2))).mean((2, 3))
    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_was_named_before_is_named_again_without_torch(tmp_path):
    """The index asks at every run, and importing torchvision takes seconds."""
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    code = (
        "import sys\nfrom pipeline.extract import extractors\n"
        "from pipeline.config.machine import machine\n"
        "from pipeline.config.sections import ExtractParams\n"
        f"w = {str(tmp_path / 'w.safetensors')!r}\n"
        "e = ExtractParams(extractor='torchvision/resnet18', weights=w)\n"
        "print(extractors.choose(e, machine()).identity())\n"
        "print(bool({'torch', 'torchvision'} & set(sys.modules)))"
    )
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
        said.append(done.stdout.splitlines())
    assert said[0][0] == said[1][0]
    assert [lines[1] for lines in said] == ["True", "False"]
