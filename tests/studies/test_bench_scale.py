"""Tests of the benchmark behind docs/scale.md: distinct structures, extrapolation; no times are asserted."""

import json
from pathlib import Path

import numpy as np
import pytest

from hydrogate.pipeline.storage.hdf5 import read_dataset
from studies.benchmarks import scale as bench

FIGURES = {
    "storing, ms": 0.1,
    "verifying the store, ms": 0.007,
    "labels.sqlite, bytes": 1200.0,
    "structures.h5, bytes": 700.0,
    "labelled.h5, bytes": 1300.0,
    "stage without labelling, ms": 0.05,
    "memory of the stage, bytes": 4000.0,
    "memory of the stage, MB before any": 150.0,
    "driver and scheduler, ms a chunk of 8": 4.0,
    "driver and scheduler, ms a chunk of 64": 10.0,
    "labelling by one process, ms": 54.0,
    "training, ms an epoch": 10.0,
}


def test_no_two_structures_are_equal_and_the_stage_asks_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench.bench_labelling, "structures", lambda count: few)
    few = bench.bench_labelling.springs(5, 0)
    data = bench.many(12)
    assert len({data.structure_fingerprint(row) for row in range(12)}) == 12
    np.testing.assert_array_equal(data.numbers[data.atoms_of(7)], few.numbers[few.atoms_of(2)])
    costs = bench.stored(data, tmp_path)
    assert costs["labels.sqlite, bytes"] * 12 == (tmp_path / "labels.sqlite").stat().st_size
    monkeypatch.setattr(bench.label, "_answers", None)  # would be called for a missing label
    assert bench.main(["stage", str(tmp_path)]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"cpu", "memory"}
    assert len(read_dataset(tmp_path / "labelled.h5")) == 12


def test_what_a_data_set_needs_is_the_costs_times_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "bench", lambda count, chunks: FIGURES)
    assert bench.main(["quick"]) == 0
    needs = json.loads((tmp_path / bench.REPORT).read_text())["needs"]
    assert needs["labelling, core-hours"] == pytest.approx([0.0732, 15.0, 1500.0], rel=1e-3)
    # 4,883 structures in chunks of 8, a million or more in chunks of 64.
    assert needs["driver and scheduler, CPU-s"] == pytest.approx([2.44, 156.25, 15_625.0], rel=1e-3)
    assert needs["memory of the stage, GB"] == pytest.approx([0.1695, 4.15, 400.15], rel=1e-3)
    assert needs["labels.sqlite, GB"] == pytest.approx([0.00586, 1.2, 120.0], rel=1e-3)
    assert "core-hours" in capsys.readouterr().out
