"""Atomic file writes: all or nothing; the next write removes the temporary file of a killed writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hydrogate.pipeline.storage import atomic_write as whole
from hydrogate.pipeline.storage.atomic_write import written_whole

WRITER = """
import os, signal, sys
from pathlib import Path
from hydrogate.pipeline.storage.atomic_write import written_whole
with written_whole(Path(sys.argv[1])) as temporary:
    temporary.write_text("another's")
    os.kill(os.getpid(), int(sys.argv[2]))
"""


def writer(path: Path, stopped_by: signal.Signals) -> "subprocess.Popen[bytes]":
    """Start a process that receives a signal while it writes ``path``."""
    return subprocess.Popen([sys.executable, "-c", WRITER, path, f"{stopped_by:d}"])


def write(path: Path) -> list[str]:
    """Write ``path`` and return the names of the other files in its folder."""
    with written_whole(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    return sorted(other.name for other in path.parent.iterdir() if other != path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "x[1].txt"
    writer(path, signal.SIGKILL).wait()
    assert [left.read_text() for left in tmp_path.iterdir()] == ["another's"]
    assert write(tmp_path / "x1.txt") == [left.name for left in tmp_path.glob(".*")] != []  # of another path
    assert write(path) == ["x1.txt"]


def test_what_a_living_writer_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    other = writer(path, signal.SIGSTOP)
    os.waitpid(other.pid, os.WUNTRACED)
    assert write(path) == [f".x.txt.{whole.processes()}-{other.pid}.tmp"]
    other.send_signal(signal.SIGCONT)
    assert other.wait() == 0
    assert path.read_text() == "another's"


def test_what_may_be_a_living_writer_s_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    # Names from another machine, a container, an earlier version, and without a process ID.
    others = sorted(f".x.txt.{of}.tmp" for of in (f"0123456789ab-{dead.pid}", dead.pid, f"{whole.processes()}-x", ""))
    for name in others:
        (tmp_path / name).touch()
    assert write(path) == others
    # Systems where processes of different machines cannot be distinguished.
    monkeypatch.setattr(whole, "NAMESPACE", tmp_path / "nowhere")
    assert whole.processes() == ""
    (tmp_path / f".x.txt.-{dead.pid}.tmp").touch()
    assert write(path) == sorted([*others, f".x.txt.-{dead.pid}.tmp"])


def test_what_cannot_be_removed_hinders_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".x.txt.{whole.processes()}-{dead.pid}.tmp").mkdir()
    assert len(write(path)) == 1
