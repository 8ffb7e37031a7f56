"""Tests of the sampling study: equal numbers of labels, one test set for all, no repeated measurements."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.params import load_params
from studies import sampling_study
from studies.sampling_study import MADE, SETTINGS, TESTS, Study, geometries, run, table

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


def test_what_each_sampling_makes(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def labelled(data: Dataset) -> Dataset:
        energy = np.zeros(len(data))
        return replace(data, energy=energy, forces=np.full((len(data.numbers), 3), 2.0, np.float32))

    study = Study(study.params, molecules=2, epochs=1)
    monkeypatch.setattr(study, "labelled", labelled)
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in list(geometries(study))[2:]}
    assert list(rows) == list(MADE)
    assert rows["none"][:2] == ["0.00", "2.00"]
    # RMS of a Gaussian in three coordinates, reduced by the superposition.
    assert float(rows["rattle-0.05"][0]) == pytest.approx(np.sqrt(3) * 0.05, abs=0.012)
    assert float(rows["rattle-0.1"][2]) > float(rows["rattle-0.05"][2]) > float(rows["none"][2])
    # Equal forces on all atoms give a net force.
    assert all("net_force" in row[4] for row in rows.values())
    assert float(rows["md-600"][0]) > float(rows["rattle-0.1"][0])


@pytest.mark.parametrize(("option", "heading"), [("--geometries", "made"), ("--teacher", "noise")])
def test_the_tables_are_options_of_the_session(
    option: str, heading: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    declared = load_params(ROOT / "params.yaml")
    sample = declared.regenerate.model_copy(update={"input": str(ROOT / "samples/sample-1000-0.sdf.gz")})
    monkeypatch.setattr(sampling_study, "load_params", lambda: declared.model_copy(update={"regenerate": sample}))
    monkeypatch.setattr(sampling_study, "geometries", lambda study: [f"made of {study.molecules}"])
    monkeypatch.setattr(sampling_study.teacher_study, "tables", lambda molecules: [f"noise of {len(molecules)}"])
    assert sampling_study.main([option, "--molecules", "2"]) == 0
    assert capsys.readouterr().out == f"{heading} of 2\n"
    assert not sampling_study.REPORT.exists()
