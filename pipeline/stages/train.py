"""Stage ``train``: train a student on the teacher's energies and forces.

In:  ``data/labelled.h5`` (eV, eV/Å) with its token ``data/labels.ok``, and section ``train`` of ``params.yaml``.
Out: ``data/student.safetensors`` (the weights with the lowest loss on split ``valid``, and the parameters of the run),
     ``metrics/training.json``, ``plots/training`` (history by epoch: eV, eV/Å, degree).

The training state is saved in ``.progress/train/<key>``, so a killed training resumes; the key is a hash of data,
parameters and code. Under ``torchrun`` every process runs this stage, and only rank 0 writes files.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.metrics.bootstrap import Metric, point
from hydrogate.checks.metrics.definitions import convergence
from hydrogate.pipeline.code_graph import PACKAGE, code_of_stage
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Train, load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages.guard import require_token
from hydrogate.pipeline.storage.hdf5 import read_dataset, written_whole
from hydrogate.pipeline.storage.resume import PROGRESS, locked
from hydrogate.pipeline.training.fit import Fit, fit, writes


def run(data: Dataset, params: Train, angular_floor: float, student: Path, history: Path, root: Path = PROGRESS) -> Fit:
    """Train on split ``train`` of ``data``, select the best epoch on split ``valid``, write student and history.

    Parameters
    ----------
    data : Dataset
        Labelled; eV, eV/Å.
    params : Train
    angular_floor : float, eV/Å
        Angles in the history include only atoms with a teacher force of at least this.
    student, history : pathlib.Path
        Output file and output folder.
    root : pathlib.Path
        Folder of the training state until the student is written.

    Raises
    ------
    AlreadyRunning
        Another process here trains with the same data, parameters and code.
    TrainingFailed
        The loss remained non-finite; nothing is written.
    ValueError
        A split is empty or unlabelled, or ``valid`` has an element, charge or spin multiplicity that ``train`` lacks.
    """
    from hydrogate.models.student_file import save_student

    key = progress_key(data, params)
    with locked(f"train-{key}", root) if writes() else nullcontext():
        progress = root / "train" / key
        progress.mkdir(parents=True, exist_ok=True)
        # Each training has its own compiler cache: two trainings that shared one interfered with each other.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str((progress / "inductor").resolve())
        if writes():
            shutil.rmtree(history, ignore_errors=True)
        result = fit(data, params, angular_floor, progress / "state.pt", history)
        if not writes():
            return result
        made_by = {
            "params": params.model_dump(by_alias=True),
            "labelled_fingerprint": data.fingerprint(),
            "epoch": result.best_epoch,
        }
        with written_whole(student) as temporary:
            save_student(result.student, temporary, made_by)
        shutil.rmtree(progress)
    return result


def progress_key(data: Dataset, params: Train) -> str:
    """Hash of data, parameters and code; training resumes only if it is unchanged."""
    digest = hashlib.sha256(data.fingerprint().encode() + params.model_dump_json().encode())
    for name in code_of_stage("train"):
        digest.update((PACKAGE / name).read_bytes())
    return digest.hexdigest()[:16]


def to_json(result: Fit, fingerprints: dict[str, str]) -> dict[str, Any]:
    """Return the content of ``metrics/training.json``: plain finite numbers and strings."""
    n = result.validation_molecules
    first, best, last = (result.history[k] for k in (0, result.best_epoch - 1, -1))
    metrics: dict[str, Metric] = {"convergence": convergence([epoch["valid_loss"] for epoch in result.history])}
    for name, epoch in (("first", first), ("best", best), ("final", last)):
        metrics |= {f"{name}_{key}": point(value, UNITS[key], n) for key, value in epoch.items() if key in UNITS}
    used = {key: result.used[key] for key in sorted(result.used)}
    return {"epochs": len(result.history), "best_epoch": result.best_epoch, **used, **fingerprints} | {
        name: metric.to_dict() for name, metric in metrics.items()
    }


UNITS = {
    "train_loss": "",
    "valid_loss": "",
    "force_rmse": "eV/Å",
    "energy_mae_per_atom": "eV/atom",
    "dipole_mae": "e·Å",
    "angular_error_mean_deg": "degree",
    "angular_error_max_deg": "degree",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train on ``data/labelled.h5``. Exit status: 0 done, 1 the contract has not passed, 2 invalid input."""
    from hydrogate.models.student_file import file_fingerprint

    # Threads that busy-wait take CPU time from each other on a machine with other load.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    data = read_dataset(Path("data/labelled.h5"))
    require_token("labels", data.fingerprint())
    params = load_params()
    student = Path("data/student.safetensors")
    result = run(data, params.train, params.validate_.angular_floor, student, Path("plots/training"))
    if not writes():
        return 0
    fingerprints = {"labelled_fingerprint": data.fingerprint(), "student_fingerprint": file_fingerprint(student)}
    write_json(Path("metrics/training.json"), to_json(result, fingerprints))
    print(f"{student}: {result.used['parameters']} parameters, best after epoch {result.best_epoch}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
