"""Stage train under torchrun: two processes train like one, only rank 0 writes, and a killed training resumes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.student_file import read_about
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.stages.train import run
from hydrogate.pipeline.storage.hdf5 import write_dataset

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
COMMAND += ["-m", "hydrogate.pipeline.stages.train"]


def declare(folder: Path, **train: object) -> Path:
    """Write the project's params.yaml with a small student into ``folder``."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    size = {"painn": {"features": 16, "layers": 2, "radial": 8, "cutoff": 4.0}}
    params["train"] |= {"size": size, "epochs": 3, "compile": "never", **train}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def test_two_processes_of_torchrun_learn_as_one(labelled: Dataset, tmp_path: Path) -> None:
    """Killed after the first epoch and restarted."""
    write_dataset(labelled, tmp_path / "data/labelled.h5")
    (tmp_path / "data/labels.ok").write_text(f"labels {labelled.fingerprint()}\n")
    declare(tmp_path)
    with subprocess.Popen(COMMAND, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "epoch 1 of 3" not in said:
            said = process.stderr.readline()
            assert said, "it ended before the first epoch did"
        process.kill()
        # Read to the end, until the processes that torchrun started have ended too.
        process.stderr.read()
    assert not (tmp_path / "data/student.safetensors").exists()
    again = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert [again.stderr.count(f"epoch {epoch} of 3") for epoch in (1, 2, 3)] == [0, 1, 1]
    assert again.stdout.count("best after epoch") == 1
    assert json.loads((tmp_path / "metrics/training.json").read_text())["processes"] == 2
    training = read_about(tmp_path / "data/student.safetensors")["training"]
    assert training["labelled_fingerprint"] == labelled.fingerprint()
    assert not list((tmp_path / ".progress/train").iterdir())

    params = load_params(declare(tmp_path, processes=1)).train
    alone = run(labelled, params, 0.5, tmp_path / "alone.safetensors", tmp_path / "alone", tmp_path / ".alone")
    for name in ("train_loss", "valid_loss", "force_rmse"):
        lines = (tmp_path / f"plots/training/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
        curve = [float(line.split()[-1]) for line in lines]
        assert curve == pytest.approx([epoch[name] for epoch in alone.history], rel=0.05)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"processes": 1}, r"torchrun started 2 processes, but train\.processes is 1; set it to 0"),
        ({"batch_size": 2}, r"batches of 2 are enough for at most 1: start fewer or raise train\.batch_size"),
    ],
)
def test_a_number_of_processes_that_cannot_be_is_refused(
    labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: dict[str, object], message: str
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    params = load_params(declare(tmp_path, **declared)).train
    with pytest.raises(ValueError, match=message):
        run(labelled, params, 0.5, tmp_path / "student.safetensors", tmp_path / "history", tmp_path / ".progress")
    assert not (tmp_path / "student.safetensors").exists()
