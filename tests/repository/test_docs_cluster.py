"""docs/cluster: what a user submits is what the cluster's own tools, and this repository, know."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator
from conftest import ROOT
from ruamel.yaml import YAML

from pipeline.config.machine import Machine
from pipeline.core.errors import InputError, SettingError, StorageError

CLUSTER = ROOT / "docs" / "cluster"
FILES = [
    *sorted(path for path in CLUSTER.iterdir() if path.is_file()),
    ROOT / "docs/how-to/many-machines.md",
]
SLURM = CLUSTER / "slurm.sh"
TOOLS = Path(sys.executable).parent

BATCH = json.loads((CLUSTER / "aws-batch.json").read_text(encoding="utf-8"))
SUBMIT = json.loads((CLUSTER / "aws-batch-submit.json").read_text(encoding="utf-8"))
CONTAINER = BATCH["containerProperties"]
ROLE = "\n".join(CONTAINER["command"][4:])
"""The lines that Batch's container evaluates; before them: bash, -euc, eval and a name."""

KUBERNETES = list(
    YAML(typ="safe").load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
)


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in KUBERNETES if item["kind"] == kind}


PODS = {
    name: item["spec"]["template"]
    for name, item in (of_kind("Deployment") | of_kind("Job")).items()
}
SPECS = [(name, pod["spec"], pod["spec"]["containers"][0]) for name, pod in PODS.items()]


def shell(args: list[str]) -> str:
    """The script that a container runs, or its one command."""
    return args[2] if args[:2] == ["bash", "-euc"] else " ".join(args)


SCRIPTS = {
    "slurm.sh": SLURM.read_text(encoding="utf-8"),
    "aws-batch.json": ROLE,
    **{name: shell(container["args"]) for name, _, container in SPECS},
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_every_script(name):
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[name], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing_in_any_script(name):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    command = [shellcheck, "--shell=bash", "-"]
    done = subprocess.run(command, input=SCRIPTS[name], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_starts_what_there_is(name):
    script = re.sub(r"#.*", "", SCRIPTS[name])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    modules = re.findall(r"\bpython -m ([\w.]+)", script)
    commands = set(re.findall(r"^ *(luigid|dvc) ", f"{script} ", re.MULTILINE))
    assert modules or commands
    assert set(re.findall(r"^ *make (\w+)", script, re.MULTILINE)) <= set(targets)
    assert all((ROOT / f"{module.replace('.', '/')}.py").exists() for module in modules)
    assert all((TOOLS / command).exists() for command in commands)


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "stages.worker"], [str(TOOLS / "luigid")]],
    ids=lambda c: c[-1],
)
def test_every_option_that_the_scripts_give_is_known(command):
    name = Path(command[-1]).name
    lines = "\n".join(SCRIPTS.values()).replace("\\\n", " ").splitlines()
    given = {
        option
        for line in lines
        if re.search(rf"^ *(exec )?(python -m )?{re.escape(name)}\b", line)
        for option in re.findall(r" (--[a-z-]+)", line)
    }
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert given
    assert all(option in done.stdout for option in given), done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_of_the_machine_is_one(path):
    known = {f"QUADRAT_{field.name.upper()}" for field in fields(Machine)}
    assert set(re.findall(r"\bQUADRAT_\w+", path.read_text(encoding="utf-8"))) <= known


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path):
    """Runs one task of the array in a clone whose commands write down that they were called."""
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "scancel", "sleep"):
        stand_in(tools, name, f'echo "{name} $*" >>called')
    stand_in(tools, "luigid", 'echo "luigid $*" >>called; exec /bin/sleep 20')
    stand_in(tools, "dvc", 'until grep -qs luigid called; do :; done; echo "dvc $*" >>called')
    stand_in(tools, "squeue", 'echo "$*" >>asked; head -1 answers; sed -i 1d answers')

    def run(task: int, answers: str = "") -> list[str]:
        (tmp_path / "answers").write_text(answers, encoding="utf-8")
        given = {"ARRAY_JOB_ID": 7, "ARRAY_TASK_ID": task, "ARRAY_TASK_MAX": 3, "JOB_ID": 70 + task}
        env = {f"SLURM_{name}": str(value) for name, value in given.items()}
        env |= {"PATH": os.environ["PATH"], "SLURM_CPUS_ON_NODE": "2", "QUADRAT_STORE": "s3://a/b"}
        subprocess.run(["bash", SLURM], cwd=tmp_path, env=env, check=True, timeout=60)
        called = tmp_path / "called"
        return sorted(called.read_text(encoding="utf-8").splitlines()) if called.exists() else []

    return run


def test_slurms_first_task_schedules_leads_and_then_ends_the_others(slurm):
    called = slurm(0)
    assert "dvc repro" in called
    assert "luigid --port 10007 --state-path .quadrat/slurm-70.pickle" in called
    assert "scancel --quiet 7_[1-3]" in called


