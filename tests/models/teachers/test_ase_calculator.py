"""Tests of ASE calculators as teachers, against calculators with known results."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from hydrogate.models.teachers import Failure, Labels, make_teacher

TBLITE = "tblite.ase.TBLite"
GFN2 = {"method": "GFN2-xTB", "verbosity": 0}
TOLD = {"arguments": GFN2, "charge": "charge", "multiplicity": "multiplicity"}
# Calculators as a user writes them in a separate file beside params.yaml.
OWN = """
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, CalculationFailed, EnvironmentError, all_changes


class OutOfMemoryError(RuntimeError):
    "As torch's own."


class Bowl(Calculator):
    implemented_properties = ["energy", "free_energy", "forces"]
    made = 0

    def __init__(self, strength=1.0, weights=None, fault=None, total_charge=0, unpaired=0, **rest):
        super().__init__(**rest)
        type(self).made += 1
        self.strength, self.fault, self.charged = strength, fault, total_charge + 10 * unpaired

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.fault == "raises":
            raise CalculationFailed("no convergence after 3 cycles")
        if self.fault == "no memory":
            raise MemoryError("12 GB")
        if self.fault == "no memory on the GPU":
            raise OutOfMemoryError("CUDA out of memory")
        if self.fault == "no room":
            raise OSError(28, "No space left on device")
        if self.fault == "no program":
            raise EnvironmentError("bowl.x is not installed")
        positions = atoms.positions
        strength = self.strength + self.charged + atoms.info.get("q", 0)
        energy = 0.5 * strength * float((positions**2).sum())
        self.results = {"energy": energy + 100.0, "free_energy": energy, "forces": -strength * positions}
        if self.fault == "infinite":
            self.results["forces"][0, 0] = np.inf
        if self.fault == "too few":
            self.results["forces"] = self.results["forces"][1:]
        if self.fault == "moves":
            atoms.positions += 0.1
        if self.fault == "warm":
            output = Path(self.directory) / "output"
            self.results["energy"] = self.results["free_energy"] = float(output.exists())
            output.touch()


class Stubborn(Bowl):
    def reset(self):
        pass


