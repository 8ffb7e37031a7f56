"""Stage train: what it writes, what it refuses, and that a killed training goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hydrogate.checks.dataset import Dataset
from hydrogate.models.kernels import in_plain_torch
from hydrogate.models.objective import pairs_of
from hydrogate.models.potential import load_student, predict, read_about
from hydrogate.pipeline import training
from hydrogate.pipeline.hdf5 import write_dataset
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.train import progress_key, run, to_json
from hydrogate.pipeline.training_state import TrainingFailed, element_weights

PARAMS = Train.model_validate(
    {
        "student": "painn",
        "size": {name: {"features": 16, "layers": 2, "radial": 8, "cutoff": 4.0} for name in ("painn", "so3lr")},
        "loss": {
            "force": "norm",
            "energy_weight": 0.5,
            "force_weight": 1.0,
            "angular_weight": 0.1,
            "angular_mean": "atoms",
            "dipole_weight": None,
        },
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "warmup": 0.1,
        "weight_decay": 1e-2,
        "ema": 0.99,
        "clip_norm": 10.0,
        "compile": "never",
        "processes": 1,
        "seed": 0,
    }
)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {
        "student": tmp_path / "student.safetensors",
        "history": tmp_path / "history",
        "root": tmp_path / ".progress",
    }


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_student(path).state_dict()


def test_it_learns_and_writes(labelled: Dataset, places: dict[str, Path]) -> None:
    result = run(labelled, PARAMS, 0.5, **places)
    first, last = result.history[0], result.history[-1]
    assert last["valid_loss"] < first["valid_loss"]
    assert last["force_rmse"] < first["force_rmse"]
    about = read_about(places["student"])
    assert about["training"]["labelled_fingerprint"] == labelled.fingerprint()
    assert about["training"]["params"] == json.loads(PARAMS.model_dump_json(by_alias=True))
    rows = np.flatnonzero(labelled.split == "valid")
    answers = predict(load_student(places["student"]), [labelled.to_atoms(row) for row in rows])
    error = np.concatenate([forces for _, forces in answers]) - np.concatenate(
        [labelled.forces[labelled.atoms_of(row)] for row in rows]
    )
    best = result.history[result.best_epoch - 1]
    assert np.sqrt((error**2).mean()) == pytest.approx(best["force_rmse"], rel=1e-5)
    for name in ("force_rmse", "angular_error_mean_deg", "angular_error_max_deg", "valid_loss", "learning_rate"):
        column = (places["history"] / "plots/metrics" / f"{name}.tsv").read_text().splitlines()
        assert len(column) == 1 + PARAMS.epochs
    assert not list((places["root"] / "train").iterdir())


def test_metrics_are_plain_json(labelled: Dataset, places: dict[str, Path]) -> None:
    params = PARAMS.model_copy(update={"epochs": 2})
    result = run(labelled, params, 1e6, **places)
    content = json.loads(json.dumps(to_json(result, {"labelled_fingerprint": "a"}), allow_nan=False))
    assert content["epochs"] == 2
    assert content["steps"] == 2 * -(-int((labelled.split == "train").sum()) // 8)
    assert content["convergence"].keys() == {"value", "unit", "n"}
    assert content["final_force_rmse"]["value"] > 0
    assert content["final_angular_error_mean_deg"]["value"] == "undefined"
    assert content["compiled"] is False
    assert content["cpu_seconds"] > 0


def test_a_killed_training_ends_with_the_same_weights(labelled: Dataset, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(labelled, PARAMS, 0.5, whole / "student.safetensors", whole / "history", whole / ".progress")
    write_dataset(labelled, tmp_path / "labelled.h5")
    (tmp_path / "params.json").write_text(PARAMS.model_dump_json(by_alias=True))
    (tmp_path / "again.py").write_text(
        "from pathlib import Path\n"
        "from hydrogate.pipeline.hdf5 import read_dataset\n"
        "from hydrogate.pipeline.params import Train\n"
        "from hydrogate.pipeline.train import run\n"
        "params = Train.model_validate_json(Path('params.json').read_text())\n"
        "result = run(read_dataset(Path('labelled.h5')), params, 0.5, Path('s.safetensors'), Path('h'))\n"
        "print('epochs', len(result.history))\n"
    )
    command = [sys.executable, "again.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("train: epoch 1 of 3"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (tmp_path / "s.safetensors").exists()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "epoch 1 of 3" not in again.stderr
    assert "epochs 3" in again.stdout
    expected, found = weights(whole / "student.safetensors"), weights(tmp_path / "s.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    column = (tmp_path / "h/plots/metrics/valid_loss.tsv").read_text().splitlines()
    assert len(column) == 4


def test_two_processes_learn_as_one(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches, each shared between two; their averaged gradients are nearly those of the whole batch.

    Inside a job of SLURM too, whose variables say that there is one process.
    """
    whole = run(labelled, PARAMS, 0.5, **places)
    job = {"NTASKS": "1", "JOB_NAME": "dvc", "JOB_ID": "5", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    halves = run(labelled, PARAMS.model_copy(update={"processes": 2}), 0.5, **places)
    assert (whole.used["processes"], halves.used["processes"]) == (1, 2)
    assert halves.used["steps"] == whole.used["steps"]
    for one, two in zip(whole.history, halves.history, strict=True):
        assert two["valid_loss"] == pytest.approx(one["valid_loss"], rel=0.05)


def test_a_failure_in_several_processes_keeps_its_words(labelled: Dataset, places: dict[str, Path]) -> None:
    steep = PARAMS.model_copy(update={"processes": 2, "learning_rate": 1e30, "epochs": 2})
    with pytest.raises(TrainingFailed, match=r"lower train\.learning_rate"):
        run(labelled, steep, 0.5, **places)


def test_two_trainings_of_one_key_are_refused(labelled: Dataset, places: dict[str, Path]) -> None:
    from hydrogate.pipeline.progress import AlreadyRunning, locked

    with (
        locked(f"train-{progress_key(labelled, PARAMS)}", places["root"]),
        pytest.raises(AlreadyRunning, match="already at work"),
    ):
        run(labelled, PARAMS, 0.5, **places)


def test_the_key_is_of_data_and_parameters(labelled: Dataset) -> None:
    other = PARAMS.model_copy(update={"seed": 1})
    moved = replace(labelled, positions=labelled.positions + np.float32(1.0), _cache={})
    assert len({progress_key(labelled, PARAMS), progress_key(labelled, other), progress_key(moved, PARAMS)}) == 3


def test_a_step_that_is_not_finite_is_skipped(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = training.Objective.forward, []

    def sometimes(self: training.Objective, some: object) -> torch.Tensor:
        calls.append(1)
        loss = plain(self, some)
        return loss * torch.nan if len(calls) == 2 else loss

    monkeypatch.setattr(training.Objective, "forward", sometimes)
    result = run(labelled, PARAMS, 0.5, **places)
    assert result.used["skipped_steps"] == 1
    assert result.used["returns_to_best"] == 0
    assert np.isfinite([epoch["valid_loss"] for epoch in result.history]).all()


def test_several_in_a_row_return_to_the_best_weights(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = training.Objective.forward, []

    def for_a_while(self: training.Objective, some: object) -> torch.Tensor:
        calls.append(1)
        loss = plain(self, some)
        return loss * torch.nan if 12 < len(calls) <= 12 + training.BAD_STEPS else loss

    monkeypatch.setattr(training.Objective, "forward", for_a_while)
    result = run(labelled, PARAMS, 0.5, **places)
    assert result.used["returns_to_best"] == 1
    assert result.used["skipped_steps"] == training.BAD_STEPS
    assert result.history[-1]["valid_loss"] < result.history[0]["valid_loss"]


def test_a_training_that_stays_not_finite_fails(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = training.Objective.forward
    monkeypatch.setattr(training.Objective, "forward", lambda self, some: plain(self, some) * torch.nan)
    with pytest.raises(TrainingFailed, match=r"learning_rate \(0\.003\)"):
        run(labelled, PARAMS, 0.5, **places)
    assert not places["student"].exists()


def test_damaged_progress_is_refused(labelled: Dataset, places: dict[str, Path]) -> None:
    state = places["root"] / "train" / progress_key(labelled, PARAMS) / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingFailed, match="delete it to train from the start"):
        run(labelled, PARAMS, 0.5, **places)


SO3LR = PARAMS.model_copy(update={"student": "so3lr", "epochs": 2})


def weighing(params: Train, dipole: float | None) -> Train:
    return params.model_copy(update={"loss": params.loss.model_copy(update={"dipole_weight": dipole})})


def test_charges_are_taught_by_the_dipole(labelled: Dataset, places: dict[str, Path]) -> None:
    result = run(labelled, SO3LR, 0.5, **places)
    assert result.history[-1]["dipole_mae"] < result.history[0]["dipole_mae"]
    assert "best_dipole_mae" in to_json(result, {})
    assert load_student(places["student"]).size.features == 16
    without = run(replace(labelled, dipole=None, charges=None), weighing(SO3LR, 0.0), 0.5, **places)
    assert "dipole_mae" not in without.history[-1]
    assert without.history[-1]["train_loss"] != result.history[-1]["train_loss"]


def test_a_dipole_that_is_not_there_is_refused(labelled: Dataset, places: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"dipole_weight is 0.5, but student 'painn' predicts no dipole"):
        run(labelled, weighing(PARAMS, 0.5), 0.5, **places)
    missing = labelled.dipole.copy()
    missing[np.flatnonzero(labelled.split == "valid")[0], 1] = np.nan
    for dipole, count in ((None, "63 of 63"), (missing, "1 of 21")):
        with pytest.raises(ValueError, match=f"but {count} structures have none"):
            run(replace(labelled, dipole=dipole), SO3LR, 0.5, **places)


def test_the_curvature_is_learned_from_displacement_pairs(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = np.arange(len(labelled))
    # Of each molecule the last two geometries as if they were a pair: whatever their distance, the term is exact.
    last = np.flatnonzero(np.append(labelled.parent[1:] != labelled.parent[:-1], True) & (labelled.parent != own))
    partner = own.copy()
    partner[last], partner[last - 1] = last - 1, last
    data = replace(labelled, partner=partner, _cache={})
    params = PARAMS.model_copy(update={"loss": PARAMS.loss.model_copy(update={"hessian_weight": 0.1})})
    seen: list[int] = []
    monkeypatch.setattr(
        "hydrogate.models.objective.pairs_of",
        lambda some, found=pairs_of: (seen.append(sum(one.pair is not None for one in some)), found(some))[1],
    )
    result = run(data, params, 0.5, **places)
    assert result.history[-1]["force_rmse"] < result.history[0]["force_rmse"]
    in_training = np.isin(np.concatenate([last, last - 1]), np.flatnonzero(data.split == "train")).sum()
    # Both ends of each pair come into one batch, once an epoch.
    assert all(count % 2 == 0 for count in seen)
    assert sum(seen) == PARAMS.epochs * in_training > 0


def test_the_curvature_without_pairs_is_refused(labelled: Dataset, places: dict[str, Path]) -> None:
    params = PARAMS.model_copy(update={"loss": PARAMS.loss.model_copy(update={"hessian_weight": 0.1})})
    alone = replace(labelled, partner=np.arange(len(labelled)), _cache={})
    for data in (labelled, alone):
        with pytest.raises(ValueError, match=r"holds no displacement pairs .* set regenerate\.sampling\.pairs"):
            run(data, params, 0.5, **places)


def test_sizes_are_of_known_students() -> None:
    declared = PARAMS.model_dump(by_alias=True)
    assert Train.model_validate(declared | {"student": "so3lr", "size": {"painn": {"layers": 2}}}).size == {}
    with pytest.raises(ValueError, match="did you mean 'so3lr'"):
        Train.model_validate(declared | {"size": {"so3": {"layers": 2}}})


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_is_refused(labelled: Dataset, places: dict[str, Path], split: str) -> None:
    data = labelled.subset(np.flatnonzero(labelled.split != split))
    with pytest.raises(ValueError, match=f"split '{split}' has no structures"):
        run(data, PARAMS, 0.5, **places)


def test_unlabelled_data_is_refused(structures: Dataset, places: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="has no labels"):
        run(structures, PARAMS, 0.5, **places)


def test_an_element_that_only_the_valid_split_has_is_refused(labelled: Dataset, places: dict[str, Path]) -> None:
    holds = np.array([(labelled.numbers[labelled.atoms_of(row)] == 17).any() for row in range(len(labelled))])
    data = replace(labelled, split=np.where(holds, "valid", labelled.split).astype(object), _cache={})
    with pytest.raises(ValueError, match="element Cl"):
        run(data, PARAMS, 0.5, **places)


def test_a_compiler_that_does_not_work_leaves_plain_autograd(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: _no_compiler)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    params = PARAMS.model_copy(update={"compile": "auto", "epochs": 1})
    with in_plain_torch():
        assert run(labelled, params, 0.5, **places).used["compiled"] is False
    assert "training by plain autograd" in capsys.readouterr().err
    with pytest.raises(TrainingFailed, match="set it to 'auto'"):
        run(labelled, params.model_copy(update={"compile": "always"}), 0.5, **places)


def test_a_painn_that_its_kernels_serve_is_not_compiled(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    params = PARAMS.model_copy(update={"compile": "auto", "epochs": 1})
    assert run(labelled, params, 0.5, **places).used["compiled"] is False
    assert "compiling" not in capsys.readouterr().err


def _no_compiler(*_: object) -> None:
    raise RuntimeError("No working C++ compiler found")


def test_an_unfaithful_compiled_step_is_found_out_and_its_epoch_done_again(
    labelled: Dataset, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compiled graph that is right at first and 1 % off later, as one was."""
    calls = []

    def compile_(function: object, **_: object) -> object:
        def call(*inputs: object) -> object:
            calls.append(1)
            energy, forces = _eager(function, *inputs)
            return energy, forces * (1.01 if len(calls) > 5 else 1.0)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    params = PARAMS.model_copy(update={"compile": "always", "epochs": 2})
    result = run(labelled, params, 0.5, **places)
    assert result.used["compiled"] is False
    assert "epoch 1 is done again by plain autograd" in capsys.readouterr().err
    plain = run(labelled, params.model_copy(update={"compile": "never"}), 0.5, **places)
    assert result.history[-1]["valid_loss"] == pytest.approx(plain.history[-1]["valid_loss"], rel=1e-4)


def _eager(function: object, *inputs: object) -> object:
    return function(*inputs)  # type: ignore[operator]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_elements_weigh_by_their_share(balance: float) -> None:
    numbers = np.array([1] * 6 + [6] * 3 + [8])
    found = element_weights(numbers, balance)
    if not balance:
        assert found == ()
        return
    assert np.mean([found[z] for z in numbers]) == pytest.approx(1.0)
    assert found[8] / found[1] == pytest.approx(6**balance)
    assert found[6] / found[1] == pytest.approx(2**balance)
    assert found[9] == found[8]  # not there at all: as rare as one atom


def test_the_balance_reaches_the_training(labelled: Dataset, places: dict[str, Path]) -> None:
    params = PARAMS.model_copy(update={"epochs": 1})
    plain = run(labelled, params, 0.5, **places).history
    loss = params.loss.model_copy(update={"element_balance": 1.0})
    other = run(labelled, params.model_copy(update={"loss": loss}), 0.5, **places).history
    assert plain[-1]["train_loss"] != other[-1]["train_loss"]
    assert plain[-1]["valid_loss"] != other[-1]["valid_loss"]
