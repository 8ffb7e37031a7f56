"""The stages of the pipeline and the command line: the only package that touches files."""

import os
import sys
from typing import Any


def _interrupted(kind: type[BaseException], *about: Any) -> None:
    """Of a stage that still imports, Ctrl-C is said in one line; all else as ever."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, *about)
        return
    print("interrupted before anything was done", file=sys.stderr, flush=True)
    os._exit(130)  # Python would end by the signal itself


if sys.argv[:1] == ["-m"]:  # only `python -m hydrogate.pipeline.STAGE` is on its way here
    sys.excepthook = _interrupted
