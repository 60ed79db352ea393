"""The folder is the registry: a part's name in params.yaml is its file's name.

Looking one name up imports that one file and nothing else of its folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import SettingError

HERE = Path(__file__).parent


def names(folder: str) -> list[str]:
    """List the parts of `pipeline/<folder>/`: its files that do not begin with an underscore."""
    found = pkgutil.iter_modules([str(HERE / folder)])
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


def find_own(name: str, *, key: str) -> Any:
    """Import a user's own part, named `module:Class`, from outside this package.

    Raises:
        SettingError: the module cannot be imported, or has no such class.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise SettingError(f"{key}: {name!r} cannot be imported ({error})") from error
    except AttributeError as error:
        raise SettingError(f"{key}: module {module_name!r} has no {attribute!r}") from error
