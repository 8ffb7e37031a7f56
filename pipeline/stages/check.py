"""Stages ``check_<contract>``: check data against a contract and write the findings.

Exit status 0 whatever was found; the stage ``guard_<contract>`` fails if the contract fails.

In:  ``data/structures.h5``, ``data/labelled.h5`` or ``data/predictions.h5`` (with ``data/labelled.h5`` and
     ``data/student.safetensors``); in ``params.yaml`` the sections ``contracts`` and, for what the student supports,
     ``train``.
Out: ``metrics/<contract>.json``; a page for the browser, ``reports/data-docs/<contract>/index.html``.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks import Report, check
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.engine.bounds import Override
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.pipeline.outputs import DATA_DOCS, write_data_docs, write_json
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages.guard import METRICS
from hydrogate.pipeline.storage.hdf5 import read_dataset

if TYPE_CHECKING:
    from hydrogate.models.teachers import Teacher

STUDENT = Path("data/student.safetensors")


def write_report(report: Report, root: Path = METRICS) -> Path:
    """Write ``metrics/<contract>.json`` with the verdict of strict mode, and return its path."""
    path = root / f"{report.contract}.json"
    write_json(path, report.to_dict(strict=True))
    return path


def judge_input(counts: InputCounts, data: Dataset, params: Params, input_digest: str) -> Report:
    """Check contract ``input`` on the record counts of the input files; ``input_digest`` is the hash of those files."""
    report = check(data, "input", overrides=overrides_of(params), counts=counts)
    return replace(report, summary={**report.summary, "input_digest": input_digest})


def overrides_of(params: Params) -> list[Override]:
    """Return the bounds that ``params.yaml`` declares."""
    return [("params.yaml", params.contracts)]


def held_out(data: Dataset, split: str) -> Dataset:
    """Return the structures of ``split`` in order; the predictions must be for the same structures in this order."""
    return data.subset((data.split == split).nonzero()[0])


def _potential(path: Path) -> Potential:
    """Return the student as a potential in float64, evaluated by plain autograd."""
    import torch

    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student

    return partial(predict, load_student(path), dtype=torch.float64)


def relabel(teacher: "Teacher", structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
    """Return the teacher's energies (eV) and forces (eV/Å); NaN where it fails, and NaN fails every check."""
    from hydrogate.models.teachers import Failure

    return [
        (float("nan"), np.full((len(atoms), 3), np.nan)) if isinstance(answer, Failure) else answer[:2]
        for atoms, answer in zip(structures, teacher.label(structures), strict=True)
    ]


def student_support(params: Params, data: Dataset) -> dict[str, Any]:
    """Return what the declared student will support once it is trained on the train split of ``data``."""
    from hydrogate.models.potential import Support
    from hydrogate.models.students import make_student

    taught = data.subset((data.split == "train").nonzero()[0])
    support = Support(
        tuple(np.unique(taught.numbers).tolist()),
        tuple(np.unique(taught.charge).tolist()),
        tuple(np.unique(taught.spin_multiplicity).tolist()),
    )
    student = make_student(params.train.student, params.train.size, support)
    return {**asdict(support), "cutoff": student.cutoff, "reads_charge": student.reads_charge}


def run(contract: str, params: Params, data_root: Path = Path("data")) -> Report:
    """Check the pipeline's data against ``contract``.

    Raises
    ------
    BadParams, FileNotFoundError, UnreadableFile
        The contract is unknown, or its data are missing or unreadable.
    """
    inputs: dict[str, Any] = {}
    match contract:
        case "structures":
            data = read_dataset(data_root / "structures.h5")
            inputs = {"student": student_support(params, data)}
        case "labels":
            from hydrogate.models.teachers import make_teacher

            data = read_dataset(data_root / "labelled.h5")
            label = params.label
            teacher = make_teacher(label.teacher, label.method, label.weights, label.settings)
            inputs = {"teacher": teacher.identity(), "relabel": partial(relabel, teacher)}
        case "predictions":
            data = read_dataset(data_root / "predictions.h5")
            reference = held_out(read_dataset(data_root / "labelled.h5"), params.validate_.split)
            inputs = {"held_out": reference, "potential": _potential(data_root / STUDENT.name)}
        case _:
            stages = ("structures", "labels", "predictions")
            raise BadParams(f"unknown check stage {contract!r}{did_you_mean(contract, stages)}")
    return check(data, contract, overrides=overrides_of(params), great_expectations=True, **inputs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m hydrogate.pipeline.stages.check CONTRACT``; exit status 0 once it has checked, pass or fail."""
    (contract,) = sys.argv[1:] if argv is None else argv
    params = load_params()
    report = run(contract, params)
    path = write_report(report)
    write_data_docs(DATA_DOCS, report, overrides_of(params))
    for finding in report.findings:
        if finding.verdict != "pass":
            print(finding)
    print(f"{path}: contract {contract} {'passed' if report.holds(strict=True) else 'FAILED'}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
