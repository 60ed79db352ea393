"""The folder is the registry: a part's name in params.yaml is the name of its file.

Finding a part imports its file and nothing else of the folder.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core.code_version import imported
from pipeline.core.errors import InputError, SettingError

PACKAGE = Path(__file__).parent.parent

OUR_PACKAGES = frozenset({"pipeline", "stages"})
"""Packages whose versions are in recipes anyway: their files are no part of a plugin's digest."""


def names(folder: str) -> list[str]:
    """Return the parts of `pipeline.<folder>`: its files that do not begin with an underscore."""
    modules = pkgutil.iter_modules([str(PACKAGE.joinpath(*folder.split(".")))])
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def unknown(name: Any, known: Sequence[str]) -> str:
    """Return a message about a *name* that is not one of the *known*, with the nearest of them."""
    nearest = get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" (nearest: {nearest[0]!r})" if nearest else ""
    return f"no {name!r} among {', '.join(known)}{hint}"


def check(folder: str, name: Any, *, key: str) -> None:
    """Raise SettingError if *folder* has no part *name*; *key* is the setting that names it."""
    if name not in names(folder):
        raise SettingError(f"{key}: {unknown(name, names(folder))}")


def find(folder: str, name: Any, *, key: str) -> ModuleType:
    """Import the part *name* of *folder*; raise SettingError as `check` does."""
    check(folder, name, key=key)
    return importlib.import_module(f"pipeline.{folder}.{name}")


@dataclass(frozen=True, slots=True)
class UserPlugin:
    """A user's class, and the source that this process has loaded it from.

    Attributes:
        kind: the class.
        files: its file, and those that it imports of the user's code, by module.
        sha256: their digests, by module.
    """

    kind: Any
    files: Mapping[str, Path]
    sha256: Mapping[str, str]


@cache
def find_user_plugin(name: str, *, key: str) -> UserPlugin:
    """Load a user's class, named `module:Class`, from outside this package.

    A process loads a class once, and keeps the digests of that code: a worker that runs for days
    must not state the digest of today's file while it runs yesterday's.

    Raises:
        SettingError: the module cannot be imported, or has no such class.
        InputError: its code changed while it was loaded.
    """
    module_name, _, attribute = name.partition(":")
    try:
        files = _source_files(module_name)
        _forget_bytecode(files)
        sha256 = digests(files)
        loaded = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise SettingError(f"{key}: {name!r} cannot be imported ({error})") from error
    if not hasattr(loaded, attribute):
        raise SettingError(f"{key}: module {module_name!r} has no {attribute!r}")
    if digests(files) != sha256:
        raise InputError(f"{key}: the code of {name!r} changed while it was loaded; run again")
    return UserPlugin(getattr(loaded, attribute), files, sha256)


def _source_files(module: str) -> dict[str, Path]:
    """Return the files of a user's *module* and of the user's modules that it imports.

    They are found by import statements, without running any code. For an installed package, these
    are all of its files and none of its dependencies.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return {}  # the import will raise the error
    path = Path(spec.origin).resolve()
    root = path.parents[module.count(".") + (path.name == "__init__.py")]
    if str(root) in sysconfig.get_paths().values():
        return {str(file.relative_to(root)): file for file in _package(root, module)}
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files or name.partition(".")[0] in OUR_PACKAGES:
            continue
        if file := _file(root, name):
            files[name] = file
            waiting += imported(name, file)
    return dict(sorted(files.items()))


def _file(root: Path, module: str) -> Path | None:
    """Return the file of *module* below *root*; None if there is none."""
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _package(root: Path, module: str) -> list[Path]:
    """Return all files of the installed package that *module* belongs to."""
    top = root / module.partition(".")[0]
    return sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each of *files*, as 64 hex digits."""
    sha256 = {}
    for name, file in files.items():
        with file.open("rb") as stream:
            sha256[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sha256


def _forget_bytecode(files: Mapping[str, Path]) -> None:
    """Delete the compiled code of *files*.

    Python trusts it by the source's size and mtime in seconds: after an edit within a second, or
    with the mtime set back, it would run the old code.
    """
    for file in files.values():
        with suppress(OSError):
            Path(importlib.util.cache_from_source(file)).unlink()
