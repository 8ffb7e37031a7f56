"""Stage train: output files, rejected inputs, and a killed training that resumes to the same weights."""

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

from hydrogate.models.potential import predict
from hydrogate.models.student_file import load_student, read_about
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.stages.train import progress_key, run, to_json
from hydrogate.pipeline.storage.hdf5 import write_dataset
from hydrogate.pipeline.training.state import TrainingFailed


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_student(path).state_dict()


def test_it_learns_and_writes(labelled, places, params):
    result = run(labelled, params, 0.5, **places)
    first, last = result.history[0], result.history[-1]
    assert last["valid_loss"] < first["valid_loss"]
    assert last["force_rmse"] < first["force_rmse"]
    about = read_about(places["student"])
    assert about["training"]["labelled_fingerprint"] == labelled.fingerprint()
    assert about["training"]["params"] == json.loads(params.model_dump_json(by_alias=True))
    rows = np.flatnonzero(labelled.split == "valid")
    answers = predict(load_student(places["student"]), [labelled.to_atoms(row) for row in rows])
    error = np.concatenate([forces for _, forces in answers]) - np.concatenate(
        [labelled.forces[labelled.atoms_of(row)] for row in rows]
    )
    best = result.history[result.best_epoch - 1]
    assert np.sqrt((error**2).mean()) == pytest.approx(best["force_rmse"], rel=1e-5)
    for name in ("force_rmse", "angular_error_mean_deg", "angular_error_max_deg", "valid_loss", "learning_rate"):
        column = (places["history"] / "plots/metrics" / f"{name}.tsv").read_text().splitlines()
        assert len(column) == 1 + params.epochs
    assert not list((places["root"] / "train").iterdir())


def test_metrics_are_plain_json(labelled, places, params):
    params = params.model_copy(update={"epochs": 2})
    result = run(labelled, params, 1e6, **places)
    content = json.loads(json.dumps(to_json(result, {"labelled_fingerprint": "a"}), allow_nan=False))
    assert content["epochs"] == 2
    assert content["steps"] == 2 * -(-int((labelled.split == "train").sum()) // 8)
    assert content["convergence"].keys() == {"value", "unit", "n"}
    assert content["final_force_rmse"]["value"] > 0
    assert content["final_angular_error_mean_deg"]["value"] == "undefined"
    assert content["compiled"] is False
    assert content["cpu_seconds"] > 0


def test_a_killed_training_ends_with_the_same_weights(labelled, tmp_path, params):
    whole = tmp_path / "whole"
    run(labelled, params, 0.5, whole / "student.safetensors", whole / "history", whole / ".progress")
    write_dataset(labelled, tmp_path / "labelled.h5")
    (tmp_path / "params.json").write_text(params.model_dump_json(by_alias=True))
    (tmp_path / "again.py").write_text(
        "from pathlib import Path\n"
        "from hydrogate.pipeline.storage.hdf5 import read_dataset\n"
        "from hydrogate.pipeline.params import Train\n"
        "from hydrogate.pipeline.stages.train import run\n"
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


def test_two_processes_learn_as_one(labelled, places, monkeypatch, params):
    """Each batch is shared between two processes; their averaged gradients are nearly those of the full batch.

    It also runs inside a SLURM job whose environment variables declare one process.
    """
    whole = run(labelled, params, 0.5, **places)
    job = {"NTASKS": "1", "JOB_NAME": "dvc", "JOB_ID": "5", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    halves = run(labelled, params.model_copy(update={"processes": 2}), 0.5, **places)
    assert (whole.used["processes"], halves.used["processes"]) == (1, 2)
    assert halves.used["steps"] == whole.used["steps"]
    for one, two in zip(whole.history, halves.history, strict=True):
        assert two["valid_loss"] == pytest.approx(one["valid_loss"], rel=0.05)


def test_a_failure_in_several_processes_keeps_its_words(labelled, places, params):
    steep = params.model_copy(update={"processes": 2, "learning_rate": 1e30, "epochs": 2})
    with pytest.raises(TrainingFailed, match=r"lower train\.learning_rate"):
        run(labelled, steep, 0.5, **places)


def test_two_trainings_of_one_key_are_refused(labelled, places, params):
    from hydrogate.pipeline.storage.resume import AlreadyRunning, locked

    with (
        locked(f"train-{progress_key(labelled, params)}", places["root"]),
        pytest.raises(AlreadyRunning, match="already running"),
    ):
        run(labelled, params, 0.5, **places)


def test_the_key_is_of_data_and_parameters(labelled, params):
    other = params.model_copy(update={"seed": 1})
    moved = replace(labelled, positions=labelled.positions + np.float32(1.0))
    assert len({progress_key(labelled, params), progress_key(labelled, other), progress_key(moved, params)}) == 3


def test_damaged_progress_is_refused(labelled, places, params):
    state = places["root"] / "train" / progress_key(labelled, params) / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingFailed, match="delete it to train from the start"):
        run(labelled, params, 0.5, **places)


def test_sizes_are_of_known_students(params):
    declared = params.model_dump(by_alias=True)
    assert Train.model_validate(declared | {"student": "so3lr", "size": {"painn": {"layers": 2}}}).size == {}
    with pytest.raises(ValueError, match="did you mean 'so3lr'"):
        Train.model_validate(declared | {"size": {"so3": {"layers": 2}}})


@pytest.mark.parametrize("split", ["train", "valid"])
def test_an_empty_split_is_refused(labelled, places, split, params):
    data = labelled.subset(np.flatnonzero(labelled.split != split))
    with pytest.raises(ValueError, match=f"split '{split}' has no structures"):
        run(data, params, 0.5, **places)


def test_unlabelled_data_is_refused(structures, places, params):
    with pytest.raises(ValueError, match="has no labels"):
        run(structures, params, 0.5, **places)


def test_an_element_that_only_the_valid_split_has_is_refused(labelled, places, params):
    holds = np.array([(labelled.numbers[labelled.atoms_of(row)] == 17).any() for row in range(len(labelled))])
    data = replace(labelled, split=np.where(holds, "valid", labelled.split).astype(object))
    with pytest.raises(ValueError, match="element Cl"):
        run(data, params, 0.5, **places)
