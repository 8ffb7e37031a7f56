"""Breakdown of the force error: by hand, on molecules with known errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.metrics.breakdown import Environment, breakdown
from hydrogate.checks.metrics.comparison import Comparison

FRAMES = [molecule(name) for name in ("H2O", "CH3OH", "CH4")]


def found(error, count=15, frames=FRAMES):
    """Break down the errors (N, 3) of a student; the reference force is 2 eV/Å along x on each atom."""
    forces = [np.tile([2.0, 0.0, 0.0], (len(atoms), 1)) for atoms in frames]
    reference = concatenate(frames, energy=[0.0] * len(frames), forces=forces)
    predicted = replace(reference, forces=reference.forces + error)
    return breakdown(reference, Comparison.of(reference, predicted), count)


def errors(**of_atom):
    """Return errors (14, 3) that are zero except for the named atoms, ``atom_3=[...]``."""
    error = np.zeros((sum(map(len, FRAMES)), 3))
    for name, vector in of_atom.items():
        error[int(name.removeprefix("atom_"))] = vector
    return error


def test_an_environment_is_an_element_and_its_neighbours():
    where = found(errors(atom_0=[3.0, 0.0, 0.0], atom_4=[0.0, 4.0, 0.0]))  # the oxygens of water and of methanol
    expected = (
        Environment("O", "H C", 1, 1, 4 / math.sqrt(3), 2 / math.sqrt(3), 16 / 25),
        Environment("O", "H H", 1, 1, 3 / math.sqrt(3), 2 / math.sqrt(3), 9 / 25),
    )
    for kind, by_hand in zip(where.environments[:2], expected, strict=True):
        assert kind[:4] == by_hand[:4]
        assert kind[4:] == pytest.approx(by_hand[4:])
    others = {(kind.atom, kind.bonded_to): (kind.atoms, kind.molecules) for kind in where.environments[2:]}
    assert others == {("H", "O"): (3, 2), ("H", "C"): (7, 2), ("C", "H H H O"): (1, 1), ("C", "H H H H"): (1, 1)}


def test_the_error_of_an_environment_is_pooled_over_its_atoms():
    where = found(errors(atom_1=[3.0, 0.0, 0.0], atom_2=[0.0, 4.0, 0.0]))  # two of the three hydrogens on oxygen
    first = where.environments[0]
    assert (first.atom, first.bonded_to, first.atoms, first.share) == ("H", "O", 3, 1.0)
    assert (first.force_rmse, first.force_rms) == pytest.approx((5 / 3, 2 / math.sqrt(3)))


def test_shares_are_of_everything():
    rng = np.random.default_rng(0)
    where = found(rng.normal(size=(14, 3)))
    for part in where:
        assert sum(one.share for one in part) == pytest.approx(1.0)
        assert [one.share for one in part] == sorted((one.share for one in part), reverse=True)


def test_a_structure_names_its_worst_atom():
    first, *_ = found(errors(atom_3=[1.0, 0.0, 0.0], atom_12=[0.0, 0.0, 2.0])).structures
    assert first.structure.startswith("structure 2 (CH4")
    assert (first.share, first.worst_atom, first.error, first.force) == (0.8, "H 3", 2.0, 2.0)


def test_no_more_than_asked_for():
    where = found(np.ones((14, 3)), count=2)
    assert (len(where.environments), len(where.structures)) == (2, 2)


def test_a_lone_atom_is_bonded_to_nothing():
    where = found(np.ones((4, 3)), frames=[molecule("H2O"), molecule("H2O")[[0]]])
    assert ("O", "nothing") in {(kind.atom, kind.bonded_to) for kind in where.environments}


@pytest.mark.parametrize(("error", "message"), [(math.nan, r"structure 0 \(H2O\).*not finite"), (0.0, "no error")])
def test_what_cannot_be_said_is_refused(error, message):
    with pytest.raises(ValueError, match=message):
        found(np.full((14, 3), error))
