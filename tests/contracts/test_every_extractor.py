"""What every extractor of the folder must keep, a new file's included."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from golden.seeded_weights import seeded
from safetensors.torch import save_file

from pipeline.config import registry
from pipeline.config.machine import machine
from pipeline.config.sections import ExtractParams
from pipeline.extract import extractors
from pipeline.extract.extractors import _efficientnet
from pipeline.extract.extractors import torchvision as backbone

NAMES = [
    name
    for name in registry.names("extract.extractors")
    if not hasattr(registry.find("extract.extractors", name, key=""), "engine")
]
BATCH = 4


def saved(module, path):
    values = {name: seeded(name, value.shape) for name, value in module.state_dict().items()}
    save_file({name: torch.from_numpy(np.asarray(value)) for name, value in values.items()}, path)
    return str(path)


def with_weights(name, folder):
    """Settings of an extractor that needs weights; one that needs none is its name alone."""
    path = folder / f"{name}.safetensors"
    with torch.random.fork_rng():
        if name == "coralnet":
            return {"weights": saved(_efficientnet.CoralNet(), path)}
        if name == "torchvision":
            network, _, _ = backbone.headless("regnet_y_400mf", 224)
            return {"extractor": "torchvision/regnet_y_400mf", "weights": saved(network, path)}
    return {}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        yield folder


@pytest.fixture(params=NAMES, scope="module")
def extract(request, state):
    return ExtractParams(**{"extractor": request.param} | with_weights(request.param, state))


@pytest.fixture
def extractor(extract):
    return extractors.choose(extract, machine()).build()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def chips(size, seed=0, batch=BATCH):
    rng = np.random.default_rng(seed)
    smooth = (
        rng.integers(0, 256, (batch, 8, 8, 3)).repeat(size // 8 + 1, 1).repeat(size // 8 + 1, 2)
    )
    grain = rng.integers(-20, 21, (batch, size, size, 3))
    return torch.from_numpy(np.clip(smooth[:, :size, :size] + grain, 0, 255).astype(np.uint8))


def test_it_tells_the_truth_about_dim_and_size(extractor):
    features = extractor(chips(extractor.size))
    assert features.shape == (BATCH, extractor.dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


def test_other_chips_have_other_features(extractor):
    features = extractor(chips(extractor.size))
    scale = features.abs().max()
    for one in range(BATCH):
        for other in range(one):
            assert (features[one] - features[other]).abs().max() > 1e-3 * scale


@pytest.mark.parametrize("batch", [1, 3, 4, 16])
def test_a_chips_feature_is_the_same_to_the_bit_wherever_it_stands_and_beside_whatever(
    extractor, batch
):
    """With batches of any one size: torch computes the last few values of a tensor another way."""
    together = chips(extractor.size, batch=batch)
    want = extractor(together)
    for place, other in {(0, batch - 1), (batch - 1, 0), (batch // 2, batch // 3)}:
        for company in (torch.zeros_like(together), chips(extractor.size, seed=1, batch=batch)):
            company[other] = together[place]
            assert torch.equal(extractor(company)[other], want[place])


def test_it_leaves_the_chips_as_they_are_and_remembers_nothing(extractor):
    given = chips(extractor.size)
    before = given.clone()
    first = extractor(given)
    extractor(chips(extractor.size, seed=1))
    assert torch.equal(extractor(given), first)
    assert torch.equal(given, before)


def test_moving_gives_the_extractor_itself_or_one_that_does_the_same(extractor):
    given = chips(extractor.size)
    want = extractor(given)
    assert torch.equal(extractor.to(torch.device("cpu"))(given), want)


def test_one_flipped_bit_of_its_weights_is_another_identity(extract):
    extractor = extractors.choose(extract, machine())
    weights, before = extractor.weights, extractor.identity()
    if weights is None:
        assert before["weights_sha256"] == extractors.NO_WEIGHTS
        return
    data = bytearray(weights.path.read_bytes())
    data[-1] ^= 1
    try:
        weights.path.write_bytes(data)
        assert extractors.choose(extract, machine()).identity() != before
    finally:
        data[-1] ^= 1
        weights.path.write_bytes(data)
    assert extractors.choose(extract, machine()).identity() == before


def test_its_identity_has_no_gap(extract):
    identity = extractors.choose(extract, machine()).identity()
    assert identity["name"] == extract.part[0]
    assert identity["variant"] == extract.part[1] or not extract.part[1]
    assert None not in identity.values()
    assert f"{extractors.choose(extract, machine()).build().size} px" in identity["preprocessing"]


def torchs_state():
    return {
        "random numbers": torch.get_rng_state().tolist(),
        "type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
        "allowed in pickles": set(torch.serialization.get_safe_globals()),
        "benchmark": torch.backends.cudnn.benchmark,
        "precision": torch.get_float32_matmul_precision(),
    }


def test_it_changes_nothing_global(extract):
    before = torchs_state()
    found = extractors.choose(extract, machine()).build()
    found(chips(found.size))
    assert torchs_state() == before


PROCESS = """
import hashlib, sys, torch
sys.path[:0] = ["tests", "tests/support", "tests/contracts"]
import test_every_extractor as here
torch.set_num_threads(1)
extract = here.ExtractParams(**{extract!r})
extractor = here.extractors.choose(extract, here.machine()).build()
with torch.inference_mode():
    print(hashlib.sha256(extractor(here.chips(extractor.size)).numpy().tobytes()).hexdigest())
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_another_process_computes_the_same_bits(extract, extractor):
    features = extractor(chips(extractor.size)).numpy()
    there = run(PROCESS.format(extract=extract.model_dump()))
    assert there == hashlib.sha256(features.tobytes()).hexdigest()


def test_naming_it_again_imports_no_torch(extract):
    """The index names the extractor at every run; torch takes seconds to import."""
    extractors.choose(extract, machine()).identity()
    assert (
        run(
            "import sys\nfrom pipeline.extract import extractors\n"
            "from pipeline.config.machine import machine\n"
            "from pipeline.config.sections import ExtractParams\n"
            f"extract = ExtractParams(**{extract.model_dump()!r})\n"
            "extractors.choose(extract, machine()).identity()\n"
            "print({'torch', 'torchvision'} & set(sys.modules))"
        )
        == "set()"
    )
