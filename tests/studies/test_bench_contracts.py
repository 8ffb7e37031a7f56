"""Tests of the contracts benchmark on a few structures: its files and its report; no times are asserted."""

import json
from pathlib import Path

import numpy as np
import pytest

from hydrogate.checks import check
from hydrogate.pipeline.formats.shards import parts_of
from hydrogate.pipeline.storage.hdf5 import read_dataset
from studies.benchmarks import contracts as bench


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    bench.make_files(tmp_path, 1500)
    return tmp_path


def test_the_clean_set_holds_and_the_failing_one_fails_everywhere(folder: Path) -> None:
    clean = check(parts_of([folder / "clean.h5"]), "labels")
    assert not [finding for finding in clean.findings if finding.verdict in ("fail", "error", "undecided")]
    failing = check(parts_of([folder / "failing.h5"]), "labels")
    largest = next(finding for finding in failing.findings if finding.check == "force_magnitude")
    assert largest.verdict == "fail"
    assert bench.contract(folder / "clean.h5").startswith("17 pass, ")


def test_no_value_is_there_twice(folder: Path) -> None:
    data = read_dataset(folder / "clean.h5")
    assert len(data) == 1500
    assert len(np.unique(data.energy)) == 1500
    assert len(np.unique(data.positions, axis=0)) == len(data.positions)
    assert set(np.bincount(data.parent, minlength=1).tolist()) == {0, 4}


@pytest.mark.parametrize("contestant", [bench.numpy_pass, bench.pandera_polars, bench.pandera_pandas])
def test_the_others_see_the_same_table(contestant: bench.Contestant, folder: Path) -> None:
    assert contestant(folder / "clean.h5")


def test_it_runs_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("NumPy: read, min, max, sum", "labels, clean")
    monkeypatch.setattr(bench, "CONTESTANTS", {name: bench.CONTESTANTS[name] for name in names})
    monkeypatch.setattr(bench, "STRUCTURES", 12_000)
    assert bench.main(["--quick"]) == 0
    result = json.loads((tmp_path / bench.REPORT).read_text())
    assert (result["structures"], result["rounds"]) == (1200, 3)
    assert [row["name"] for row in result["rows"]] == list(names)
    assert result["rows"][0]["ratio"] == 1.0
    assert all(row["seconds"] > 0 and row["peak_mb"] > 10 and row["import_seconds"] > 0 for row in result["rows"])
    assert "labels, clean" in " ".join(capsys.readouterr().out.split())


def test_a_contestant_that_dies_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="labels, clean: its process ended"):
        bench.interleaved(tmp_path, ["labels, clean"], 1)
