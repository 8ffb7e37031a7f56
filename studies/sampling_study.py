"""``nox -s sampling``: compare samplings of geometries at equal numbers of labels and training steps.

In:  the first molecules of ``regenerate.input``, and ``params.yaml``.
Out: ``reports/studies/sampling.json``: the student's errors for each setting, split and seed; prints a table.

Each setting makes the same number of geometries of the same molecules, and each student is trained for the same number
of epochs. All students of a split are evaluated on the same geometries of its held-out molecules: rattled as training
data are by default, and distorted ones. These are labelled separately and are not in any training set. Labels and
results are stored immediately, in ``.studies/sampling/`` and in the report: an interrupted study resumes.

``-- --geometries`` prints displacements, forces and cost of each sampling, and ``-- --teacher`` the numerical noise of
GFN2-xTB (:mod:`studies.teacher_study`); neither writes a file.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import minimize_rotation_and_translation

from hydrogate.checks import check
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.findings import Severity, Verdict
from hydrogate.checks.geometry.distances import geometry
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.pipeline.molecules.records import raw_records, resolve_input
from hydrogate.pipeline.outputs import write_text
from hydrogate.pipeline.params import Params, load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages import label, regenerate
from hydrogate.pipeline.stages.check import overrides_of
from hydrogate.pipeline.training import fit
from studies import teacher_study

REPORT = Path("reports/studies/sampling.json")
WORK = Path(".studies/sampling")
SPLITS = ("molecule", "scaffold")
# Changes to regenerate.sampling; other keys are as in params.yaml.
SETTINGS: dict[str, dict[str, Any]] = {
    "rattle-0.05": {"method": "rattle", "sigma": 0.05},
    "rattle-0.1": {"method": "rattle", "sigma": 0.1},
    "rattle-relax-0.15": {"method": "rattle_relax", "sigma": 0.15},
    "md-300": {"method": "md", "temperature": 300.0},
    "pairs": {"method": "rattle", "sigma": 0.05, "pairs": 1},
    "pairs-hessian-0.05": {"method": "rattle", "sigma": 0.05, "pairs": 1},
}
HESSIAN_WEIGHT = {"pairs-hessian-0.05": 0.05}
# Test geometries for every student: two of each held-out molecule.
TESTS: dict[str, dict[str, Any]] = {
    "rattled by 0.05 Å": {"method": "rattle", "sigma": 0.05},
    "rattled by 0.1 Å": {"method": "rattle", "sigma": 0.1},
    "rattled by 0.15 Å": {"method": "rattle", "sigma": 0.15},
    "MD at 600 K": {"method": "md", "temperature": 600.0},
}
# Samplings that --geometries compares.
MADE: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    **{name: SETTINGS[name] for name in ("rattle-0.05", "rattle-0.1", "rattle-relax-0.15", "md-300")},
    "md-600": {"method": "md", "temperature": 600.0},
}
OTHER_SEED = 1000  # added to the seed for test geometries: none of them is a training geometry of another setting


class Study:
    """Molecules, parameters and working files of one study."""

    def __init__(self, params: Params, molecules: int, epochs: int) -> None:
        self.params, self.molecules, self.epochs = params, molecules, epochs
        self.labels = params.label.model_copy(update={"workers": 1, "dipoles": False})
        self.input = WORK / f"{molecules}.sdf"
        texts = (text for path in resolve_input(params.regenerate.input).paths for text in raw_records(path))
        self.input.parent.mkdir(parents=True, exist_ok=True)
        self.input.write_text("".join(f"{text}$$$$\n" for text in islice(texts, molecules)), encoding="utf-8")

    def geometries(self, sampling: Mapping[str, Any], by: str, seed: int = 0) -> Dataset:
        """Return the original and the sampled geometries, split by molecule or scaffold."""
        declared = self.params.regenerate
        changed = declared.model_copy(
            update={
                "sampling": declared.sampling.model_copy(update=dict(sampling)),
                "split": declared.split.model_copy(update={"by": by}),
                "seed": declared.seed + seed,
            }
        )
        return regenerate.run([self.input], changed, processes=1)[0]

    def labelled(self, data: Dataset) -> Dataset:
        """Label ``data`` with the teacher; stored labels are reused."""
        return label.run(data, self.labels, WORK)

    def tests(self, by: str) -> dict[str, Dataset]:
        """Return the labelled test geometries of the held-out molecules, by distortion."""
        split = self.geometries({"method": "none"}, by)
        held_out = split.source_index[split.split == "test"]
        found = {}
        for name, sampling in TESTS.items():
            data = self.geometries({**sampling, "per_structure": 2}, by, OTHER_SEED)
            further = (data.parent != np.arange(len(data))) & np.isin(data.source_index, held_out)
            found[name] = self.labelled(data.subset(np.flatnonzero(further)))
        return found

    def errors(self, setting: str, by: str, seed: int, tests: Mapping[str, Dataset]) -> dict[str, float]:
        """Train a student with ``setting``; return its force RMSE (eV/Å) on each of ``tests`` and its cost."""
        from hydrogate.models.potential import predict

        data = self.labelled(self.geometries(SETTINGS[setting], by))
        train = self.params.train
        weight = HESSIAN_WEIGHT.get(setting, train.loss.hessian_weight)
        params = train.model_copy(
            update={
                "epochs": self.epochs,
                "seed": seed,
                "processes": 1,
                "compile": "never",
                "loss": train.loss.model_copy(update={"hessian_weight": weight}),
            }
        )
        place = WORK / f"{setting}-{by}-{seed}-{self.molecules}-{self.epochs}"
        result = fit.fit(data, params, self.params.validate_.angular_floor, place / "state.pt", place / "history")
        found = {"labels": float(len(data)), "CPU seconds": result.used["cpu_seconds"]}
        for name, test in tests.items():
            answers = predict(result.student, [test.to_atoms(row) for row in range(len(test))])
            predicted = replace(
                test,
                energy=np.array([energy for energy, _ in answers]),
                forces=np.concatenate([forces for _, forces in answers]).astype(np.float32),
            )
            value = measure(Comparison.of(test, predicted), resamples=2)["force_rmse"].value
            found[name] = float("nan") if value is None else value
        shutil.rmtree(place)
        return found


def run(study: Study, splits: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Run the combinations missing in the report, seed by seed, and write each result to it immediately."""
    head = {"molecules": study.molecules, "epochs": study.epochs, "teacher": label.teacher_of(study.labels).identity()}
    report: dict[str, Any] = json.loads(REPORT.read_text("utf-8")) if REPORT.exists() else {}
    if any(report.get(key) != value for key, value in head.items()):
        report = {**head, "runs": []}
    done = {(one["setting"], one["split"], one["seed"]) for one in report["runs"]}
    for seed in seeds:
        for by in splits:
            todo = [setting for setting in SETTINGS if (setting, by, seed) not in done]
            tests = study.tests(by) if todo else {}
            for setting in todo:
                errors = study.errors(setting, by, seed, tests)
                report["runs"].append({"setting": setting, "split": by, "seed": seed, **errors})
                write_text(REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield Markdown lines: force RMSE (eV/Å), the mean over seeds, with the range if there are several."""
    columns = [(by, test) for by in SPLITS for test in TESTS]
    yield f"| setting | {' | '.join(f'{by}: {test}' for by, test in columns)} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for setting in SETTINGS:
        cells = []
        for by, test in columns:
            values = [one[test] for one in report["runs"] if (one["setting"], one["split"]) == (setting, by)]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "not run")
        yield f"| {setting} | {' | '.join(cells)} |"


def geometries(study: Study) -> Iterator[str]:
    """Yield Markdown lines: properties and cost of the geometries of each sampling, the original ones included."""
    yield "| method | RMS displacement, Å | RMS force, eV/Å | s. d. of C-H, Å | CPU, ms per molecule | failed checks |"
    yield "| --- | --- | --- | --- | --- | --- |"
    study.geometries(MADE["none"], "molecule")  # one-time imports and loading are not timed
    without = 0.0
    for name, sampling in MADE.items():
        start = time.process_time()
        data = study.geometries(sampling, "molecule")
        seconds = time.process_time() - start
        without = without or seconds
        squares = [_displacement_squares(data, row) for row in range(len(data)) if data.parent[row] != row]
        moved = np.sqrt(np.concatenate(squares).mean()) if squares else 0.0
        labelled = study.labelled(data)
        forces = labelled.forces
        assert forces is not None
        refused = [
            finding.check
            for contract in ("structures", "labels")
            for finding in check(labelled, contract, overrides=overrides_of(study.params)).findings
            if finding.severity is Severity.ERROR and finding.verdict is Verdict.FAIL
        ]
        shape = geometry(data)
        stretched = shape.length[data.numbers[shape.partner] == 6].std()
        cost = 1e3 * (seconds - without) / study.molecules
        figures = (f"{moved:.2f}", f"{np.sqrt((forces**2).mean()):.2f}", f"{stretched:.3f}", f"{cost:.0f}")
        yield f"| {name} | {' | '.join(figures)} | {', '.join(refused)} |"


def _displacement_squares(data: Dataset, row: int) -> Any:
    """Return squared displacements (n,), Å², from the original geometry, after superposition."""
    own, further = data.to_atoms(int(data.parent[row])), data.to_atoms(row)
    minimize_rotation_and_translation(own, further)  # type: ignore[no-untyped-call]
    return ((further.positions - own.positions) ** 2).sum(axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study. Exit status: 0 finished, 2 invalid input or parameters."""
    parser = argparse.ArgumentParser(prog="nox -s sampling --", description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--geometries", action="store_true", help="compare forces and cost of the samplings")
    what.add_argument("--teacher", action="store_true", help="measure the noise of GFN2-xTB and warm starts")
    parser.add_argument("--molecules", type=int, help="default: 400; 100 with --geometries, 25 with --teacher")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--splits", nargs="+", default=SPLITS, choices=SPLITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args(argv)
    few = 100 if options.geometries else 25 if options.teacher else 400
    study = Study(load_params(), options.molecules or few, options.epochs)
    if options.geometries:
        lines = geometries(study)
    elif options.teacher:
        data = study.geometries(SETTINGS["rattle-0.05"], "molecule")
        roots = np.unique(data.parent)
        lines = teacher_study.tables(
            [[data.to_atoms(row) for row in np.flatnonzero(data.parent == root).tolist()] for root in roots]
        )
    else:
        lines = table(run(study, options.splits, options.seeds))
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
