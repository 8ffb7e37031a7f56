"""What every stage shares: its exit status, and a progress bar that is quiet off a terminal."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import ContractViolation

REFUSED = 1
UNUSABLE = 2
INTERRUPTED = 130
# The extra that brings a library; `pipeline` alone has most of them.
EXTRAS = {
    **dict.fromkeys(("dask", "distributed", "dvc", "jinja2", "lightning", "matplotlib", "tblite", "torch"), "pipeline"),
    "great_expectations": "gx",
    "orb_models": "orb",
    "lmdb": "formats",
    "dask_jobqueue": "hpc",
}
# What mends an error of the system; the error of a full disk names no file.
REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; make room on the disk and run the same command again"
    ),
    errno.EROFS: "; make its folder writable and run the same command again",
    # The error does not say whether it was to be read or to be written.
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "; make it readable, or its folder writable, and run the same command again"
    ),
}


def stage_exit_status(main: Callable[[], int]) -> int:
    """Run ``main``; a refusal is 1 and an unusable input 2, each with one clear message and no traceback.

    A fault of the program itself is neither, and keeps its traceback.
    """
    try:
        return main()
    except ContractViolation as refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(
            "interrupted; run the same command again: long stages and `hydrogate md` go on where they were",
            file=sys.stderr,
        )
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hydrogate"):
            raise
        name = (error.name or "").partition(".")[0]
        remedy = f"pip install 'hydrogate[{EXTRAS.get(name, 'all')}]' (torch first, see the README)"
        print(f"{name} is not installed: the bare install checks data; for this, {remedy}", file=sys.stderr)
        return UNUSABLE
    except (BadParams, ValueError, OSError, RuntimeError, MemoryError) as error:
        from hydrogate.checks.render.text import printable

        remedy = REMEDIES.get(getattr(error, "errno", None) or 0, "")
        print(printable(f"{type(error).__name__}: {error}{remedy}"), file=sys.stderr)
        return UNUSABLE


@contextmanager
def progress_bar(task: str, *, total: int, done: int = 0, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, and a function that advances it; one line at the end where nobody looks."""
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
