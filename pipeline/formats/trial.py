"""Trial read of external HDF5 files in a separate process, which may crash or hang.

libhdf5 trusts the metadata of a file: three wrong bytes can make it hang or crash the process. This file, run as a
script, is the separate process. One such process inspects all files and runs until its parent process ends.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

# Limit on the processor time at one place of a file, s; most places take less than a millisecond.
LONGEST = 5.0
MEMORY = 2**30  # bytes, including Python and NumPy; each single read is small
TEXTS_AT_A_TIME = 1000
OUT_OF_MEMORY, UNLISTED = 3, 4  # exit statuses
_asking = Lock()


def start() -> "subprocess.Popen[str]":
    """Start a process that inspects files."""
    return subprocess.Popen(
        [sys.executable, "-P", __file__],  # -P: modules next to this file must not shadow others of the same name
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # each thread uses memory
    )


@lru_cache(maxsize=1)
def _process(asks: int) -> "subprocess.Popen[str]":
    process = start()
    atexit.register(process.communicate)  # closes its input, which ends the process
    return process


def refuse_deadly(path: Path) -> None:
    """Reject an HDF5 file whose groups, attributes, texts and array locations libhdf5 cannot traverse.

    Errors that libhdf5 reports itself are left to the reader.

    Raises
    ------
    UnreadableFile
        The trial read took more than ``LONGEST`` or ``MEMORY`` at one place, or its process crashed.
    """
    state = path.stat()
    if os.name == "posix":  # other systems cannot limit a process
        _looked_through(path, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _looked_through(path: Path, *state: int) -> None:
    from hydrogate.pipeline.storage.hdf5_arrays import UnreadableFile

    with _asking:
        process, place = _process(os.getpid()), "/"
        assert process.stdin is not None
        assert process.stdout is not None
        done = False
        try:
            print(json.dumps([str(path.absolute()), LONGEST]), file=process.stdin, flush=True)
            for line in process.stdout:
                if done := (told := json.loads(line)) is None:
                    return
                place = told
        finally:
            if not done:
                _process.cache_clear()
                process.kill()
                process.communicate()
    limits = {
        -signal.SIGPROF: f"takes more than {LONGEST:g} s",
        OUT_OF_MEMORY: f"takes more than {MEMORY >> 20} MB of memory",
        UNLISTED: "fails",
    }
    what = limits.get(process.returncode, f"crashes the process (exit status {process.returncode})")
    raise UnreadableFile(f"{path}: damaged: reading {place} {what} in libhdf5; restore the file or create it again")


@contextmanager
def _tolerated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _end_without_memory(error)


def _end_without_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or "allocation failed" in str(error):
        os._exit(OUT_OF_MEMORY)


def _names(of: Any) -> list[str]:
    """Return the names in ``of``; exit if this fails, because a reader that looks up a name there could hang."""
    try:
        return [*of]
    except Exception as error:
        _end_without_memory(error)
        os._exit(UNLISTED)


def _look_at(item: Any, place: str, file: int, seen: set[int], tell: Callable[[str], None]) -> None:
    """Visit ``item`` and everything in it once; skip objects whose file number is not ``file``."""
    import h5py

    with _tolerated():
        info = h5py.h5o.get_info(item.id)
        if info.fileno != file or info.addr in seen:
            return
        seen.add(info.addr)
        tell(f"the attribute names of {place or '/'}")
        for name in _names(item.attrs) if info.num_attrs else ():
            tell(f"attribute {name!r} of {place or '/'}")
            with _tolerated():
                item.attrs[name]
    if isinstance(item, h5py.Dataset):
        if item.chunks:
            item.id.get_num_chunks()
        for first in range(0, len(item) if item.dtype.hasobject else 0, TEXTS_AT_A_TIME):
            tell(place)
            item[first : first + TEXTS_AT_A_TIME]
        return
    if not isinstance(item, h5py.Group):
        return
    tell(f"the names in {place or '/'}")
    for name in _names(item):
        tell(f"{place}/{name}")
        with _tolerated():
            _look_at(item[name], f"{place}/{name}", file, seen, tell)


def main() -> None:
    """Inspect each file given on a line of the input; print each place before it is read, and null after the last."""
    import resource

    import h5py

    # Python handles no signals while libhdf5 is running.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(ValueError):  # the system does not support this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        path, longest = json.loads(line)

        def tell(place: str | None, longest: float = longest) -> None:
            signal.setitimer(signal.ITIMER_PROF, longest if place else 0)
            print(json.dumps(place), flush=True)

        tell("/")
        with _tolerated(), h5py.File(path, "r") as file:
            _look_at(file, "", h5py.h5o.get_info(file.id).fileno, set(), tell)
        tell(None)


if __name__ == "__main__":
    main()
