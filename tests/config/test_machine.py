"""Settings of the machine: from the environment, else luigi.cfg; unknown ones are named."""

import luigi
import pytest
from conftest import ROOT

from pipeline.config.machine import machine
from pipeline.core import hardware
from pipeline.core.errors import SettingError
from pipeline.store.objects import Piece
from pipeline.store.shard_task import shard_tasks
from pipeline.store.shards import ShardPlan
from pipeline.tasks import ExtractShard, IndexShard


@pytest.fixture
def cfg(tmp_path):
    def write(text):
        path = tmp_path / "luigi.cfg"
        path.write_text(text)
        return {"LUIGI_CONFIG_PATH": str(path)}

    return write


def test_the_environment_overrides_the_file(cfg):
    env = cfg("[quadrat]\nstore = /a\nworkers = 3\n")
    assert machine(env).store_url == "/a"
    settings = machine({**env, "QUADRAT_STORE": "s3://b/c"})
    assert (settings.store_url, settings.workers) == ("s3://b/c", "3")


def test_the_default_store_is_in_the_repository(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    settings = machine({"LUIGI_CONFIG_PATH": "/nowhere"})
    assert settings.store_url == str(tmp_path / ".quadrat" / "store")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[quadrat]\nstroe = /a\n", "stroe: not a setting; it can be store, device"),
        ("[quadrat]\ndevice = gpu\n", "device: no 'gpu' among auto, cpu, cuda, mps"),
        ("[quadrat]\nworkers = 0\n", "workers: '0' is not 'auto' or 1 or more"),
        ("[quadrat]\nworkers = many\n", "workers: 'many' is not 'auto' or 1 or more"),
        ("quadrat\n", "cannot be read"),
    ],
)
def test_the_error_for_a_wrong_setting_names_it(cfg, text, message):
    with pytest.raises(SettingError, match=message):
        machine(cfg(text))


def test_the_shipped_file_is_read():
    settings = machine({"LUIGI_CONFIG_PATH": str(ROOT / "luigi.cfg")})
    assert (settings.device, settings.workers, settings.is_anonymous) == ("auto", "auto", False)


def test_there_is_one_process_a_core_unless_workers_is_set(cfg):
    assert machine(cfg("[quadrat]\nworkers = 5\n")).processes() == 5
    assert machine(cfg("[quadrat]\ndevice = cpu\n")).processes() == hardware.cores()


@pytest.mark.parametrize(
    ("output", "count"),
    [
        ("81559, Default", 8),
        ("24576, Default", 3),
        ("8192, Default", 1),
        ("6144, Default", 1),
        ("81559, Exclusive_Process", 1),
        ("[N/A], Default", 1),
        ("81559, Default\n24576, Default", 8),
    ],
)
def test_processes_share_a_card_as_its_memory_allows(tmp_path, monkeypatch, output, count):
    """A script in place of the driver's program is used instead of a card."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(hardware, "cores", lambda: 16)
    hardware.processes.cache_clear()
    assert hardware.processes("cuda") == count
    hardware.processes.cache_clear()


def test_the_device_limits_processes_only_for_features(cfg, monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda _: "mps")
    assert machine(cfg("[quadrat]\n")).processes() == 1
    assert machine(cfg("[quadrat]\n")).processes(embeds=False) == hardware.cores()


def test_processes_of_a_card_share_only_the_shards_of_extract(monkeypatch):
    """Each process takes its part of 256 shards at once; the card limits only extract."""
    monkeypatch.setattr(luigi.configuration.get_config(), "getboolean", lambda *_: True)
    monkeypatch.setattr(hardware, "device", lambda _: "cuda")
    monkeypatch.setattr(hardware, "processes", {"cuda": 2, "cpu": 16}.__getitem__)
    pieces = [Piece("t", "r", f"{n:04d}", "i") for n in range(256)]
    planned = [ShardPlan(n, piece, bytes, 1) for n, piece in enumerate(pieces)]
    batches = {
        kind: shard_tasks(kind, "run", "request", planned)[0].max_batch_size
        for kind in (IndexShard, ExtractShard)
    }
    assert batches == {IndexShard: 16, ExtractShard: 128}


def test_the_kind_of_a_cpu_is_its_architecture_and_maker():
    kind = hardware.device_kind("cpu")
    assert kind.startswith("cpu: ")
    assert len(kind.split()) >= 2


def test_a_device_that_is_not_available_is_an_error():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SettingError, match="'cuda' is not available, torch finds"):
        hardware.device("cuda")
