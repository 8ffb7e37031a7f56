"""Tests of the tables of the teacher's noise, on two small molecules."""

import numpy as np
import pytest
from ase.build import molecule

from studies import teacher_study
from studies.teacher_study import HARD, tables


def test_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_study, "HARD", {("F2", 3.0): HARD["F2", 3.0], ("CO", 4.0): HARD["CO", 4.0]})
    monkeypatch.setattr(teacher_study, "CYCLES", 30)
    molecules = []
    for name in ("H2O", "CH3OH"):
        molecules.append([molecule(name) for _ in range(3)])
        for seed, atoms in enumerate(molecules[-1]):
            atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    lines = list(tables(molecules))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    accuracy = {row[0]: [float(cell) for cell in row[1:]] for row in cells[2:5]}
    assert accuracy["0.01"][0] < accuracy["0.1"][0] < accuracy["1"][0] < 1e-3
    assert accuracy["1"][2] == 1.0
    starts = {row[0]: [float(cell) for cell in row[1:]] for row in cells[7:]}
    # Reusing the calculator changes nothing; reusing the density does.
    assert starts["one calculator"][1:] == starts["each by itself"][1:] == [0.0, 0.0]
    assert 0 < starts["from the geometry before"][1] <= starts["from the geometry before"][2] < 1e-2
    assert starts["from the first geometry"][2] > 0
    said = "\n".join(lines)
    assert "shortest distance / sum of covalent radii, 6 structures: 0." in said
    assert "2 hard cases: 0 converge at once, 1 by fallback, failed: CO at 4 Å" in said
    assert "30 cycles of CO: " in said
