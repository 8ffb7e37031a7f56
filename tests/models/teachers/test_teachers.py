"""Tests that every teacher must pass, and tests of single teachers."""

import importlib
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree

from hydrogate.models.names import UnknownName
from hydrogate.models.teachers import (
    Failure,
    Labels,
    Teacher,
    charge_and_multiplicity,
    make_teacher,
    methods_of,
    teacher_names,
)

# Arguments that each teacher needs in addition to its name.
MADE_BY: dict[str, dict[str, object]] = {
    "xtb": {},
    "orb": {},
    "ase_calculator": {
        "method": "tblite.ase.TBLite",
        "settings": {
            "arguments": {"method": "GFN2-xTB", "verbosity": 0},
            "charge": "charge",
            "multiplicity": "multiplicity",
        },
    },
}


@pytest.fixture(scope="session", params=teacher_names())
def teacher(request: pytest.FixtureRequest) -> Teacher:
    made_by = dict(MADE_BY[request.param])
    if request.param == "orb":
        made_by["weights"] = request.getfixturevalue("orb_weights")("orb-v3-conservative-omol")
    return make_teacher(request.param, **made_by)


def test_the_teachers() -> None:
    assert set(teacher_names()) == set(MADE_BY)


def test_it_labels_and_its_forces_are_the_gradient(teacher: Teacher) -> None:
    water = molecule("H2O")
    water.rattle(0.05, seed=1)
    (labels,) = teacher.label([water])
    assert isinstance(labels, Labels)
    assert isinstance(labels.energy, float)
    assert labels.forces.shape == (3, 3)
    assert labels.forces.dtype == np.float64
    step, (atom, axis) = 1e-2, (1, 2)
    moved = [water.copy(), water.copy()]
    moved[0].positions[atom, axis] += step
    moved[1].positions[atom, axis] -= step
    up, down = teacher.label(moved)
    assert -(up.energy - down.energy) / (2 * step) == pytest.approx(labels.forces[atom, axis], abs=2e-2, rel=2e-2)


def test_each_structure_is_labelled_by_itself(teacher: Teacher) -> None:
    water, ethanol = molecule("H2O"), molecule("CH3CH2OH")
    together, again = teacher.label([water, ethanol]), teacher.label([ethanol])
    assert together[1].energy == again[0].energy
    assert np.array_equal(together[1].forces, again[0].forces)
    assert [len(labels.forces) for labels in together] == [3, 9]


def test_numpy_charges_are_fine_and_charge_matters(teacher: Teacher) -> None:
    neutral, cation = molecule("CH3"), molecule("CH3")
    neutral.info.update(charge=np.int16(0), spin=np.int16(2))
    cation.info.update(charge=np.int16(1), spin=np.int16(1))
    first, second = teacher.label([neutral, cation])
    assert abs(first.energy - second.energy) > 1e-6


def test_electrons_that_do_not_fit_are_a_failure(teacher: Teacher) -> None:
    odd = molecule("CH3")
    (failure,) = teacher.label([odd])
    assert isinstance(failure, Failure)
    assert "9 electrons at charge 0 cannot have spin multiplicity 1" in failure.reason


def test_no_structure_gives_no_label(teacher: Teacher) -> None:
    assert teacher.label([]) == []


def test_its_identity_is_plain_and_stable(teacher: Teacher) -> None:
    identity = teacher.identity()
    assert json.loads(json.dumps(identity, allow_nan=False)) == identity == teacher.identity()
    assert identity["name"] in teacher_names()
    assert identity["method"] in (methods_of(identity["name"]) or [MADE_BY[identity["name"]]["method"]])
    assert "conservative" not in identity
    assert identity["version"]


def test_it_leaves_torch_as_it_was(teacher: Teacher) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        teacher.label([molecule("H2O")])
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", teacher_names())
def test_every_entry_point_resolves(name: str) -> None:
    module = importlib.import_module(f"hydrogate.models.teachers.{name}")
    assert list(inspect.signature(module.make).parameters) == ["method", "weights", "settings"]
    assert isinstance(module.METHODS, tuple)
    assert isinstance(module.SETTINGS, dict)


