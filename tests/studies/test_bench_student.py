"""Tests of the benchmark that two gates read: measurement and output; no speeds are asserted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.potential import Support
from hydrogate.models.student_file import file_fingerprint, save_student
from hydrogate.models.students import make_student
from hydrogate.models.teachers import Failure, orb
from hydrogate.pipeline.decision.benchmark_identity import identity
from hydrogate.pipeline.params import load_params
from studies.benchmarks import student as bench_student

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def student(tmp_path: Path, labelled: Dataset) -> Path:
    torch.manual_seed(0)
    support = Support.of([labelled.to_atoms(row) for row in range(len(labelled))])
    path = tmp_path / "student.safetensors"
    save_student(make_student("painn", {"features": 16, "layers": 1}, support), path, {})
    return path


def test_it_measures_the_student_that_was_trained(
    student: Path, labelled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_student, "AT_LEAST", 0.001)
    threads = torch.get_num_threads()
    content = bench_student.run(PARAMS, labelled, student, batch=2, rounds=6)
    assert torch.get_num_threads() == threads
    assert identity(PARAMS, file_fingerprint(student)).items() <= content.items()
    assert (content["student"], content["batch"], content["rounds"]) == ("painn", 2, 6)
    kernels = "kernel_speedup" if torch.cuda.is_available() else "kernel_speedup_cpu"
    for name in ("speedup_over_teacher", kernels):
        figure = content[name]
        assert 0 < figure["low"] <= figure["value"] <= figure["high"]
        assert (figure["unit"], figure["n"]) == ("times", 6)
    if not torch.cuda.is_available():
        assert content["kernel_speedup"] == "not_run: no CUDA device"
    json.dumps(content, allow_nan=False)


def test_another_student_is_refused(student: Path, labelled: Dataset) -> None:
    other = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update={"student": "so3lr"})})
    with pytest.raises(ValueError, match=r"student\.safetensors is a painn, but train\.student is so3lr"):
        bench_student.run(other, labelled, student, batch=2, rounds=2)


def test_a_teacher_that_fails_has_no_time(student: Path, labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def label(self, structures: list[object]) -> list[Failure]:
            return [Failure("no convergence") for _ in structures]

    monkeypatch.setattr(bench_student, "teacher_of", lambda label, folder: Failing())
    with pytest.raises(ValueError, match="the teacher fails for 2 of 2 structures: no convergence"):
        bench_student.run(PARAMS, labelled, student, batch=2, rounds=2)


def test_an_orb_without_its_weights_takes_random_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(method: str) -> Path:
        raise FileNotFoundError(method)

    monkeypatch.setattr(orb, "_in_the_cache", absent)
    made = []
    monkeypatch.setattr(orb, "save_random_weights", lambda method, folder: made.append(method) or tmp_path / "w.pt")
    (tmp_path / "w.pt").touch()
    label = PARAMS.label.model_copy(update={"teacher": "orb", "method": "orb-v3-direct-omol"})
    teacher = bench_student.teacher_of(label, tmp_path)
    assert (teacher.method, teacher.weights, made) == ("orb-v3-direct-omol", tmp_path / "w.pt", ["orb-v3-direct-omol"])


def test_contestants_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_student, "AT_LEAST", 1e-9)
    calls: list[str] = []
    runs = {name: lambda name=name: (calls.append(name), sum(range(10_000))) for name in ("slow", "fast")}
    spent = bench_student.interleaved(runs, 3, "cpu")
    assert calls[-6:] == ["slow", "fast"] * 3
    assert [len(times) for times in spent.values()] == [3, 3]


def test_the_ratio_is_the_median_round_s_with_an_interval_by_ranks() -> None:
    found = bench_student.speedup(np.arange(1.0, 10.0), np.ones(9))
    assert (found.value, found.low, found.high, found.n) == (5.0, 2.0, 8.0, 9)
    assert bench_student.speedup([2.0] * 5, [1.0] * 5) == (2.0, "times", 5, None, None)
    for slow, fast in (([1.0], [0.0]), ([np.nan], [1.0]), ([], [])):
        assert bench_student.speedup(slow, fast).value is None


def test_without_a_student_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench_student.main([]) == 0
    assert "not_run: no data/student.safetensors" in capsys.readouterr().out
    assert not (tmp_path / "metrics").exists()


@pytest.mark.parametrize("words", [["quick"], []])
def test_a_short_look_leaves_no_metric(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in (bench_student.STUDENT, bench_student.LABELLED):
        path.touch()
    content = {
        "student": "painn",
        "device": "cpu",
        "batch": 2,
        "rounds": 6,
        "kernel_speedup": "not_run: no CUDA device",
    }
    content["speedup_over_teacher"] = bench_student.speedup([40.0] * 6, [1.0] * 6).to_dict()
    monkeypatch.setattr(bench_student, "load_params", lambda: PARAMS)
    monkeypatch.setattr(bench_student, "read_dataset", lambda path: None)
    monkeypatch.setattr(bench_student, "run", lambda *given: content)
    assert bench_student.main(words) == 0
    said = capsys.readouterr().out
    assert "speedup_over_teacher: 40 times (40 to 40, n = 6)" in said
    assert "kernel_speedup: not_run: no CUDA device" in said
    assert (tmp_path / "metrics/benchmarks.json").exists() is not bool(words)
