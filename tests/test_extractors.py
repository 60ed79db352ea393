"""Extractors: each tells the truth about itself, and a chip's feature is its own affair."""

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED
from safetensors.torch import load_file, save_file

from pipeline import extractors
from pipeline.errors import InputError, SettingError
from pipeline.extractors import _efficientnet
from pipeline.extractors import torchvision as backbone
from pipeline.params import Extract
from pipeline.weights import Source, Weights, fetch

SMALL = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vit_b_32",
)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def seeded(names_and_shapes):
    """Weights by name and shape alone, so that any program can make the same."""
    found = {}
    for name, shape in names_and_shapes:
        if name.endswith("num_batches_tracked"):
            found[name] = torch.zeros((), dtype=torch.int64)
            continue
        rng = np.random.default_rng(list(name.encode()))
        values = rng.standard_normal(tuple(shape)).astype(np.float32) * 0.1
        if name.endswith("running_var"):
            values = np.abs(values) + 0.5
        found[name] = torch.from_numpy(np.asarray(values))
    return found


def coralnet_weights(path):
    network = _efficientnet.CoralNet()
    save_file(seeded((name, value.shape) for name, value in network.state_dict().items()), path)
    return str(path)


@pytest.fixture
def cases(tmp_path):
    weights = coralnet_weights(tmp_path / "coralnet.safetensors")
    model, _, _ = backbone.headless("mobilenet_v3_small", 224)
    own = tmp_path / "small.safetensors"
    save_file(dict(model.state_dict()), own)
    return [
        Extract(extractor="filters"),
        Extract(extractor="coralnet", weights=weights),
        Extract(extractor="torchvision/mobilenet_v3_small", weights=str(own)),
    ]


