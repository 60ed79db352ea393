"""Entry points: one short file for each stage, run by DVC, and for each command."""

import functools
import gc
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from pipeline.core import signals
from pipeline.core.errors import QuadratError

FOR_ANY_FOLDER = {"stages.model_export", "stages.pyspacer_features"}
"""Commands that need no params.yaml: their arguments say all."""


def obstacle() -> str | None:
    """Return what keeps every stage from running here, and what to do; None if nothing does."""
    for name in ("luigi", "pyarrow"):
        if find_spec(name) is None:
            return (
                f"{name} is not installed for {sys.executable}; activate the environment first: "
                "source .venv/bin/activate (make setup creates it)"
            )
    if not os.access("params.yaml", os.F_OK) and FOR_ANY_FOLDER.isdisjoint(sys.orig_argv):
        from pathlib import Path  # the index of an unchanged bucket does without it

        root = Path(__file__).resolve().parent.parent
        return f"{Path.cwd()}: has no params.yaml; go to the repository's root first: cd {root}"
    return None


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Return *main* such that it prints an error in one sentence, and returns its exit code."""

    @functools.wraps(main)
    def run(*arguments: Any) -> int:
        try:
            return main(*arguments)
        except QuadratError as error:
            print(error, file=sys.stderr)
            return error.exit_code

    return run


if sys.argv[0] == "-m":  # as it is while `python -m stages.NAME` looks for its file
    if message := obstacle():
        print(message, file=sys.stderr)
        raise SystemExit(2)
    signals.stop_on_signals()

# A stage imports for half of its seconds, and what is imported stays: to look for garbage as often
# as Python does by itself would make that slower.
gc.set_threshold(100_000, 50, 50)
