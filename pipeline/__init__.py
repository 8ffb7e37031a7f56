"""Pipeline stages and the command line: the only package that reads or writes files."""

import os
import sys
from typing import Any


def _interrupted(kind: type[BaseException], *about: Any) -> None:
    """Print one line for Ctrl-C while a stage is still being imported; handle other exceptions as usual."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, *about)
        return
    print("interrupted before anything was done", file=sys.stderr, flush=True)
    os._exit(130)  # otherwise Python terminates itself with the signal


if sys.argv[:1] == ["-m"]:  # only during `python -m hydrogate.pipeline.STAGE`
    sys.excepthook = _interrupted