class EnergyAlone(Calculator):
    implemented_properties = ["energy"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        self.results = {"energy": 0.0}


def bowl(**arguments):
    return Bowl(**arguments)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_bowl.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_bowl", raising=False)
    return tmp_path


def asked(method: str, structures: Sequence[Atoms], **settings: object) -> list[Labels | Failure]:
    return make_teacher("ase_calculator", method, settings=settings).label(structures)


def test_tblite_s_calculator_gives_the_labels_of_our_xtb() -> None:
    ion, radical, ethanol = molecule("CH3CH2O"), molecule("CH3"), molecule("CH3CH2OH")
    ion.info.update(charge=np.int16(-1), spin=np.int16(1))
    radical.info.update(charge=0, spin=2)
    lattice = molecule("H2O", vacuum=3.0)
    lattice.pbc = True
    structures = [ion, radical, ethanol, lattice]
    for answer, expected in zip(asked(TBLITE, structures, **TOLD), make_teacher("xtb").label(structures), strict=True):
        assert answer.energy == pytest.approx(expected.energy, abs=1e-6)
        assert np.allclose(answer.forces, expected.forces, atol=1e-5)


def test_a_cluster_of_argon_and_a_lattice_of_copper() -> None:
    argon = Atoms("Ar4", [[0, 0, 0], [3.8, 0, 0], [0, 3.9, 0], [0, 0, 4.0]])
    copper = bulk("Cu", cubic=True) * 2
    copper.rattle(0.05, seed=1)
    lj = {"sigma": 3.4, "epsilon": 0.0104, "rc": 12.0}
    for atoms, method, arguments, calculator in (
        (argon, "ase.calculators.lj.LennardJones", lj, LennardJones(**lj)),
        (copper, "ase.calculators.emt.EMT", {}, EMT()),
    ):
        (labels,) = asked(method, [atoms], arguments=arguments)
        atoms.calc = calculator
        assert labels.energy == atoms.get_potential_energy()
        assert np.array_equal(labels.forces, atoms.get_forces())


def test_its_identity_is_the_import_path_the_arguments_and_the_version() -> None:
    identity = make_teacher("ase_calculator", TBLITE, settings={**TOLD, "reuse": True}).identity()
    assert json.loads(json.dumps(identity)) == identity
    version = identity.pop("version")
    assert version == make_teacher("xtb").identity()["version"]
    assert identity == {
        "name": "ase_calculator",
        "method": TBLITE,
        "program": "tblite",
        "settings": {"arguments": GFN2, "charge": "charge", "multiplicity": "multiplicity", "unpaired": None},
    }


def test_of_a_file_of_one_s_own_the_content_is_the_version(own: Path) -> None:
    weights = own / "bowl.weights"
    weights.write_text("1.0")

    def identity() -> dict[str, object]:
        teacher = make_teacher("ase_calculator", "own_bowl.Bowl", settings={"arguments": {"weights": str(weights)}})
        return teacher.identity()

    first = identity()
    assert first["version"].startswith("sha256:")
    assert identity() == first
    weights.write_text("2.0")
    other = identity()
    assert other["settings"]["files_sha256"] != first["settings"]["files_sha256"]
    (own / "own_bowl.py").write_text(OWN.replace("0.5 *", "0.6 *"))
    assert identity()["version"] != first["version"]


def test_a_calculator_whose_forces_are_no_gradient_is_declared(own: Path) -> None:
    for declared, marks in ((True, {}), (False, {"conservative": False})):
        teacher = make_teacher("ase_calculator", "own_bowl.Bowl", settings={"conservative": declared})
        assert {k: v for k, v in teacher.identity().items() if k == "conservative"} == marks


def test_forces_are_the_gradient_of_the_free_energy_which_is_the_label(own: Path) -> None:
    water = molecule("H2O")
    (labels,) = asked("own_bowl.bowl", [water], arguments={"strength": 2.0})
    assert labels.energy == pytest.approx((water.positions**2).sum())
    assert np.allclose(labels.forces, -2.0 * water.positions)


def test_charge_and_spin_are_told_as_the_calculator_wants_them(own: Path) -> None:
    cation = molecule("H2O")
    cation.info.update(charge=1, spin=2)
    square = float((cation.positions**2).sum())
    told = {"charge": "total_charge", "unpaired": "unpaired"}
    assert asked("own_bowl.Bowl", [cation], **told)[0].energy == pytest.approx(0.5 * 12.0 * square)
    told = {"charge": "info.q", "multiplicity": "info.spin"}
    assert asked("own_bowl.Bowl", [cation], **told)[0].energy == pytest.approx(0.5 * 2.0 * square)


@pytest.mark.parametrize(
    ("info", "told", "words"),
    [
        (
            {"charge": 1, "spin": 2},
            {},
            "charge 1, but label.settings.charge does not say how to pass it to own_bowl.Bowl",
        ),
        ({"charge": 0, "spin": 3}, {"charge": "info.q"}, "spin multiplicity 3, but neither"),
        ({"charge": 0, "spin": 2}, {}, "10 electrons at charge 0 cannot have spin multiplicity 2"),
    ],
)
def test_a_state_that_the_calculator_is_not_told_is_no_label_of_another(
    info: dict[str, int], told: dict[str, str], words: str, own: Path
) -> None:
    water, plain = molecule("H2O"), molecule("H2O")
    water.info.update(info)
    failure, labels = asked("own_bowl.Bowl", [water, plain], **told)
    assert isinstance(failure, Failure)
    assert words in failure.reason
    assert isinstance(labels, Labels)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", "own_bowl.Bowl: CalculationFailed: no convergence after 3 cycles"),
        ("infinite", "own_bowl.Bowl returned an energy or a force that is not finite"),
        ("too few", "own_bowl.Bowl returned forces of shape (2, 3) for 3 atoms"),
        ("moves", "own_bowl.Bowl moved the atoms, so its label belongs to another structure"),
    ],
)
@pytest.mark.parametrize("reuse", [False, True])
def test_a_calculator_that_fails_quarantines_the_structure(fault: str, words: str, reuse: bool, own: Path) -> None:
    (failure,) = asked("own_bowl.Bowl", [molecule("H2O")], arguments={"fault": fault}, reuse=reuse)
    assert failure == Failure(words)


