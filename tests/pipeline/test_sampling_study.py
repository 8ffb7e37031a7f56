"""The study of the samplings: equal labels, one test set for all, nothing measured twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydrogate.checks.dataset import Dataset
from hydrogate.pipeline import sampling_study
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.sampling_study import SETTINGS, TESTS, Study, run, table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    declared = params.regenerate.model_copy(update={"input": str(ROOT / "samples/sample-1000-0.sdf.gz")})
    return Study(params.model_copy(update={"regenerate": declared}), molecules=6, epochs=1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_costs_the_same_labels(study: Study, setting: str) -> None:
    data = study.geometries(SETTINGS[setting], "molecule")
    assert np.bincount(data.source_index).tolist() == [4] * 6
    assert (data.partner is not None) == setting.startswith("pairs")


def test_all_are_asked_about_the_same_held_out_molecules(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "labelled", lambda data: data)
    tests = study.tests("scaffold")
    assert list(tests) == list(TESTS)
    data = study.geometries(SETTINGS["rattle-0.05"], "scaffold")
    held_out = set(data.source_index[data.split == "test"].tolist())
    known = {data.positions[data.atoms_of(row)].tobytes() for row in range(len(data))}
    for test in tests.values():
        assert np.bincount(test.source_index)[sorted(held_out)].tolist() == [2] * len(held_out)
        assert set(test.source_index.tolist()) == held_out
        assert not known & {test.positions[test.atoms_of(row)].tobytes() for row in range(len(test))}


def test_an_interrupted_study_goes_on(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []

    def errors(setting: str, by: str, seed: int, tests: dict[str, Dataset]) -> dict[str, Any]:
        asked.append((setting, by, seed))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {name: 0.1 * len(asked) for name in TESTS}

    monkeypatch.setattr(study, "errors", errors)
    monkeypatch.setattr(study, "tests", lambda by: {})
    with pytest.raises(KeyboardInterrupt):
        run(study, ["molecule"], [0])
    report = run(study, ["molecule"], [0, 1])
    assert len(report["runs"]) == len(set(asked)) == 2 * len(SETTINGS)
    assert len(asked) == 2 * len(SETTINGS) + 1
    assert json.loads(sampling_study.REPORT.read_text("utf-8")) == report
    lines = list(table(report))
    assert len(lines) == 2 + len(SETTINGS)
    assert lines[2].startswith("| rattle-0.05 | 0.450 (0.100 to 0.800) |")
    assert lines[2].count("not run") == len(TESTS)
    study.epochs = 2
    assert len(run(study, ["molecule"], [1])["runs"]) == len(SETTINGS)
