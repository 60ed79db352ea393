"""Join the runs of other machines until there is nothing left to do.

See docs/how-to/many-machines.md.
"""

import argparse

if __name__ == "__main__":
    from pipeline.scheduler import worker

    parser = argparse.ArgumentParser(prog="python -m stages.worker", description=__doc__)
    parser.add_argument(
        "--idle", type=float, metavar="SECONDS", help="leave after so long without work"
    )
    raise SystemExit(worker.join(parser.parse_args().idle))
