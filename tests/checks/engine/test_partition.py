"""Partitioned data sets: allowed boundaries, structure labels in a part, and merged answers."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from hydrogate.checks.data.dataset import Dataset, Quarantined, concatenate
from hydrogate.checks.engine.partition import Part, Parts, Picked, Whole, numbered, over_threads, picked, places_of

WATERS, METHANE = [molecule("H2O")] * 3, molecule("CH4")


@pytest.fixture
def data() -> Dataset:
    """Data set with a family of three waters, a methane and a family of two waters: 9 + 5 + 6 atoms."""
    return concatenate(
        [*WATERS, METHANE, *WATERS[:2]],
        parent=[0, 0, 0, 3, 4, 4],
        smiles=["O", "O", "O", "C", "O", "O"],
        source=["a.sdf"] * 6,
        energy=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        forces=[np.full((len(atoms), 3), float(row)) for row, atoms in enumerate([*WATERS, METHANE, *WATERS[:2]])],
    )


def part(data: Dataset, number: int, atoms: int = 9) -> Part:
    parts = Parts.of(data, atoms=atoms)
    return Part(parts.places[number], parts.whole)


def test_families_are_not_torn(data: Dataset) -> None:
    for atoms, structures in ((1, [3, 1, 2]), (9, [3, 3]), (14, [4, 2]), (20, [6]), (10_000, [6])):
        assert [place.structures for place in places_of(data, atoms)] == structures, atoms


def test_each_place_knows_what_goes_before_it(data: Dataset) -> None:
    places = Parts.of(data, atoms=1).places
    assert [(place.first, place.first_atom, place.structures, place.atoms) for place in places] == [
        (0, 0, 3, 9), (3, 9, 1, 5), (4, 14, 2, 6),
    ]  # fmt: skip
    assert numbered([]) == []


def test_a_part_names_structures_and_atoms_as_the_whole_does(data: Dataset) -> None:
    last = part(data, 2, atoms=1)
    assert last.rows == range(4, 6)
    assert last.name(1) == data.name(5) == "structure 5 (H2O, a.sdf record 5)"
    assert last.own(np.array([0, 3, 4, 5])).tolist() == [0, 1]
    assert last.own(np.array([3])).tolist() == []
    assert last.own_atoms(np.array([13, 14, 19, 20])).tolist() == [0, 5]
    assert part(data, 1, atoms=1).own(np.array([2, 3, 4])).tolist() == [0]
    assert part(data, 1, atoms=1).own_atoms(np.array([8, 9, 13, 14])).tolist() == [0, 4]


def test_structures_are_taken_out_of_the_whole(data: Dataset) -> None:
    found = Parts.of(data, atoms=1).ask(lambda of: picked(of, np.array([1, 3, 5])))
    assert [(one.row, one.name, one.smiles, one.energy) for one in found] == [
        (row, data.name(row), data.smiles[row], float(row)) for row in (1, 3, 5)
    ]
    for one in found:
        np.testing.assert_array_equal(one.forces, np.full((len(one.atoms), 3), one.row, np.float32))
        assert one.atoms.numbers.tolist() == data.to_atoms(one.row).numbers.tolist()
    (bare,) = Parts.of(replace(data, energy=None, forces=None)).ask(lambda of: picked(of, np.array([3])))
    assert isinstance(bare, Picked)
    assert np.isnan(bare.energy) and bare.forces.shape == (5, 3) and np.isnan(bare.forces).all()


def test_what_a_part_measures(data: Dataset) -> None:
    middle = part(data, 1, atoms=1)
    assert middle.elements.tolist() == [1, 6]
    assert middle.compositions.tolist() == [[4, 1]]
    assert middle.force_rms.tolist() == [3.0]
    assert middle.force_norms.tolist() == pytest.approx([3.0 * np.sqrt(3)] * 5)
    assert (len(middle.bonds.first), len(middle.geometry.length), len(middle.siblings.work)) == (4, 4, 0)
    assert part(concatenate([Atoms()], energy=[0], forces=[np.empty((0, 3))]), 0).force_rms.tolist() == [0.0]


def test_the_whole_is_known_before_it_is_read(data: Dataset) -> None:
    aside = (Quarantined("a.sdf", 6, "flat"),)
    told = replace(data, n_read=7, quarantine=aside, teacher={"name": "xtb"}, isolated_atom_energies={"H": -13.0})
    assert Whole.of(told) == Whole(6, 20, 7, 1, {"name": "xtb"}, {"H": -13.0}, True, True)
    assert Whole.of(replace(data, energy=None, forces=None)) == Whole(6, 20)
    assert Parts.of(data).fingerprint() == data.fingerprint()


def test_a_question_of_several_checks_is_asked_once(data: Dataset) -> None:
    asked = []

    def question(of: Part) -> int:
        asked.append(of.rows)
        return len(of.data)

    one = part(data, 0)
    assert one.once(question) == one.once(question) == 3
    assert asked == [range(3)]
    # A question with its own arguments belongs to one check, and its answer is not cached.
    of_one = partial(question)
    assert one.once(of_one) == one.once(of_one) == 3
    assert len(asked) == 3


def test_answers_are_merged_in_order_and_what_a_part_raises_is_raised() -> None:
    assert over_threads(lambda item: [item], range(50)) == [*range(50)]
    assert over_threads(lambda item: item, [7]) == 7
    with pytest.raises(ValueError, match="the 20th"):
        over_threads(lambda item: int("the 20th") if item == 20 else item, range(50))


def test_a_part_that_cannot_be_read_says_so(data: Dataset) -> None:
    def torn() -> Dataset:
        raise OSError("no such file")

    place = replace(Parts.of(data).places[0], load=torn)
    broken = Part(place, Whole.of(data))
    with pytest.raises(OSError, match="no such file"):
        _ = broken.data
    assert str(broken.unreadable) == "no such file"