def chips(size, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_a_chips_feature_is_the_same_to_the_bit_whatever_stands_beside_it(cases):
    torch.set_num_threads(1)
    for extract in cases:
        extractor = extractors.build(extract, extractors.weights_of(extract))
        count = extract.batch
        batch = chips(extractor.size, count)
        with torch.inference_mode():
            together = extractor(batch)
            assert together.shape == (count, extractor.dim)
            assert together.dtype == torch.float32
            assert torch.isfinite(together).all()
            for place in (0, 5, count - 1):
                alone = torch.zeros_like(batch)
                alone[-1 - place] = batch[place]
                assert torch.equal(extractor(alone)[-1 - place], together[place]), extract.extractor
            assert torch.equal(extractor(batch), together)


def test_building_changes_nothing_global(cases):
    state = torch.get_rng_state()
    for extract in cases:
        extractors.build(extract, extractors.weights_of(extract))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_one_flipped_bit_of_the_weights_is_another_identity(cases):
    for extract in cases[1:]:
        before = extractors.identity(extract, extractors.weights_of(extract))
        path = Path(extract.weights)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        assert extractors.identity(extract, extractors.weights_of(extract)) != before


def test_naming_an_extractor_imports_no_torch(tmp_path):
    weights = coralnet_weights(tmp_path / "w.safetensors")
    code = (
        "import sys\nfrom pipeline import extractors\nfrom pipeline.params import Extract\n"
        f"w = {weights!r}\n"
        "for e in (Extract(extractor='filters'), Extract(extractor='coralnet', weights=w)):\n"
        "    extractors.identity(e, extractors.weights_of(e))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", SMALL)
def test_every_family_of_torchvision_gives_what_its_head_is_given(name):
    """The original model's own head, put on our feature, gives the original's answer."""
    from torchvision import models

    facts = backbone._asked(name, "DEFAULT")
    size = facts["size"] if name.startswith(("vit", "maxvit", "swin", "inception")) else 64
    model, head, dim = backbone.headless(name, size)
    extra = {"image_size": size} if name.startswith("vit_") else {}
    if name in backbone.TRAINING_ONLY:
        extra = {"init_weights": False, "transform_input": True, "aux_logits": False}
    whole = models.get_model(name, weights=None, **extra).eval()
    state = whole.state_dict()
    for key in [key for key in state if key.startswith(head)]:
        del state[key]
    model.load_state_dict(state)
    batch = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        feature = model(batch).flatten(1)
        if name.startswith("squeezenet"):
            expected = whole.features(batch).mean((2, 3))
            assert torch.allclose(feature, expected, atol=1e-5)
        else:
            last = whole.get_submodule(head.rstrip("."))
            assert torch.allclose(last(feature), whole(batch), atol=1e-5)
    assert feature.shape == (1, dim)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_imagenets_weights_give_the_models_own_features(name):
    """Against torchvision's own preprocessing and forward pass, on a real photograph."""
    path = SHARED / "weights" / f"{name}.safetensors"
    if not path.exists():
        pytest.skip("the weights are not here")
    from PIL import Image
    from torchvision import models

    photograph = next((SHARED / "reef" / "images").iterdir())
    extract = Extract(extractor=f"torchvision/{name}", weights=str(path), batch=1)
    extractor = extractors.build(extract, extractors.weights_of(extract))
    chip = np.asarray(Image.open(photograph).convert("RGB"))[500:724, 500:724]
    whole = models.get_model(name).eval()
    whole.load_state_dict(load_file(path))
    ours = Image.fromarray(chip)
    preset = models.get_model_weights(name).DEFAULT.transforms(resize_size=224)
    with torch.inference_mode():
        feature = extractor(torch.from_numpy(chip.copy())[None])
        maps = whole.features(preset(ours)[None])
    assert torch.allclose(feature, maps.mean((2, 3)), atol=1e-4)


def test_coralnet_has_the_layout_and_the_number_of_parameters_of_efficientnet_b0():
    """5,288,548 with the head of 1,000 classes, Tan and Le 2019, table 2: 5.3 million."""
    network = _efficientnet.CoralNet()
    assert sum(value.numel() for value in network.parameters()) == 5_288_548 - (1280 * 1000 + 1000)
    names = set(network.state_dict())
    assert {
        "_conv_stem.weight",
        "_blocks.0._depthwise_conv.weight",
        "_blocks.15._bn2.running_var",
        "_blocks.1._se_expand.bias",
        "_conv_head.weight",
        "_bn1.bias",
    } <= names


def test_coralnets_features_are_pyspacers(tmp_path):
    """Values recorded from PySpacer 0.14 itself: see tests/golden/coralnet.py."""
    import json

    golden = json.loads((ROOT / "tests" / "golden" / "coralnet.json").read_text())
    extract = Extract(extractor="coralnet", weights=coralnet_weights(tmp_path / "w.safetensors"))
    extractor = extractors.build(extract, extractors.weights_of(extract))
    with torch.inference_mode():
        features = extractor(chips(224, 3, seed=7)).numpy()
    for feature, recorded in zip(features, golden["features"], strict=True):
        scale = np.abs(recorded).max()
        assert np.abs(feature[:: golden["every"]] - recorded).max() < 1e-5 * scale


def test_an_extractor_that_needs_weights_names_the_three_ways_to_give_them():
    with pytest.raises(SettingError) as stop:
        extractors.weights_of(Extract(extractor="coralnet"))
    for way in ("a file's path in extract.weights", "an s3:// or https://", "weights_mirror"):
        assert way in str(stop.value)


def test_an_extractor_that_takes_no_weights_says_so():
    with pytest.raises(SettingError, match="filters takes no weights; set it to null"):
        extractors.weights_of(Extract(extractor="filters", weights="x.pt"))


def test_an_unknown_model_or_name_of_weights_is_named_with_what_there_is():
    with pytest.raises(SettingError, match="no classification model 'resnet55' .*resnet50"):
        extractors.weights_of(Extract(extractor="torchvision/resnet55"))
    with pytest.raises(SettingError, match="resnet18 has no 'IMAGENET1K_V7' among IMAGENET1K_V1"):
        extractors.weights_of(Extract(extractor="torchvision/resnet18", weights="IMAGENET1K_V7"))


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *args):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_torchvisions_own_weights_come_from_the_mirror_once_and_are_checked(
    mirror, tmp_path, monkeypatch
):
    folder, url, asked = mirror
    monkeypatch.setenv("QUADRAT_WEIGHTS_MIRROR", url)
    extract = Extract(extractor="torchvision/squeezenet1_1")
    model, _, _ = backbone.headless("squeezenet1_1", 224)
    torch.save(model.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(InputError, match="has SHA-256 [0-9a-f]{64}, not b8a52dc0…"):
        extractors.weights_of(extract)
    from torchvision import models

    found = fetch(Source(f"{url}/squeezenet1_1-b8a52dc0.pth"), tmp_path / "c")
    monkeypatch.setattr(
        backbone,
        "_facts",
        lambda _: {
            **backbone._asked("squeezenet1_1", "DEFAULT"),
            "url": f"{backbone.HOME}/squeezenet1_1-{found.sha256[:8]}.pth",
        },
    )
    (folder / f"squeezenet1_1-{found.sha256[:8]}.pth").write_bytes(found.path.read_bytes())
    asked.clear()
    first = extractors.weights_of(extract)
    again = extractors.weights_of(extract)
    assert first == again
    assert len(asked) == 1
    assert extractors.build(extract, first).dim == 512
    assert models.get_model_weights("squeezenet1_1").DEFAULT.url.endswith("b8a52dc0.pth")


def test_weights_that_cannot_be_had_name_the_three_ways(mirror, monkeypatch):
    monkeypatch.setenv("QUADRAT_WEIGHTS_MIRROR", mirror[1])
    with pytest.raises(InputError) as stop:
        extractors.weights_of(Extract(extractor="torchvision/resnet18"))
    for way in ("not there (HTTP 404)", "a file's path", "an s3:// or https://", "weights_mirror"):
        assert way in str(stop.value)


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


def test_the_weights_of_an_identity_are_needed(tmp_path):
    with pytest.raises(SettingError, match="needs weights"):
        extractors.identity(Extract(extractor="coralnet"), None)
    assert isinstance(Weights(tmp_path, "0"), Weights)