def test_xtb_agrees_with_its_own_ase_calculator() -> None:
    from tblite.ase import TBLite

    ion = molecule("CH3CH2O")
    ion.rattle(0.05, seed=2)
    ion.info.update(charge=-1, spin=1)
    (labels,) = make_teacher("xtb").label([ion])
    ion.calc = TBLite(method="GFN2-xTB", charge=-1, multiplicity=1, verbosity=0)
    assert labels.energy == pytest.approx(ion.get_potential_energy(), abs=1e-6)
    assert np.allclose(labels.forces, ion.get_forces(), atol=1e-5)


def test_xtb_gives_dipoles_and_charges() -> None:
    from tblite.ase import TBLite

    water, ion = molecule("H2O"), molecule("CH3CH2O")
    ion.info.update(charge=-1, spin=1)
    ion.translate([3.0, -2.0, 5.0])
    for_water, for_ion = make_teacher("xtb").label([water, ion])
    # 2.29 Debye. Source: the GFN2-xTB program, measured; experiment has 1.85.
    assert np.linalg.norm(for_water.dipole) == pytest.approx(0.476, abs=5e-3)
    for atoms, labels, charge in ((water, for_water, 0), (ion, for_ion, -1)):
        atoms.calc = TBLite(method="GFN2-xTB", charge=charge, multiplicity=1, verbosity=0)
        assert np.allclose(labels.dipole, atoms.get_dipole_moment(), atol=1e-4)
        assert labels.charges.sum() == pytest.approx(charge, abs=1e-6)
    # The dipole of an ion depends on the origin.
    ion.translate([1.0, 0.0, 0.0])
    (moved,) = make_teacher("xtb").label([ion])
    assert np.allclose(moved.dipole - for_ion.dipole, [-1.0, 0.0, 0.0], atol=1e-4)


def test_xtb_gives_no_dipole_of_a_lattice() -> None:
    periodic = molecule("H2O", vacuum=3.0)
    periodic.pbc = True
    (labels,) = make_teacher("xtb").label([periodic])
    assert labels.dipole is None
    assert labels.charges.sum() == pytest.approx(0.0, abs=1e-6)


def test_xtb_says_in_its_own_words_what_it_cannot_do() -> None:
    first, second = make_teacher("xtb").label([Atoms("Fm", [[0, 0, 0]]), molecule("H2O")])
    assert isinstance(first, Failure)
    assert "Z >86" in first.reason
    assert isinstance(second, Labels)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.0, r"collapsed: \w and \w \(atoms \d and \d\) are 0 Å apart"),
        (0.3, "0.30 of the sum of their covalent radii, at least 0.5 is required; check the unit"),
        (np.nan, "a position is not finite"),
        (np.inf, "a position is not finite"),
        (1000.0, "torn: a part of the structure is .* Å from the rest"),
    ],
)
def test_it_gives_no_number_for_what_is_no_molecule(teacher: Teacher, factor: float, words: str) -> None:
    good, bad = (molecule("CH3CH2OH", vacuum=4.0) for _ in range(2))
    with np.errstate(invalid="ignore"):
        bad.positions *= factor
    labels, failure = teacher.label([good, bad])
    assert isinstance(labels, Labels)
    assert isinstance(failure, Failure)
    assert failure.lasting
    assert re.search(words, failure.reason), failure.reason


def test_nor_for_a_collapsed_lattice() -> None:
    good, bad = (molecule("CH3CH2OH", vacuum=4.0) for _ in range(2))
    bad.positions *= 0.3
    good.pbc = bad.pbc = True
    labels, failure = make_teacher("xtb").label([good, bad])
    assert isinstance(labels, Labels)
    assert isinstance(failure, Failure)
    assert "collapsed" in failure.reason


def test_an_atom_alone_is_a_structure() -> None:
    (labels,) = make_teacher("xtb").label([Atoms("He", [[0.0, 0.0, 0.0]])])
    assert np.array_equal(labels.forces, np.zeros((1, 3)))


