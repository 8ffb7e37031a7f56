"""Tests of the labelling benchmark: equal input, start-up separated from labelling; no times are asserted."""

import json
from pathlib import Path

import pytest

from studies.benchmarks import labelling as bench


def test_all_contestants_label_the_same_structures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = bench.structures(3)
    assert len(data) == 3
    assert data.energy is None
    assert bench.structures(3).fingerprint() == data.fingerprint()
    assert bench.main(["bare", "3"]) == 0
    wall, cpu = json.loads(capsys.readouterr().out)
    assert wall > 0
    assert cpu > 0


def test_start_and_work_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, each = {"bare": 0.0, "1": 2.0, "2": 3.0}, {"bare": 0.050, "1": 0.052, "2": 0.026}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "measured", lambda who, count: bench.Cost(start[who] + count * each[who], count * 0.05))
    assert bench.main(["quick"]) == 0
    rows = json.loads((tmp_path / bench.REPORT).read_text())["rows"]
    assert rows["1"]["wall_start_s"] == pytest.approx(2.0)
    assert rows["1"]["wall over bare"] == pytest.approx([1.04] * 3)
    assert rows["1"]["cpu over bare"] == pytest.approx([1.0] * 3)
    assert rows["2"]["times as fast as one"] == pytest.approx([2.0] * 3)
    assert "100 structures, 2 rounds" in capsys.readouterr().out
