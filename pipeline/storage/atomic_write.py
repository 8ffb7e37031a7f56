"""Files written whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

# Linux: which start of which kernel this is, and within which of its namespaces a number names one process.
KERNEL, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, moved into place when the block ends well and removed when it does not.

    What writers of ``path`` left that were killed goes first, where they are known to be dead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_remains(path)
    temporary = path.with_name(f".{path.name}.{processes()}-{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def processes() -> str:
    """What tells the processes that can be asked for by number from those elsewhere; empty where nothing does."""
    try:
        return hashlib.sha256(f"{KERNEL.read_text()}{NAMESPACE.readlink()}".encode()).hexdigest()[:12]
    except OSError:
        return ""


def _remove_remains(path: Path) -> None:
    """Of processes known to be dead: one of another machine, container or start may live, as may a number used anew."""
    if not (here := processes()):
        return
    for remains in path.parent.glob(f".{escape(path.name)}.{here}-*.tmp"):
        number = remains.name.removesuffix(".tmp").rpartition("-")[2]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with suppress(OSError):
                remains.unlink()
        except (ValueError, OverflowError, PermissionError):
            continue
