"""Settings of the machine: from the environment, else luigi.cfg; unknown ones are named."""

import pytest
from conftest import ROOT

from pipeline import numerics
from pipeline.errors import SettingError
from pipeline.settings import machine
from pipeline.shard_tasks import workers


@pytest.fixture
def cfg(tmp_path):
    def write(text):
        path = tmp_path / "luigi.cfg"
        path.write_text(text)
        return {"LUIGI_CONFIG_PATH": str(path)}

    return write


def test_the_environment_goes_before_the_file(cfg):
    env = cfg("[quadrat]\nstore = /a\nworkers = 3\n")
    assert machine(env).store_url == "/a"
    found = machine({**env, "QUADRAT_STORE": "s3://b/c"})
    assert (found.store_url, found.workers) == ("s3://b/c", "3")


def test_without_settings_the_store_lies_beside_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    found = machine({"LUIGI_CONFIG_PATH": "/nowhere"})
    assert found.store_url == str(tmp_path / ".quadrat" / "store")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[quadrat]\nstroe = /a\n", "stroe: not a setting; known are"),
        ("[quadrat]\ndevice = gpu\n", "device: no 'gpu' among auto, cpu, cuda, mps"),
        ("[quadrat]\nworkers = 0\n", "workers: '0' is not 'auto' or 1 or more"),
        ("[quadrat]\nworkers = many\n", "workers: 'many' is not 'auto' or 1 or more"),
        ("quadrat\n", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(cfg, text, message):
    with pytest.raises(SettingError, match=message):
        machine(cfg(text))


def test_the_shipped_file_is_read():
    found = machine({"LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg")})
    assert (found.device, found.workers, found.is_anonymous) == ("auto", "auto", False)


def test_one_process_a_core_or_what_is_asked_for(cfg):
    assert workers(machine(cfg("[quadrat]\nworkers = 5\n"))) == 5
    assert workers(machine(cfg("[quadrat]\ndevice = cpu\n"))) == numerics.cores()


def test_the_kind_of_processor_is_part_of_the_numerics():
    kind = numerics.device_kind("cpu")
    assert kind.startswith("cpu: ")
    assert len(kind.split()) >= 2


def test_a_device_that_is_not_there_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SettingError, match="'cuda' is not to be had here, torch sees"):
        numerics.device("cuda")
