"""Earlier classifiers, to be judged beside the new one: from a folder, or a git revision.

Git says what `models/classifier` was at a revision (its `dvc.lock`), and DVC brings it, from its
cache or remote. Both are asked as the programs that they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError, SettingError
from pipeline.core.hashing import digest
from pipeline.train import model

CLASSIFIER = "models/classifier"


def digest_of(name: str) -> str:
    """Give a digest of the classifier that *name* names now, without bringing it.

    Args:
        name: one of `validate.compare`: a folder with a classifier, or a git revision.

    Raises:
        SettingError: it names neither.
    """
    card = Path(name) / "model.json"
    if _is_file(card):
        return model.sha256(card.read_bytes())
    return digest(["dvc", _locked(name)])


def read(name: str, state: Path) -> model.Classifier:
    """Read the classifier that *name* names.

    Args:
        name: as in `digest_of`.
        state: the machine's folder; what DVC brings is kept below it.

    Raises:
        SettingError: it names none.
        InputError: DVC cannot bring it, or it cannot be read.
    """
    if _is_file(Path(name) / "model.json"):
        return model.read(Path(name))
    folder = state / "earlier" / _locked(name).removesuffix(".dir")
    if not (folder / "model.json").is_file():
        _bring(name, folder)
    return model.read(folder)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than a path can be, as a revision may
        return False


@cache
def _locked(revision: str) -> str:
    """Give DVC's digest of the classifier at *revision*."""
    command = ["git", "-C", _root(), "show", "--end-of-options", f"{revision}:./dvc.lock"]
    command += ["--"]  # or what has a bracket in it would be taken for files' names
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SettingError(
            f"validate.compare: {revision!r} needs git, which is not here"
        ) from error
    except ValueError as error:
        raise SettingError(f"validate.compare: {revision!r} names nothing ({error})") from error
    if done.returncode:
        raise SettingError(
            f"validate.compare: {revision!r} is neither a folder with a classifier nor a git "
            f"revision of this repository with a dvc.lock ({_last(done.stderr)})"
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
            f"validate.compare: the dvc.lock of {revision!r} is none of DVC's"
        ) from error
    raise SettingError(f"validate.compare: the dvc.lock of {revision!r} has no {CLASSIFIER}")


def _bring(revision: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    command = [sys.executable, "-m", "dvc", "get", "--quiet", f"--rev={revision}"]
    command += ["--out", str(part), _root(), CLASSIFIER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"validate.compare: DVC cannot bring {CLASSIFIER} of {revision!r} "
            f"({_last(done.stderr)}); dvc fetch --all-commits brings what a remote has"
        )
    try:
        part.replace(folder)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)


def _root() -> str:
    """Give the checkout: a temporary experiment runs in a clone without branches and tags."""
    return os.environ.get("DVC_ROOT") or "."


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def identity(classifier: model.Classifier) -> str:
    """Give what made the features that *classifier* learnt from, as comparable text."""
    return identity_of(classifier.card.get("extractor", {}).get("made_by", {}))


def identity_of(made_by: Mapping[str, Any]) -> str:
    """Give the same of features by the parts of their recipe: whatever machine computed them."""
    return json.dumps(made_by.get("identity"), sort_keys=True)
