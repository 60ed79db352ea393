"""Luigi, imported without two libraries that it can do without: that takes half as long.

`jsonschema` checks a kind of parameter that we have none of; without `requests` Luigi speaks to its
scheduler by the standard library. A stage imports Luigi to find that it has little to do.

Where Luigi's own command imports this, Ctrl-C stops it as it stops a stage.
"""

import sys

from pipeline.core import signals

IS_COMMAND = "luigi.cmdline" in sys.modules  # which `luigi` and `python -m luigi` import, no other

if IS_COMMAND:
    signals.stop_on_signals()

HIDDEN = [name for name in ("jsonschema", "requests") if name not in sys.modules]

sys.modules.update(dict.fromkeys(HIDDEN))  # type: ignore[arg-type]
try:
    import luigi
    from luigi.rpc import RemoteScheduler, RPCError
finally:
    for name in HIDDEN:
        del sys.modules[name]

__all__ = ["IS_COMMAND", "RPCError", "RemoteScheduler", "luigi"]
