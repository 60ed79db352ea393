"""Earlier classifiers to compare with the new one: from a folder, or from a git revision.

The `dvc.lock` of a revision has the digest of its `models/classifier`, and DVC fetches that from
its cache or remote. Both git and DVC run as programs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.annotations import label_separator
from pipeline.core.errors import InputError, SettingError
from pipeline.core.hashing import digest
from pipeline.store import outputs
from pipeline.store.context import Context
from pipeline.store.outputs import FEATURES
from pipeline.train import model, training_record
from pipeline.train.training_record import TrainingRecord

CLASSIFIER = "models/classifier"


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """An earlier classifier, and what it was trained on; None if it has no record of that."""

    classifier: model.Classifier
    record: TrainingRecord | None


def digest_of(name: str) -> str:
    """Return a digest of the classifier that *name* names now, without fetching it.

    Args:
        name: one of `validate.compare`: a folder with a classifier, or a git revision.

    Raises:
        SettingError: it is neither.
    """
    card = Path(name) / "model.json"
    if _is_file(card):
        return model.sha256(card.read_bytes())
    return digest(["dvc", _locked(name)])


def read(name: str, state: Path) -> Baseline:
    """Read the classifier that *name* names.

    Args:
        name: as in `digest_of`.
        state: the machine's folder; what DVC fetches is kept below it.

    Raises:
        SettingError: it names no classifier.
        InputError: DVC cannot fetch it, or it cannot be read.
    """
    folder = Path(name)
    if not _is_file(folder / "model.json"):
        folder = state / "earlier" / _locked(name).removesuffix(".dir")
        if not (folder / "model.json").is_file():
            _fetch(name, folder)
    classifier = model.read(folder)
    return Baseline(classifier, training_record.read(folder, classifier.card))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than a path can be, as a revision may
        return False


@cache
def _locked(revision: str) -> str:
    """Return DVC's digest of the classifier at *revision*."""
    command = ["git", "-C", _root(), "show", "--end-of-options", f"{revision}:./dvc.lock"]
    command += ["--"]  # git would take a name with a bracket for a pattern of files
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SettingError(
            f"validate.compare: {revision!r} needs git, which is not installed"
        ) from error
    except ValueError as error:
        raise SettingError(f"validate.compare: {revision!r} is no revision ({error})") from error
    if done.returncode:
        raise SettingError(
            f"validate.compare: {revision!r} is neither a folder with a classifier nor a git "
            f"revision of this repository with a dvc.lock ({last_line(done.stderr)})"
        )
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        stages = YAML(typ="safe").load(done.stdout).get("stages", {})
        for stage in stages.values():
            for out in stage.get("outs", []):
                if out.get("path") == CLASSIFIER:
                    return str(out["md5"])
    except (YAMLError, AttributeError, TypeError, LookupError) as error:
        raise SettingError(
            f"validate.compare: the dvc.lock of {revision!r} is not one that DVC writes"
        ) from error
    raise SettingError(f"validate.compare: the dvc.lock of {revision!r} has no {CLASSIFIER}")


def _fetch(revision: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    if why := dvc_get(CLASSIFIER, revision, part):
        raise InputError(
            f"validate.compare: DVC cannot fetch {CLASSIFIER} of {revision!r} ({why}); dvc fetch "
            "--all-commits fetches what a remote has"
        )
    try:
        part.replace(folder)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)


def dvc_get(path: str, revision: str, target: Path) -> str:
    """Fetch an out of *revision* from DVC's cache or remote; return why not, or an empty text."""
    command = [sys.executable, "-m", "dvc", "get", "--quiet", f"--rev={revision}"]
    command += ["--out", str(target), _root(), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return last_line(done.stderr) if done.returncode else ""


def _root() -> str:
    """Return the checkout: DVC runs a temporary experiment in a clone without branches and tags."""
    return os.environ.get("DVC_ROOT") or "."


def last_line(text: str) -> str:
    """Return the last line of what a program has said, for a message."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no error message"


def read_all(context: Context, dim: int) -> dict[str, Baseline]:
    """Read the classifiers that `validate.compare` names, by name.

    Args:
        context: of the stage.
        dim: values in a feature.

    Raises:
        SettingError: one is missing, or was trained on other features or for other labels.
        InputError: one cannot be read.
    """
    return {name: _compatible(name, context, dim) for name in context.params.validate.compare}


def _compatible(name: str, context: Context, dim: int) -> Baseline:
    baseline = read(name, context.machine.state)
    classifier = baseline.classifier
    made_by = outputs.require_manifest(FEATURES)["made_by"]
    if identity(classifier) != identity_of(made_by):
        raise SettingError(
            f"validate.compare: {name!r} was trained on features of another extractor, which are "
            "not available here; compare classifiers of one extractor"
        )
    if classifier.sizes[0] != dim:
        raise SettingError(
            f"validate.compare: {name!r} takes features of {classifier.sizes[0]} values, not {dim}"
        )
    separator = classifier.card.get("label_separator")
    if separator != label_separator(context.params.annotations):
        labels = "exactly one label" if separator is None else "several labels"
        raise SettingError(
            f"validate.compare: {name!r} predicts {labels} for a chip, unlike "
            "annotations.label_separator of this run"
        )
    return baseline


def identity(classifier: model.Classifier) -> str:
    """Return what made the features that *classifier* was trained on, as comparable text."""
    return identity_of(classifier.card.get("extractor", {}).get("made_by", {}))


def identity_of(made_by: Mapping[str, Any]) -> str:
    """Return the same from the parts of the features' recipe, whatever the machine."""
    return json.dumps(made_by.get("identity"), sort_keys=True)
