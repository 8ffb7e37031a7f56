"""Stage ``validate``: predict held-out molecules with the student and measure the error against the teacher.

In:  ``data/labelled.h5`` (eV, eV/Å), ``data/student.safetensors``, and section ``validate`` of ``params.yaml``.
Out: ``data/predictions.h5`` (the held-out split with the student's energies, eV, and forces, eV/Å),
     ``metrics/validation.json`` (value, unit, n and 95 % interval of each metric, fingerprints of the inputs; if
     ``validate.baseline`` names predictions, also the ratio of each error to that of the baseline),
     ``plots/validation/*.png``.

The student is evaluated by plain autograd, never through the compiled training graph. F = −∇E is checked by finite
differences in float64.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Potential, force_gradient_error
from hydrogate.checks.metrics.bootstrap import Metric, point
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.checks.metrics.regression import ratios_to_baseline
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Validate, load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages.plots import write_plots
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.training.predict import predict_dataset, student_identity

GRADIENT_STRUCTURES = 8


class Validation(NamedTuple):
    """Result of the stage: predictions, their comparison with the labels, metrics, and error ratios to a baseline."""

    predictions: Dataset
    comparison: Comparison
    metrics: dict[str, Metric]
    regression: dict[str, Any]


def run(
    data: Dataset,
    potential: Potential,
    exact_potential: Potential,
    identity: Mapping[str, Any],
    params: Validate,
    baseline: Dataset | None = None,
) -> Validation:
    """Predict the held-out split of ``data`` and measure the predictions.

    Parameters
    ----------
    data : Dataset
        Labelled; eV, eV/Å.
    potential, exact_potential : Potential
        The student in its own precision, for the predictions, and in float64, for the gradient check.
    identity : mapping
        Stored with the predictions as their teacher.
    params : Validate
    baseline : Dataset, optional
        Predictions in the file ``params.baseline``, if it exists.

    Raises
    ------
    ValueError
        The split is empty or unlabelled, or a result of the potential has the wrong shape for its structure.
    """
    held_out = data.subset(np.flatnonzero(data.split == params.split))
    if not len(held_out):
        known = ", ".join(sorted({name or "unnamed" for name in data.split.tolist()})) or "none"
        raise ValueError(
            f"no structure of split {params.split!r} to validate on (splits of the {len(data)} structures: {known}); "
            "raise its share in regenerate.split or choose another split in validate.split"
        )
    predictions = predict_dataset(held_out, potential, identity, params.batch_size, "validate")
    comparison = Comparison.of(held_out, predictions, angular_floor=params.angular_floor)
    metrics = measure(comparison, resamples=params.resamples, seed=params.seed)
    sample = _sample(held_out, params.seed)
    error = force_gradient_error(exact_potential, sample, seed=params.seed)
    metrics["force_gradient_error"] = point(error, "", len(sample))
    return Validation(predictions, comparison, metrics, _regression(held_out, comparison, baseline, params))


def _regression(
    held_out: Dataset, comparison: Comparison, baseline: Dataset | None, params: Validate
) -> dict[str, Any]:
    """Return the error ratios as JSON content, or why there are none; empty if no baseline is declared."""
    if params.baseline is None:
        return {}
    if baseline is None:
        return {"not_run": f"{params.baseline}, named by validate.baseline, does not exist"}
    of_what = {"baseline_fingerprint": baseline.fingerprint()}
    try:
        before = Comparison.of(held_out, baseline, angular_floor=params.angular_floor)
    except ValueError as error:
        return of_what | {"not_run": f"{params.baseline} has other structures than split {params.split}: {error}"}
    ratios = ratios_to_baseline(comparison, before, resamples=params.resamples, seed=params.seed)
    return of_what | {name: ratio.to_dict() for name, ratio in ratios.items()}


def _sample(held_out: Dataset, seed: int) -> list[Atoms]:
    count = min(GRADIENT_STRUCTURES, len(held_out))
    chosen = np.random.default_rng(seed).choice(len(held_out), count, replace=False)
    return [held_out.to_atoms(int(row)) for row in np.sort(chosen)]


def to_json(validation: Validation, split: str, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of ``metrics/validation.json``: plain finite numbers and strings."""
    c = validation.comparison
    head = {"split": split, "structures": len(c.offset) - 1, "atoms": len(c.numbers), **fingerprints}
    content = head | {name: metric.to_dict() for name, metric in validation.metrics.items()}
    return content | ({"regression": validation.regression} if validation.regression else {})


def read_baseline(path: str | None) -> Dataset | None:
    """Read the predictions that ``validate.baseline`` names; None if it names no file or the file does not exist.

    Raises
    ------
    UnreadableFile
        The file is not a data set of predictions.
    """
    return read_dataset(Path(path)) if path and Path(path).exists() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Validate ``data/student.safetensors``. Exit status: 0 measured, good or bad; 2 invalid input."""
    import torch

    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student

    params = load_params().validate_
    path = Path("data/student.safetensors")
    potential, identity = partial(predict, load_student(path), batch_size=params.batch_size), student_identity(path)
    data = read_dataset(Path("data/labelled.h5"))
    baseline = read_baseline(params.baseline)
    result = run(data, potential, partial(potential, dtype=torch.float64), identity, params, baseline)
    write_dataset(result.predictions, Path("data/predictions.h5"))
    write_plots(result.comparison, result.metrics, Path("plots/validation"))
    fingerprints = {
        "labelled_fingerprint": data.fingerprint(),
        "student_fingerprint": identity["fingerprint"],
        "predictions_fingerprint": result.predictions.fingerprint(),
    }
    write_json(Path("metrics/validation.json"), to_json(result, params.split, fingerprints))
    print(f"data/predictions.h5: {result.predictions!r}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
