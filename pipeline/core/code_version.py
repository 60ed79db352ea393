"""The version of the code, as a recipe names it.

Each part that shapes rows has a `VERSION` in its recipe. `pipeline/code.lock` holds the digest of
every file's code at these versions. Code that matches the lock is identified by its versions, so
that a release that only moves code around keeps everybody's features. Code that differs is
identified by its own digest, so that an edited checkout never reuses rows of other code.

The code of a file is its syntax tree without docstrings: a comment or an empty line is no change.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.hashing import digest

HERE = Path(__file__).parent.parent
LOCK = HERE / "code.lock"
SUFFIXES = (".py", ".j2", ".css", ".js")
"""Of the files that shape results; others are left by editors and interpreters."""


@cache
def edited(*roots: str) -> dict[str, str]:
    """Return what a recipe says of code that is not as in the lock: {"edited": digest}, or {}.

    Args:
        roots: modules, or packages with all that is in them. What they import of `pipeline` counts
            as well.
    """
    if not (differing := edited_files()):
        return {}
    names = _closure(roots)
    if names & differing or differing - codes().keys():  # a deleted file may belong to any root
        return {"edited": digest({name: codes()[name] for name in names})}
    return {}


@cache
def edited_files() -> frozenset[str]:
    """Return the files whose code is not as in the lock, by path from the checkout."""
    locked = {name: lines["code"] for name, lines in _locked().items()}
    return frozenset(name for name, _ in locked.items() ^ codes().items())


@cache
def codes() -> Mapping[str, str]:
    """Return the digest of the code of each file of `pipeline/`, as this process has found it.

    Parsing all files takes most of a second, so the lock holds the digests of their bytes, too.
    """
    locked = _locked()
    found = {}
    for name, path in sorted(_files()):
        data = path.read_bytes()
        lock = locked.get(name, {})
        found[name] = (
            lock["code"] if lock.get("bytes") == _sha256(data) else code_digest(name, data)
        )
    return found


def code_digest(name: str, data: bytes) -> str:
    """Return the digest of the code of a file: 32 hex digits; of a template, that of its bytes."""
    return _sha256(_shape(ast.parse(data, name)).encode() if name.endswith(".py") else data)


def lock() -> str:
    """Return what `pipeline/code.lock` must hold for the code as it is, as JSON."""
    files = {
        name: {"bytes": _sha256(data), "code": code_digest(name, data)}
        for name, data in sorted((name, path.read_bytes()) for name, path in _files())
    }
    return json.dumps(files, indent=1) + "\n"


def _locked() -> Mapping[str, Any]:
    """Return the lock's lines by file; none if there is no lock."""
    with suppress(FileNotFoundError):
        files: Mapping[str, Any] = json.loads(LOCK.read_bytes())
        return files
    return {}


def _files() -> Iterator[tuple[str, Path]]:
    for path in HERE.rglob("*"):
        if path.suffix in SUFFIXES:
            yield path.relative_to(HERE.parent).as_posix(), path


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield *node* and all nodes below it, without those that only type checkers look at."""
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = iter(node.orelse)
    for child in children:
        yield from _walk(child)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _shape(node: Any) -> str:
    """Return a syntax tree as text, the same in all versions of Python.

    Docstrings, and strings under constants, are left out: they do nothing.
    """
    if isinstance(node, list):
        return f"[{' '.join(_shape(item) for item in node if not _is_text(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (
        f"{name}={_shape(value)}"
        for name, value in ast.iter_fields(node)
        if value not in (None, [])
    )
    return f"{type(node).__name__}({' '.join(fields)})"


def _is_text(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _closure(roots: Iterable[str]) -> frozenset[str]:
    """Return the files of *roots* and of everything that they import of `pipeline`."""
    paths = dict(_files())
    waiting = [name for root in roots for name in _of_root(root, paths)]
    names: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in paths and name not in names:
            names.add(name)
            waiting += _imports(name, paths[name])
    return frozenset(names)


@cache
def _imports(name: str, path: Path) -> list[str]:
    """Return the files that may be what the file *name* imports; a template imports nothing."""
    if not name.endswith(".py"):
        return []
    return [file for module in imported(_module(name), path) for file in _of_module(module)]


def _of_root(root: str, paths: Mapping[str, Path]) -> list[str]:
    """Return the files of a module, or all files of a package."""
    folder = f"{root.replace('.', '/')}/"
    return [name for name in paths if name.startswith(folder)] or _of_module(root)


def _of_module(module: str) -> list[str]:
    path = module.replace(".", "/")
    return [f"{path}.py", f"{path}/__init__.py"]


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(module: str, file: Path) -> set[str]:
    """Return all names that import statements of *file* may mean, and the packages they are in.

    Imports for type checkers are left out.
    """
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = {module}
    for node in _walk(ast.parse(file.read_bytes(), file)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # beyond the top package: the import will raise the error
                relative = "." * node.level + (node.module or "")
                base = importlib.util.resolve_name(relative, package)
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
    split = (name.split(".") for name in names)
    return {".".join(parts[:count]) for parts in split for count in range(1, len(parts) + 1)}
