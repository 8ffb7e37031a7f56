"""Speeds that gates judge: this student's alone, and on a GPU where they must be."""

import json
from pathlib import Path

import pytest

from hydrogate.checks.gates.gates import Judgement
from hydrogate.pipeline.decision.benchmark_identity import code_fingerprint, identity
from hydrogate.pipeline.decision.committed_metrics import judged, read_metrics
from hydrogate.pipeline.params import Params, load_params

PARAMS = load_params(Path(__file__).parents[3] / "params.yaml")
GPU = "cuda: NVIDIA H100"
NAMES = ("speedup_over_teacher", "kernel_speedup")


def figure(value: object, low: float, high: float, n: int = 9) -> dict[str, object]:
    return {"value": value, "unit": "times", "n": n, "low": low, "high": high}


def measured(**changes: object) -> dict[str, object]:
    content = identity(PARAMS, "S") | {"student": "painn", "device": GPU, "batch": 32}
    content |= {"speedup_over_teacher": figure(40.0, 38.0, 41.0), "kernel_speedup": figure(6.0, 5.5, 6.5)}
    content |= changes
    return {key: value for key, value in content.items() if value is not None}


def gates(content: dict[str, object] | None, params: Params = PARAMS) -> dict[str, Judgement]:
    metrics = {"training": {"student_fingerprint": "S"}} | ({} if content is None else {"benchmarks": content})
    _, judgements, blockers = judged(params, metrics)
    assert not blockers
    return {judgement.name: judgement for judgement in judgements if judgement.name in NAMES}


def verdicts(content: dict[str, object] | None, params: Params = PARAMS) -> list[str]:
    found = gates(content, params)
    return [str(found[name].verdict) for name in NAMES]


def test_fast_enough_passes_and_says_of_what() -> None:
    found = gates(measured())
    assert verdicts(measured()) == ["pass", "pass"]
    assert found["speedup_over_teacher"].message == (
        "40 times (38 to 41, n = 9), allowed >= 10 times; painn on cuda: NVIDIA H100, batch 32"
    )


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (figure(6.0, 5.5, 6.5), "fail"),
        (figure(10.5, 9.0, 12.0), "undecided"),
        (figure(40.0, 38.0, 41.0, n=5), "undecided"),
        (figure("undefined", 1.0, 2.0), "undecided"),
        ({"value": 40.0, "unit": "times", "n": 9}, "undecided"),  # without an interval
        ("not_run: no time", "not_run"),
        (None, "not_run"),
        (40.0, "not_run"),
    ],
)
def test_what_is_slow_or_cannot_be_told_does_not_pass(held: object, verdict: str) -> None:
    assert verdicts(measured(speedup_over_teacher=held)) == [verdict, "pass"]


def test_without_a_measurement_nothing_is_judged_and_the_command_is_said() -> None:
    assert verdicts(None) == ["not_run", "not_run"]
    assert "`python3 -m nox -s benchmarks -- student` measures it" in gates(None)["speedup_over_teacher"].message


@pytest.mark.parametrize("device", ["cpu", None])
def test_kernels_count_on_a_gpu_alone(device: str | None) -> None:
    assert verdicts(measured(device=device)) == ["pass", "not_run"]
    assert gates(measured(device=device))["kernel_speedup"].message.endswith("was not measured: no CUDA device")
    said = measured(device="cpu", kernel_speedup="not_run: no CUDA device")
    assert gates(said)["kernel_speedup"].message.endswith("was not measured: no CUDA device")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"student_fingerprint": "T"}, "is of another student; `python3"),
        ({"student_fingerprint": None}, "is of another student; `python3"),
        ({"code_fingerprint": "0"}, "is of other code of the students and kernels; `python3"),
        ({"teacher": "{}", "student_fingerprint": "T"}, "is of another student and another teacher; `python3"),
    ],
)
def test_what_is_of_something_else_is_not_judged(changes: dict[str, object], why: str) -> None:
    assert verdicts(measured(**changes)) == ["not_run", "not_run"]
    assert all(why in judgement.message for judgement in gates(measured(**changes)).values())


def test_another_teacher_in_the_parameters_is_seen() -> None:
    label = PARAMS.label.model_copy(update={"teacher": "orb"})
    changed = PARAMS.model_copy(update={"label": label})
    assert "is of another teacher" in gates(measured(), changed)["speedup_over_teacher"].message
    more = PARAMS.model_copy(update={"label": PARAMS.label.model_copy(update={"workers": 3})})
    assert verdicts(measured(), more) == ["pass", "pass"]


def test_a_student_that_nobody_trained_has_no_speed() -> None:
    _, judgements, _ = judged(PARAMS, {"benchmarks": measured(student_fingerprint=None)})
    assert all(str(one.verdict) == "not_run" for one in judgements if one.name in NAMES)


@pytest.mark.parametrize("content", ["{", "[]", '{"value": NaN'])
def test_what_cannot_be_read_blocks_and_what_is_absent_does_not(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics").mkdir()
    for name in ("training", "validation"):
        (tmp_path / "metrics" / f"{name}.json").write_text("{}")
    assert read_metrics(tmp_path)[1] == []
    (tmp_path / "metrics/benchmarks.json").write_text(content)
    assert "benchmarks.json" in read_metrics(tmp_path)[1][0].what


def test_a_figure_that_is_none_blocks() -> None:
    content = json.loads(json.dumps(measured(speedup_over_teacher={"value": 3.0})))
    metrics = {"training": {"student_fingerprint": "S"}, "benchmarks": content}
    assert "benchmarks.json: speedup_over_teacher" in judged(PARAMS, metrics)[2][0].what


def test_the_code_is_what_a_student_computes_with(tmp_path: Path) -> None:
    """A changed or renamed source of a kernel counts; what is compiled of it does not, nor what no student imports."""
    models = tmp_path / "models"
    for name in ("kernels", "students"):
        (models / name).mkdir(parents=True)
        (models / name / "__init__.py").write_text("from importlib import import_module\n")
    (models / "students/b.py").write_text(
        "from hydrogate.models import kernels\nfrom hydrogate.models.batch import join"
    )
    for name in ("kernels/a.py", "kernels/a.cpp", "batch.py", "dynamics.py"):
        (models / name).write_text("")
    before = code_fingerprint(tmp_path)
    (models / "kernels/a.pyc").write_text("compiled")
    (models / "dynamics.py").write_text("other = 1")
    assert code_fingerprint(tmp_path) == before
    (models / "kernels/a.cpp").rename(models / "kernels/c.cpp")
    renamed = code_fingerprint(tmp_path)
    (models / "kernels/c.cpp").write_text("faster")
    faster = code_fingerprint(tmp_path)
    (models / "batch.py").write_text("other = 1")
    assert len({before, renamed, faster, code_fingerprint(tmp_path), code_fingerprint()}) == 5
