"""Dissociation curves: known interactions are reproduced, groups match S22, and invalid answers are rejected."""

import numpy as np
import pytest
from ase.data.s22 import create_s22_system, get_interaction_energy_s22x5, s22

from hydrogate.checks.render.dimer_tables import dimers_markdown
from hydrogate.pipeline.commands.dimers import DISTANCES, run, summary


def per_atom(structures):
    """Potential without interaction: −1 eV per atom, no forces."""
    return [(-float(len(atoms)), np.zeros((len(atoms), 3))) for atoms in structures]


def squared(structures):
    """Potential with the interaction −2 n m: minus the square of the number of atoms; forces of 3 eV/Å along x."""
    return [(-(float(len(atoms)) ** 2), np.tile([3.0, 0, 0], (len(atoms), 1))) for atoms in structures]


def test_interactions_are_differences_to_the_molecules_of_the_dimer():
    found = run(squared, per_atom)
    assert [one.name for one in found[:: len(DISTANCES)]] == list(s22)
    water = next(one for one in found if one.name == "Water_dimer" and one.distance == "1.2")
    assert water.interaction == pytest.approx(-2 * 3 * 3)
    assert water.interaction_teacher == pytest.approx(0, abs=1e-9)
    assert water.interaction_ccsdt == get_interaction_energy_s22x5("Water_dimer", "1.2")
    assert water.force_error == pytest.approx(np.sqrt(3))
    assert water.force_teacher == 0


def test_groups_are_those_of_the_paper():
    rows = summary(run(squared, per_atom))
    assert [(row["group"], row["n"]) for row in rows[:: len(DISTANCES)]] == [
        ("hydrogen bonds", 7), ("dispersion", 8), ("mixed", 7),
    ]  # fmt: skip
    near, far = (row["teacher_against_ccsdt"] for row in (rows[1], rows[4]))
    assert near == pytest.approx(np.mean([abs(get_interaction_energy_s22x5(name, "1.0")) for name in s22[:7]]))
    assert far < near
    assert "| hydrogen bonds | 0.9 | 7 |" in dimers_markdown(rows, "curves")


def test_the_two_molecules_are_the_dimers_own():
    asked = []

    def remembering(structures):
        asked.extend(structures)
        return per_atom(structures)

    run(remembering, per_atom)
    for dimer, one, two in zip(asked[::3], asked[1::3], asked[2::3], strict=True):
        np.testing.assert_array_equal(dimer.numbers, [*one.numbers, *two.numbers])
    np.testing.assert_array_equal(asked[9].positions, create_s22_system(s22[0], "1.5").positions)


def test_what_is_not_finite_is_refused_by_name():
    def broken(structures):
        answers = per_atom(structures)
        answers[15] = (float("nan"), answers[15][1])
        return answers

    with pytest.raises(ValueError, match=r"Water_dimer at 0\.9: an energy or a force"):
        run(broken, per_atom)
