"""Atomic file writes."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

# Linux: identifiers of the current boot and of the PID namespace, within which a process ID is unique.
KERNEL, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write ``path`` atomically: yield a temporary path next to it, renamed on success and removed on failure.

    First removes temporary files left by killed writers of ``path``, if their processes are known to be dead.
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
    """Return an identifier of the environment in which process IDs are unique, or "" if there is none."""
    try:
        return hashlib.sha256(f"{KERNEL.read_text()}{NAMESPACE.readlink()}".encode()).hexdigest()[:12]
    except OSError:
        return ""


def _remove_remains(path: Path) -> None:
    """Remove temporary files of processes known to be dead.

    A process of another machine, container or boot may still be running, and a process ID may have been reused.
    """
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
