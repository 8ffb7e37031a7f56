"""Shared functions of all stages: exit status, and a progress bar that is shown only in a terminal."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import ContractViolation

REFUSED = 1
UNUSABLE = 2
INTERRUPTED = 130
# Extra that installs each library; most of them are in `pipeline`.
EXTRAS = {
    **dict.fromkeys(("dask", "distributed", "dvc", "jinja2", "lightning", "matplotlib", "tblite", "torch"), "pipeline"),
    "great_expectations": "gx",
    "orb_models": "orb",
    "lmdb": "formats",
    "dask_jobqueue": "hpc",
}
# Remedies for system errors; a disk-full error does not name the file.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; free disk space and run the same command again"),
    errno.EROFS: "; make its folder writable and run the same command again",
    # The error does not show whether the file was to be read or written.
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "; make it readable, or its folder writable, and run the same command again"
    ),
}


def stage_exit_status(main: Callable[[], int]) -> int:
    """Run ``main`` and return its exit status: 1 failed, 2 invalid input, 130 interrupted.

    Each of these prints one clear message and no traceback. A bug in the program itself keeps its traceback.
    """
    try:
        return main()
    except ContractViolation as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(
            "interrupted; run the same command again: long stages and `hydrogate md` resume where they stopped",
            file=sys.stderr,
        )
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hydrogate"):
            raise
        name = (error.name or "").partition(".")[0]
        remedy = f"pip install 'hydrogate[{EXTRAS.get(name, 'all')}]' (torch first, see the README)"
        print(f"{name} is not installed: the base installation only checks data; run {remedy}", file=sys.stderr)
        return UNUSABLE
    except (BadParams, ValueError, OSError, RuntimeError, MemoryError) as error:
        from hydrogate.checks.render.text import printable

        remedy = REMEDIES.get(getattr(error, "errno", None) or 0, "")
        print(printable(f"{type(error).__name__}: {error}{remedy}"), file=sys.stderr)
        return UNUSABLE


@contextmanager
def progress_bar(task: str, *, total: int, done: int = 0, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left; yield a function that advances it.

    Without a terminal, print a single line at the end.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        print(f"{task}: {total} {unit}", file=sys.stderr)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        identifier = bar.add_task(task, total=total, completed=done)
        yield lambda count: bar.advance(identifier, count)