@pytest.mark.parametrize("fault", ["no memory", "no memory on the GPU", "no room"])
def test_what_the_machine_lacked_says_nothing_of_the_structure(fault: str, own: Path) -> None:
    (failure,) = asked("own_bowl.Bowl", [molecule("H2O")], arguments={"fault": fault})
    assert isinstance(failure, Failure)
    assert not failure.lasting


def test_elements_that_a_calculator_does_not_know_and_collapsed_geometries_are_failures() -> None:
    iron, collapsed = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.5]]), Atoms("Cu2", [[0, 0, 0], [0, 0, 0.3]])
    unknown, too_near = asked("ase.calculators.emt.EMT", [iron, collapsed])
    assert unknown == Failure("ase.calculators.emt.EMT: NotImplementedError: No EMT-potential for Fe")
    assert too_near.reason.startswith("collapsed: ")


@pytest.mark.parametrize("reuse", [False, True])
def test_no_answer_is_another_structure_s(reuse: bool, own: Path) -> None:
    near, far = molecule("H2O"), molecule("H2O")
    far.positions *= 1.1
    calculators = importlib.import_module("own_bowl").Bowl
    answers = asked("own_bowl.Bowl", [near, far, near], arguments={"fault": "warm"}, reuse=reuse)
    assert [labels.energy for labels in answers] == [0.0, 0.0, 0.0]  # no output file of an earlier run
    assert np.array_equal(answers[0].forces, answers[2].forces)
    assert np.allclose(answers[1].forces, 1.1 * answers[0].forces)
    assert calculators.made == (1 if reuse else 3)


def test_a_calculator_that_is_kept_and_keeps_its_results_is_refused(own: Path) -> None:
    with pytest.raises(ValueError, match=r"keeps results when it is reset; set label\.settings\.reuse to false"):
        asked("own_bowl.Stubborn", [molecule("H2O"), molecule("CH4")], reuse=True)


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        (None, {}, r"has no default method; give its import path in label\.method"),
        ("EMT", {}, r"label\.method 'EMT': expected an import path, such as ase\.calculators\.emt\.EMT"),
        ("os.system('ls')", {}, "expected an import path"),
        ("ase.calculators.emtt.EMT", {}, "No module named 'ase.calculators.emtt'; install its package or correct"),
        ("ase.calculators.emt.EMTT", {}, "did you mean 'EMT'"),
        ("ase.calculators.emt.parameters", {}, "is not a class or function that makes a calculator"),
        ("own_bowl.Bowl", {"arguments": {"strenght": 1.0, "fault": object()}}, "only numbers, strings, lists"),
        ("own_bowl.Bowl", {"arguments": [1]}, r"label\.settings\.arguments: expected a mapping"),
        ("own_bowl.EnergyAlone", {"arguments": {"nothing": 1, "directory": 3}}, "raised TypeError"),
        ("own_bowl.EnergyAlone", {}, "own_bowl.EnergyAlone gives no energy or no forces"),
        ("own_bowl.Bowl", {"arguments": {"fault": "no program"}}, "EnvironmentError: bowl.x is not installed"),
        ("own_bowl.Bowl", {"charge": 1}, r"label\.settings\.charge is 1; expected str | None"),
        ("own_bowl.Bowl", {"reuse": "yes"}, r"label\.settings\.reuse is 'yes'; expected bool"),
        ("own_bowl.Bowl", {"argument": {}}, "did you mean 'arguments'"),
    ],
)
def test_what_no_structure_could_be_labelled_with_is_an_error(
    method: str | None, settings: dict[str, object], words: str, own: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        make_teacher("ase_calculator", method, settings=settings).label([molecule("H2O")])


def test_weights_are_an_argument(own: Path) -> None:
    with pytest.raises(ValueError, match=r"takes its files as arguments; name the file in label\.settings"):
        make_teacher("ase_calculator", "own_bowl.Bowl", own)
