"""Data corruptions: each changes only the given structures, keeps a valid data set, and is reproducible by its seed."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from hydrogate.checks import Dataset
from hydrogate.checks.accidents import ACCIDENTS, NotApplicable, changed_structures, hurt
from hydrogate.checks.geometry.observables import net_force, net_torque

ROWS = np.arange(0, 108, 7)


def of(name: str, labelled: Dataset) -> tuple[Dataset, Dataset]:
    return labelled, hurt(ACCIDENTS[name], labelled, ROWS, seed=1)


@pytest.mark.parametrize("name", ACCIDENTS)
def test_it_strikes_the_named_structures_and_no_other(name: str, labelled: Dataset) -> None:
    good, spoiled = of(name, labelled)
    before = good.fingerprint()
    if name == "duplicated_block":
        assert len(spoiled) == len(good) + len(ROWS)
        assert not len(changed_structures(good, spoiled.subset(range(len(good)))))
    else:
        changed = changed_structures(good, spoiled)
        assert len(changed)
        assert set(changed.tolist()) <= set(ROWS.tolist())
    assert good.fingerprint() == before


@pytest.mark.parametrize("name", ACCIDENTS)
def test_what_remains_is_a_data_set(name: str, labelled: Dataset) -> None:
    charges = np.zeros(len(labelled.numbers), dtype=np.float32)
    good, spoiled = of(name, replace(labelled, charges=charges))
    for item in fields(Dataset):
        ours, theirs = getattr(good, item.name), getattr(spoiled, item.name)
        if isinstance(ours, np.ndarray):
            assert theirs.dtype == ours.dtype, item.name
            assert theirs.shape[1:] == ours.shape[1:], item.name
    assert spoiled.offset[-1] == len(spoiled.numbers) == len(spoiled.positions) == len(spoiled.forces)
    assert len(spoiled.charges) == len(spoiled.numbers)
    assert len(spoiled.energy) == len(spoiled.smiles) == len(spoiled.parent) == len(spoiled)
    assert (np.diff(spoiled.offset) > 0).all()


@pytest.mark.parametrize("name", ACCIDENTS)
def test_a_seed_repeats_it(name: str, labelled: Dataset) -> None:
    assert of(name, labelled)[1].fingerprint() == of(name, labelled)[1].fingerprint()


@pytest.mark.parametrize("name", ACCIDENTS)
def test_it_is_described(name: str) -> None:
    accident = ACCIDENTS[name]
    assert accident.says.endswith(".")
    assert re.fullmatch(r"https://\S+", accident.source)
    assert set(accident.contracts) <= {"structures", "labels"}


def test_without_labels_those_of_labels_say_so(structures: Dataset) -> None:
    for accident in ACCIDENTS.values():
        if accident.contracts == ("labels",):
            with pytest.raises(NotApplicable, match="no energies and forces"):
                hurt(accident, structures, ROWS)


def test_one_structure_can_take_the_energy_of_another(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["energies_shuffled"], labelled, np.array([5]))
    assert changed_structures(labelled, spoiled).tolist() == [5]


def test_hydrogen_alone_is_written_down_and_stays(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["hydrogens_stripped"], labelled, ROWS)
    assert [int((spoiled.numbers[spoiled.atoms_of(row)] == 1).sum()) for row in ROWS] == [0] * len(ROWS)
    polar = hurt(ACCIDENTS["polar_hydrogens_only"], labelled, np.array([0]))
    assert polar.formula(0) == "C2HO"


def test_the_other_teacher_is_one_that_neither_pushes_nor_turns(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["two_teachers"], labelled, ROWS)
    assert net_force(spoiled)[ROWS].max() < 1e-6
    assert net_torque(spoiled)[ROWS].max() < 1e-4
    assert np.abs(spoiled.forces - labelled.forces).max() > 0.1


def test_an_ion_without_its_charge_looks_like_a_file_of_a_neutral_radical(labelled: Dataset) -> None:
    ethanol = hurt(ACCIDENTS["charges_lost"], labelled, np.array([0]))
    assert (ethanol.formula(0), ethanol.charge[0], ethanol.spin_multiplicity[0]) == ("C2H5O", 0, 2)
    assert (ethanol.expected_hydrogens[0], ethanol.smiles[0]) == (-1, "")
    cation = replace(labelled, charge=labelled.charge + np.int16(1))
    lost = hurt(ACCIDENTS["charges_lost"], cation, np.array([0]))
    assert (lost.formula(0), lost.charge[0], lost.charge[1], lost.spin_multiplicity[0]) == ("C2H6O", 0, 1, 1)


def test_an_unconverged_label_is_too_high_and_neither_pushes_nor_turns(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["scf_not_converged"], labelled, ROWS)
    assert (spoiled.energy[ROWS] > labelled.energy[ROWS]).all()
    assert net_force(spoiled)[ROWS].max() < 1e-6
    assert net_torque(spoiled)[ROWS].max() < 1e-3


def test_forces_of_the_next_geometry_are_of_the_same_molecule(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["forces_of_another_geometry"], labelled, np.array([0, 5]))
    assert (spoiled.forces[spoiled.atoms_of(0)] == labelled.forces[labelled.atoms_of(1)]).all()
    assert (spoiled.forces[spoiled.atoms_of(5)] == labelled.forces[labelled.atoms_of(3)]).all()
    with pytest.raises(NotApplicable, match="no molecule has a second geometry"):
        hurt(ACCIDENTS["forces_of_another_geometry"], labelled.subset(np.arange(0, 108, 3)), np.arange(36))


def test_a_turned_frame_keeps_the_lengths_of_the_forces(labelled: Dataset) -> None:
    spoiled = hurt(ACCIDENTS["forces_in_another_frame"], labelled, ROWS)
    lengths = [np.linalg.norm(data.forces, axis=1) for data in (labelled, spoiled)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)


def test_what_an_accident_does_to_numbers(labelled: Dataset) -> None:
    struck = np.isin(labelled.structure_of_atom, ROWS)
    before, forces = labelled.positions[struck], labelled.forces[struck]

    def after(name: str) -> Dataset:
        return hurt(ACCIDENTS[name], labelled, ROWS, seed=1)

    np.testing.assert_allclose(after("positions_in_bohr").positions[struck] * 0.5291772, before, rtol=1e-6)
    rounded = after("positions_rounded").positions[struck]
    np.testing.assert_allclose(rounded, before, atol=0.00501)
    np.testing.assert_allclose(100 * rounded, np.round(100 * rounded), atol=1e-4)
    wrapped = after("wrapped_into_a_box").positions[struck]
    assert ((wrapped >= 0) & (wrapped < 10)).all()
    np.testing.assert_allclose((wrapped - before) / 10, np.round((wrapped - before) / 10), atol=1e-6)
    clipped = after("forces_clipped").forces[struck]
    limit = np.sort(np.abs(labelled.forces), axis=None)[-labelled.forces.size // 100]
    assert np.abs(clipped).max() <= limit
    untouched = np.abs(forces) < 0.99 * limit
    np.testing.assert_array_equal(clipped[untouched], forces[untouched])
    assert (np.sign(clipped) == np.sign(forces)).all()


def test_a_structure_may_go_to_any_other_side_of_the_split(labelled: Dataset) -> None:
    one = replace(labelled, split=np.full(len(labelled), "train", dtype=object))
    with pytest.raises(NotApplicable, match=r"^the data set has no split$"):
        hurt(ACCIDENTS["conformers_across_split"], one, ROWS)
    sides = np.array(["train", "valid", "test"], dtype=object)[labelled.parent // 3 % 3]
    spoiled = hurt(ACCIDENTS["conformers_across_split"], replace(labelled, split=sides), np.arange(len(labelled)))
    assert (spoiled.split != sides).all()
    assert {(one, other) for one, other in zip(sides, spoiled.split, strict=True)} == {
        (one, other) for one in sides[:9] for other in sides[:9] if one != other
    }


def test_two_molecules_are_enough_for_the_wrong_smiles_and_one_is_not(labelled: Dataset) -> None:
    two, one = labelled.subset(range(6)), labelled.subset(range(3))
    assert len(np.unique(two.smiles)) == 2
    assert (hurt(ACCIDENTS["smiles_of_another"], two, np.arange(6)).smiles != two.smiles).all()
    with pytest.raises(NotApplicable, match="fewer than two different SMILES"):
        hurt(ACCIDENTS["smiles_of_another"], one, np.arange(3))


def test_a_lost_charge_takes_the_names_of_the_struck_alone(labelled: Dataset) -> None:
    named = replace(labelled, inchikey=np.array([f"KEY-{row}" for row in range(len(labelled))], dtype=object))
    spoiled = hurt(ACCIDENTS["charges_lost"], named, np.array([0]))
    assert (spoiled.inchikey[0], spoiled.inchikey[1]) == ("", "KEY-1")
