"""Evaluate the classifier once on the groups that split.test has set aside.

Writes test_results/, and adds a line to its looks.csv at every call.
"""

import argparse

from pipeline.commands import final_test
from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.run_log import RUN
from pipeline.store.context import Context, open_store
from stages import command


@command
def main() -> int:
    """Evaluate, and print the result."""
    argparse.ArgumentParser(prog="python -m stages.test", description=__doc__).parse_args()
    context = Context(load("params.yaml"), machine(), open_store(machine()), RUN)
    print(final_test.evaluate(context))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
