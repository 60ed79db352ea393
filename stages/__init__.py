"""Entry points: one short file for each stage, run by DVC, and for each command."""

import os
import sys

from pipeline.core import signals

IS_COMMAND = sys.argv[0] == "-m"
"""`python -m stages.NAME` looks for its file."""

if IS_COMMAND:
    signals.stop_on_signals()  # first of all: what is imported below takes time
elif "--multiprocessing-fork" in sys.orig_argv:  # a worker of such a command that is not forked
    signals.begin_child()

import functools  # noqa: E402
import gc  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from typing import Any  # noqa: E402

from pipeline.core.errors import QuadratError  # noqa: E402

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


if IS_COMMAND and (message := obstacle()):
    print(message, file=sys.stderr)
    raise SystemExit(2)

# A stage imports for half of its seconds, and what is imported stays: to look for garbage as often
# as Python does by itself would make that slower.
gc.set_threshold(100_000, 50, 50)
