"""HDF5 files of others, looked through first by a process that may die of it.

libhdf5 believes what a file says of itself: three wrong bytes, and it never comes back or ends the process. This file,
run, is that process: one for all files, for as long as the one that asks it lives.
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

# Processor time at one place of a file, s; most take less than a millisecond.
LONGEST = 5.0
MEMORY = 2**30  # bytes, with Python and NumPy; what is read at a time is small
TEXTS_AT_A_TIME = 1000
OUT_OF_MEMORY, UNLISTED = 3, 4  # exit statuses
_asking = Lock()


def start() -> "subprocess.Popen[str]":
    """A process that looks through files."""
    return subprocess.Popen(
        [sys.executable, "-P", __file__],  # -P: no module beside this file is taken for another of its name
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # each thread takes memory
    )


@lru_cache(maxsize=1)
def _process(asks: int) -> "subprocess.Popen[str]":
    process = start()
    atexit.register(process.communicate)  # its input ends, and so it does
    return process


def refuse_deadly(path: Path) -> None:
    """Refuse an HDF5 file that libhdf5 cannot look through: its groups, attributes, texts, and where its arrays lie.

    What it can say no to is left to the reader.

    Raises
    ------
    UnreadableFile
        It took more than ``LONGEST`` or ``MEMORY`` at one place, or ended its process.
    """
    state = path.stat()
    if os.name == "posix":  # elsewhere no process can be limited
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
        -signal.SIGPROF: f"takes over {LONGEST:g} s",
        OUT_OF_MEMORY: f"takes over {MEMORY >> 20} MB of memory",
        UNLISTED: "fails",
    }
    what = limits.get(process.returncode, f"ends the process ({process.returncode})")
    raise UnreadableFile(f"{path}: damaged: looking at {place} {what} in libhdf5; restore the file or make it again")


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
    """The names in ``of``; where one cannot be told, a reader that asks for it might never come back."""
    try:
        return [*of]
    except Exception as error:
        _end_without_memory(error)
        os._exit(UNLISTED)


def _look_at(item: Any, place: str, file: int, seen: set[int], tell: Callable[[str], None]) -> None:
    """Look at ``item`` and all that it holds, each once; at nothing that lies in another file than that number."""
    import h5py

    with _tolerated():
        info = h5py.h5o.get_info(item.id)
        if info.fileno != file or info.addr in seen:
            return
        seen.add(info.addr)
        tell(f"the names of attributes of {place or '/'}")
        for name in _names(item.attrs) if info.num_attrs else ():
            tell(f"{place or '/'}, attribute {name!r},")
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
    """Look through each file that a line of the input names; say at what, and null at its end."""
    import resource

    import h5py

    # While libhdf5 is busy, Python handles no signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(ValueError):  # where the system knows no such limit
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
