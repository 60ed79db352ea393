"""Entry points: one short file for each stage, run by DVC, and for each command."""

import gc
import sys

from pipeline.core import signals

if sys.argv[0] == "-m":  # as it is while `python -m stages.NAME` looks for its file
    signals.stop_on_signals()

# A stage imports for half of its seconds, and what is imported stays: to look for garbage as often
# as Python does by itself would make that slower.
gc.set_threshold(100_000, 50, 50)