def test_a_hard_self_consistency_is_reached_in_another_way_at_the_same_temperature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hydrogate.models.teachers import xtb

    # The first converges by damping; the second only from higher temperatures, each of which has another energy.
    fluorine, salt = Atoms("F2", [[0, 0, 0], [0, 0, 3]]), Atoms("LiF", [[0, 0, 0], [0, 0, 5]])
    reached = make_teacher("xtb").label([fluorine, salt])
    assert [labels.energy / Hartree for labels in reached] == pytest.approx([-9.2407286, -4.9188456], abs=1e-6)
    monkeypatch.setattr(xtb, "ATTEMPTS", xtb.ATTEMPTS[:1])
    assert all(isinstance(labels, Failure) for labels in make_teacher("xtb").label([fluorine, salt]))


def test_another_way_to_self_consistency_leads_to_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydrogate.models.teachers import xtb

    ethanol = molecule("CH3CH2OH")
    strict = make_teacher("xtb", settings={"accuracy": 0.01})
    (declared,) = strict.label([ethanol])
    for attempt in xtb.ATTEMPTS[1:]:
        monkeypatch.setattr(xtb, "ATTEMPTS", (attempt,))
        (other,) = strict.label([ethanol])
        assert other.energy == pytest.approx(declared.energy, abs=1e-7)
        assert np.allclose(other.forces, declared.forces, atol=1e-5)


def test_a_self_consistency_that_does_not_converge_is_a_failure_that_says_what_was_tried() -> None:
    (failure,) = make_teacher("xtb").label([Atoms("CO", [[0, 0, 0], [0, 0, 4]])])
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("SCF not converged in 250 cycles with the declared settings; ")
    assert "SCF not converged in 500 cycles with damping 0.05; " in failure.reason
    assert failure.reason.count(" K") == 2


def test_the_accuracy_is_a_setting_that_the_identity_names() -> None:
    ethanol = molecule("CH3CH2OH")
    rough, exact = make_teacher("xtb", settings={"accuracy": 1000}), make_teacher("xtb", settings={"accuracy": 1e-3})
    assert rough.identity()["settings"] == {"accuracy": 1000.0, "temperature": 9.5e-4, "max-iter": 250}
    (far,), (near,), (default,) = rough.label([ethanol]), exact.label([ethanol]), make_teacher("xtb").label([ethanol])
    assert np.abs(default.forces - near.forces).max() < 1e-2 < np.abs(far.forces - near.forces).max()
    assert make_teacher("xtb", settings={"accuracy": 1}).identity() == make_teacher("xtb").identity()


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "high", True, None])
def test_settings_without_sense(value: object) -> None:
    with pytest.raises(ValueError, match=r"label\.settings\.accuracy is .* needs a number above zero"):
        make_teacher("xtb", settings={"accuracy": value})


def test_the_identity_of_the_default_settings_is_what_stored_labels_were_made_by() -> None:
    identity = make_teacher("xtb").identity()
    del identity["version"]
    assert json.dumps(identity, sort_keys=True) == (
        '{"method": "GFN2-xTB", "name": "xtb", "program": "tblite", '
        '"settings": {"accuracy": 1.0, "max-iter": 250, "temperature": 0.00095}}'
    )


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean 'xtb'"):
        make_teacher("xbt")
    with pytest.raises(UnknownName, match="did you mean 'GFN2-xTB'"):
        make_teacher("xtb", "GFN2xTB")
    with pytest.raises(UnknownName, match="known: orb-v2"):
        make_teacher("orb", "GFN2-xTB", "weights.ckpt")
    with pytest.raises(UnknownName, match="unknown setting of teacher 'xtb': 'acuracy'; did you mean 'accuracy'"):
        make_teacher("xtb", settings={"acuracy": 0.1})
    with pytest.raises(UnknownName, match="unknown setting of teacher 'orb': 'accuracy'; known: device, precision"):
        make_teacher("orb", settings={"accuracy": 0.1})


def test_weights_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no weights"):
        make_teacher("xtb", weights=tmp_path)


@pytest.mark.parametrize("info", [{"charge": 0.5}, {"spin": 0}, {"charge": 1}])
def test_charges_and_multiplicities_that_cannot_be(info: dict[str, float]) -> None:
    water = molecule("H2O")
    water.info.update(info)
    with pytest.raises(ValueError, match="H2O: "):
        charge_and_multiplicity(water)