def test_slurms_other_tasks_wait_for_the_leaders_node_and_work_for_it(slurm, tmp_path):
    called = slurm(2, answers="n/a\nnode17\n")
    assert called == ["python -m stages.worker --idle 600", "sleep 10"]
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked == ["--noheader --jobs=7_0 --format=%B"] * 2
    assert (tmp_path / ".quadrat" / "slurm-72.cfg").read_text(encoding="utf-8") == (
        "[core]\nlocal_scheduler = false\nscheduler_host = node17\nscheduler_port = 10007\n"
    )


def test_slurms_other_tasks_go_where_the_leader_is_over(slurm):
    assert slurm(1, answers="\n") == []


def unknown_values(shape: Shape, given: Any) -> list[str]:
    """Values that botocore's model does not list; its validator lets them through."""
    if isinstance(shape, StructureShape):
        parts = [(shape.members[name], value) for name, value in given.items()]
    elif isinstance(shape, ListShape):
        parts = [(shape.member, value) for value in given]
    elif isinstance(shape, MapShape):
        parts = [(shape.value, value) for value in given.values()]
    else:
        return [given] if getattr(shape, "enum", None) and given not in shape.enum else []
    return [found for part, value in parts for found in unknown_values(part, value)]


@pytest.mark.parametrize("operation", ["RegisterJobDefinition", "SubmitJob"])
def test_batch_knows_every_parameter(operation):
    given = BATCH if operation == "RegisterJobDefinition" else SUBMIT
    service = botocore.session.get_session().get_service_model("batch")
    shape = service.operation_model(operation).input_shape
    report = ParamValidator().validate(given, shape)
    assert report.generate_report() == ""
    assert unknown_values(shape, given) == []


def test_batchs_array_is_of_the_definition_that_is_registered():
    assert SUBMIT["jobDefinition"] == BATCH["jobDefinitionName"]
    assert SUBMIT["arrayProperties"]["size"] >= 2  # the leader and a worker
    assert CONTAINER["mountPoints"][0]["sourceVolume"] == CONTAINER["volumes"][0]["name"]
    assert CONTAINER["mountPoints"][0]["containerPath"] == "/keep"
    rules = BATCH["retryStrategy"]["evaluateOnExit"]
    assert {rule.get("onExitCode") for rule in rules} == {None, str(StorageError.exit_code)}


@pytest.mark.parametrize(
    "item", KUBERNETES, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}"
)
def test_kubernetes_schema_has_every_field(item):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(item, version, strict=True)


def test_kubernetes_parts_name_each_other_rightly():
    service = of_kind("Service")["quadrat-luigid"]
    claims, maps = of_kind("PersistentVolumeClaim"), of_kind("ConfigMap")
    assert service["spec"]["selector"] == PODS["quadrat-luigid"]["metadata"]["labels"]
    cfg = maps["quadrat-luigi"]["data"]["luigi.cfg"]
    assert f"scheduler_host = {service['metadata']['name']}\n" in cfg
    assert f"scheduler_port = {service['spec']['ports'][0]['port']}\n" in cfg
    for _, spec, container in SPECS:
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            assert volume.get("configMap", {"name": "quadrat"})["name"] in maps
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}
        sources = [source.get("configMapRef") for source in container.get("envFrom", [])]
        assert {source["name"] for source in sources if source} <= set(maps)


def test_kubernetes_leader_and_workers_are_of_one_kind_and_one_commit():
    assert len({container["image"] for _, _, container in SPECS} | {CONTAINER["image"]}) == 1
    leader, workers = (PODS[f"quadrat-{name}"]["spec"] for name in ("leader", "workers"))
    assert leader["nodeSelector"] == workers["nodeSelector"]
    assert leader["containers"][0]["resources"] == workers["containers"][0]["resources"]
    settings = of_kind("ConfigMap")["quadrat"]["data"]
    mount = workers["containers"][0]["volumeMounts"][0]["mountPath"]
    assert settings["LUIGI_CONFIG_PATH"] == f"{mount}/luigi.cfg"
    assert settings["QUADRAT_WORKERS"] == workers["containers"][0]["resources"]["requests"]["cpu"]


def test_kubernetes_gives_up_on_what_another_try_would_meet_again():
    rules = of_kind("Job")["quadrat-workers"]["spec"]["podFailurePolicy"]["rules"]
    codes = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
    assert codes == [[SettingError.exit_code, InputError.exit_code]]


def test_the_image_is_a_clone_with_its_environment_and_hands_signals_on():
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] not in "# "]
    said = {word: [rest for found, rest in lines if found == word] for word, _ in lines}
    assert said["COPY"] == ["--chown=quadrat .git .git"]
    assert said["RUN"][-1].endswith("&& make setup")
    assert json.loads(said["ENTRYPOINT"][0]) == ["tini", "--"]
    assert all(tool in said["RUN"][0].split() for tool in ("git", "make", "tini"))
    uid = said["USER"][0]
    assert f"--uid {uid} " in said["RUN"][0]
    assert {str(spec["securityContext"]["runAsUser"]) for _, spec, _ in SPECS} == {uid}


def test_the_page_names_files_that_are_there():
    text = (ROOT / "docs" / "how-to" / "many-machines.md").read_text(encoding="utf-8")
    named = re.findall(r"docs/cluster/[\w.-]+\w", text)
    assert named
    assert all((ROOT / name).exists() for name in named)
