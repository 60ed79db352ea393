"""The folder is the registry: a part's name in params.yaml is its file's name.

Looking one name up imports that one file and nothing else of its folder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core.errors import InputError, SettingError

PACKAGE = Path(__file__).parent.parent

OUR_PACKAGES = frozenset({"pipeline", "stages"})
"""What a user's code may import of us: its own versions say when it changes."""


def names(folder: str) -> list[str]:
    """List the parts of `pipeline.<folder>`: its files that do not begin with an underscore."""
    found = pkgutil.iter_modules([str(PACKAGE.joinpath(*folder.split(".")))])
    return sorted(module.name for module in found if not module.name.startswith("_"))


def find(folder: str, name: str, *, key: str) -> ModuleType:
    """Import the part *name* of *folder*; *key* is the setting that named it.

    Raises:
        SettingError: there is no such part; the message lists those there are.
    """
    known = names(folder)
    if name not in known:
        nearest = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (nearest: {nearest[0]!r})" if nearest else ""
        raise SettingError(f"{key}: no {name!r} among {', '.join(known)}{hint}")
    return importlib.import_module(f"pipeline.{folder}.{name}")


@dataclass(frozen=True, slots=True)
class UserPlugin:
    """A user's own class, and the source that this process has loaded it from.

    Attributes:
        kind: the class.
        files: its file, and all that it imports of the user's, by module.
        sha256: their digests, by module.
    """

    kind: Any
    files: Mapping[str, Path]
    sha256: Mapping[str, str]


@cache
def find_user_plugin(name: str, *, key: str) -> UserPlugin:
    """Load a user's own part, named `module:Class`, from outside this package.

    A process loads it once, and so says of it what it was then: a worker that stays for days must
    not give today's code for what it still runs of yesterday's.

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
    """Give the file of a user's *module* and of all that it imports of the user's, by module.

    Found without running them, by their import statements. Of an installed package it is the whole
    package; what that imports of others is not looked at.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return {}  # importing it will say why
    path = Path(spec.origin).resolve()
    root = path.parents[module.count(".") + (path.name == "__init__.py")]
    if str(root) in sysconfig.get_paths().values():
        return {str(file.relative_to(root)): file for file in _package(root, module)}
    found: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if (
            name in found
            or name.partition(".")[0] in OUR_PACKAGES
            or not (file := _file(root, name))
        ):
            continue
        found[name] = file
        todo += _imported(name, file)
    return dict(sorted(found.items()))


def _file(root: Path, module: str) -> Path | None:
    """Give the file of *module* below *root*; None if it has none, or is not the user's."""
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imported(module: str, file: Path) -> set[str]:
    """Give whatever the import statements of *file* may mean: modules, packages, and names."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = {module}
    for node in ast.walk(ast.parse(file.read_bytes(), file)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # above the top, which importing it will say
                relative = "." * node.level + (node.module or "")
                base = importlib.util.resolve_name(relative, package)
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
    parts = (name.split(".") for name in names)
    return {".".join(some[:count]) for some in parts for count in range(1, len(some) + 1)}


def _package(root: Path, module: str) -> list[Path]:
    """Give all files of the installed package that *module* belongs to."""
    top = root / module.partition(".")[0]
    return sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Give the SHA-256 of each of *files*, as 64 hex digits."""
    found = {}
    for name, file in files.items():
        with file.open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _forget_bytecode(files: Mapping[str, Path]) -> None:
    """Delete what Python has compiled of *files*.

    It trusts that by the source's size and mtime, to the second: after an edit within the second,
    or with the time set back, it would run the old code.
    """
    for file in files.values():
        with suppress(OSError):
            Path(importlib.util.cache_from_source(file)).unlink()
