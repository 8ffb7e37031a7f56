"""xTB in worker processes: labels are kept if the parent is killed, alone or together with its workers."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import write_dataset

ROOT = Path(__file__).resolve().parents[3]

XTB = """
from pathlib import Path
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.params import Label, load_params
if __name__ == "__main__":
    params = load_params(Path("params.yaml")).label.model_copy(update={"workers": 2})
    write_dataset(label.run(read_dataset(Path("in.h5")), params, Path("progress")), Path("out.h5"))
"""


def stored_labels(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM labels").fetchone()[0])


def test_xtb_in_processes_of_its_own_killed_alone_and_with_them(
    structures: Dataset, labelled: Dataset, tmp_path: Path
) -> None:
    write_dataset(structures, tmp_path / "in.h5")
    (tmp_path / "run.py").write_text(XTB)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    store, command = tmp_path / "progress/labels.sqlite", [sys.executable, "run.py"]
    kept = 0
    for kill in (os.kill, os.killpg):
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
        deadline = time.monotonic() + 120
        while stored_labels(store) <= kept and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        kill(process.pid, signal.SIGKILL)
        process.wait()
        while alive(process.pid) and time.monotonic() < deadline:  # no worker outlives its parent
            time.sleep(0.05)
        assert not alive(process.pid)
        assert kept < stored_labels(store) < len(structures), "killed too late to say anything"
        kept = stored_labels(store)
    assert not (tmp_path / "out.h5").exists()
    params = load_params(ROOT / "params.yaml").label.model_copy(update={"workers": 1})
    write_dataset(label.run(structures, params, store.parent), tmp_path / "out.h5")
    # The stage labels structures, not isolated atoms.
    write_dataset(replace(labelled, isolated_atom_energies=None), tmp_path / "whole.h5")
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
