"""Compare the experiments of a sweep, and say what the best of them is really worth.

The experiments are those of `dvc exp run` on one commit. Writes sweep.json, which the report shows
if validate.sweep names it.
"""

import argparse

from pipeline.commands import sweep as experiments
from pipeline.config.loader import load
from pipeline.core.errors import InputError
from pipeline.store.outputs import out, place
from pipeline.validate import sweep
from stages import command


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.sweep", description=__doc__)
    parser.add_argument("--by", choices=sweep.metrics(), default="accuracy", metavar="METRIC")
    parser.add_argument("--rev", default="HEAD", help="the commit that the experiments began from")
    return parser.parse_args()


@command
def main() -> int:
    """Compare, and print a table and the corrected value."""
    asked = options()
    validate = load("params.yaml").validate
    revisions = experiments.listed(asked.rev)
    if not revisions:
        raise InputError(
            f"{asked.rev}: has no finished experiment; run dvc exp run, or name another --rev"
        )
    predicted = experiments.read(revisions)
    found = sweep.compare(predicted, asked.by, validate.bootstrap_rounds, validate.seed)
    place(sweep.FILE, out(found.to_bytes()))
    for name, value in found.values.items():
        print(f"{name:<24} {asked.by} {value:.4f}")
    print(f"\n{found.verdict}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
