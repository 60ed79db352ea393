"""Luigi: a central scheduler shows every shard; failures reach the exit code."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import time

import pytest
import servers


@pytest.fixture
def luigid(tmp_path):
    with servers.luigid(tmp_path / "luigid") as server:
        yield server


@pytest.mark.slow
def test_the_status_page_shows_every_shard_of_a_run(repo, luigid):
    path = repo.path / "luigi.cfg"
    text = path.read_text().replace(
        "local_scheduler = true", f"local_scheduler = false\nscheduler_port = {luigid.port}"
    )
    path.write_text(text)
    repo.said("dvc", "repro", "extract")
    done = [task["display_name"] for task in luigid.tasks("DONE").values()]
    for family in ("IndexShard", "ChipShard", "ExtractShard"):
        assert sum(name.startswith(family) for name in done) >= 4, family
    assert any(name.startswith("Extract(") for name in done)


def test_a_stage_that_fails_says_one_sentence_and_gives_its_own_exit_code(repo):
    repo.set(bucket__url=str(repo.path / "nowhere"))
    done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode == 4
    assert "nowhere: no such folder; set bucket.url to where the images are" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "before"), [("chip", "index"), ("extract", "chip"), ("validate", "train")]
)
def test_a_stage_before_its_time_says_which_to_run_first(repo, stage, before):
    done = repo.run("python", "-m", f"stages.{stage}", check=False)
    assert done.returncode == 3
    assert f"has no manifest; run the {before} stage first" in done.stderr


def test_a_task_that_fails_in_a_stage_is_told_once(repo):
    repo.bucket.points = [{"image": "no.png", "row": 1, "column": 1, "label": "x"}]
    repo.points()
    repo.run("python", "-m", "stages.index")
    done = repo.run("python", "-m", "stages.chip", check=False)
    assert done.returncode == 5
    assert (done.stdout + done.stderr).count("no image 'no.png' in the index") == 1


def test_luigis_own_command_fails_where_a_task_fails(repo):
    repo.bucket.points = [{"image": "no.png", "row": 1, "column": 1, "label": "x"}]
    repo.points()
    done = repo.run("luigi", "--module", "pipeline.tasks", "Chip", "--local-scheduler", check=False)
    assert done.returncode == 30
    assert "no image 'no.png' in the index" in done.stdout + done.stderr


def test_luigis_own_command_waits_for_a_stage_of_the_checkout(repo):
    lock = repo.path / ".quadrat/stage.lock"
    lock.parent.mkdir()
    command = ("luigi", "--module", "pipeline.tasks", "Index", "--local-scheduler")
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        run = subprocess.Popen(
            command, cwd=repo.path, env=repo.env, stderr=subprocess.PIPE, text=True
        )
        assert run.stderr.readline() == (
            "an earlier run still works in this checkout; waiting for its end\n"
        )
        time.sleep(0.5)
        assert not (repo.path / "data/index").exists()
    stderr = run.communicate(timeout=60)[1]
    assert run.returncode == 0
    assert "index: 24 images, 24 computed" in stderr


def test_luigis_own_command_says_what_is_wrong_with_params_in_a_sentence(repo):
    repo.set(train__seed="100%s")
    done = repo.run(
        "luigi", "--module", "pipeline.tasks", "Train", "--local-scheduler", check=False
    )
    assert done.returncode == 40
    assert "train.seed: '100%s': input should be a valid integer" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_luigis_own_command_ends_where_nothing_can_be_told_of_the_bucket(repo):
    """It waited for ever."""
    repo.set(bucket__url=str(repo.path / "nowhere"))
    done = repo.run("luigi", "--module", "pipeline.tasks", "Train", check=False)
    assert done.returncode == 30
    assert "nowhere: no such folder; set bucket.url to" in done.stdout + done.stderr


def test_a_column_of_labels_under_another_name_is_missed_before_features_are_made(repo):
    path = repo.path / "points.csv"
    path.write_text(path.read_text().replace("label", "species", 1))
    repo.run("python", "-m", "stages.index")
    done = repo.run("python", "-m", "stages.chip")
    assert "chips has a label; if the annotations have labels, set annotations.columns.label" in (
        done.stderr
    )


@pytest.mark.slow
def test_a_learning_curve_that_is_gone_is_written_again(copy_of_done):
    repo = copy_of_done()
    before = repo.digests("dvclive", "models")
    shutil.rmtree(repo.path / "dvclive")
    repo.run("luigi", "--module", "pipeline.tasks", "Train", "--local-scheduler")
    assert repo.digests("dvclive", "models") == before


def test_whole_images_in_folders_need_no_annotation_file(repo):
    yaml = repo.path / "params.yaml"
    yaml.write_text(re.sub(r"  size: 32 .*\n", "", yaml.read_text()))
    repo.set(annotations__format="folders", annotations__path=None, chip__method="whole")
    said = repo.said("dvc", "repro")
    assert "chip: 24 chips" in said
    metrics = json.loads((repo.path / "results/metrics.json").read_text())
    assert metrics["accuracy"] > 0.9
