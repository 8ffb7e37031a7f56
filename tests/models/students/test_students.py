"""Tests that every student must pass: physics first, then compilation, files and rejected input.

Each test runs with fresh, scaled-up and trained weights, because one error of a compiled graph appeared only with large
weights.
"""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.batch import Batch, collate
from hydrogate.models.compiled import compiled_energy_and_forces, faithfulness
from hydrogate.models.loss import Loss
from hydrogate.models.objective import Labelled, Objective
from hydrogate.models.potential import (
    EnergyAndForces,
    Prediction,
    Student,
    Support,
    UnsupportedStructure,
    energy_and_forces,
    predict,
)
from hydrogate.models.student_file import UnreadableStudent, load_student, save_student
from hydrogate.models.students import make_student, student_names

SUPPORT = Support(elements=(1, 6, 7, 8, 9, 16, 17))
WEIGHTS = ("fresh", "scaled", "trained")
SMALL = {"features": 16, "layers": 2, "radial": 8, "cutoff": 4.0}


def small(name: str) -> Student:
    known = {item.name for item in fields(import_module(f"hydrogate.models.students.{name}").Size)}
    torch.manual_seed(0)
    return make_student(name, {key: value for key, value in SMALL.items() if key in known}, SUPPORT)


@pytest.fixture(scope="session", params=student_names())
def variants(request: pytest.FixtureRequest, labelled: Dataset) -> dict[str, Student]:
    """Return one student in float64 with each kind of weights."""
    fresh = small(request.param)
    rows = np.flatnonzero(labelled.split == "train")
    data = [
        Labelled(
            fresh.collate([labelled.to_atoms(row)]),
            torch.tensor(labelled.energy[row]),
            torch.from_numpy(labelled.forces[labelled.atoms_of(row)]),
        )
        for row in rows
    ]
    fresh.fit_references([one.batch for one in data], labelled.energy[rows], float(labelled.forces.std()))
    scaled, trained = copy.deepcopy(fresh), copy.deepcopy(fresh)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter *= 1.5
    objective = Objective(trained, Loss("norm", 0.5, 1.0, 0.0))
    optimizer = torch.optim.Adam(trained.parameters(), lr=5e-3)
    order = np.random.default_rng(0)
    for _ in range(60):
        optimizer.zero_grad()
        objective([data[row] for row in order.choice(len(data), 8, replace=False)]).backward()
        optimizer.step()
    return {"fresh": fresh.double(), "scaled": scaled.double(), "trained": trained.double()}


@pytest.fixture(params=WEIGHTS)
def student(request: pytest.FixtureRequest, variants: dict[str, Student]) -> Student:
    return variants[request.param]


@pytest.fixture(scope="module")
def atoms(labelled: Dataset) -> list[Atoms]:
    return [labelled.to_atoms(row) for row in np.flatnonzero(labelled.split == "test")[:6]]


def of(student: Student, *structures: Atoms) -> tuple[np.ndarray, np.ndarray]:
    answers = predict(student, structures)
    return np.array([energy for energy, _ in answers]), np.concatenate([forces for _, forces in answers])


def close(found: np.ndarray, expected: np.ndarray, allowed: float = 1e-10) -> bool:
    """Compare to ten digits of the largest value, because scaled weights give large values."""
    return bool(np.abs(found - expected).max() <= allowed * max(1.0, np.abs(expected).max()))


def test_the_trained_one_has_learned(variants: dict[str, Student], labelled: Dataset) -> None:
    rows = np.flatnonzero(labelled.split == "test")
    truth = np.concatenate([labelled.forces[labelled.atoms_of(row)] for row in rows])
    _, forces = of(variants["trained"], *(labelled.to_atoms(row) for row in rows))
    assert np.sqrt(((forces - truth) ** 2).mean()) < 0.7 * np.sqrt((truth**2).mean())


def test_rotation_turns_the_forces_and_nothing_else(student: Student, atoms: list[Atoms]) -> None:
    turn = Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
    turned = [a.copy() for a in atoms]
    for a in turned:
        a.positions = a.positions @ turn.T
    energy, forces = of(student, *atoms)
    energy_turned, forces_turned = of(student, *turned)
    assert close(energy_turned, energy)
    assert close(forces_turned, forces @ turn.T)
    assert np.abs(forces).max() > 1e-3


def test_reflection_too(student: Student, atoms: list[Atoms]) -> None:
    mirrored = atoms[0].copy()
    mirrored.positions *= [1, 1, -1]
    energy, forces = of(student, atoms[0])
    energy_mirrored, forces_mirrored = of(student, mirrored)
    assert close(energy_mirrored, energy)
    assert close(forces_mirrored, forces * [1, 1, -1])


def test_translation_changes_nothing_and_no_force_is_left_over(student: Student, atoms: list[Atoms]) -> None:
    moved = [a.copy() for a in atoms]
    for a in moved:
        a.translate([5.0, -17.0, 3.0])
    energy, forces = of(student, *atoms)
    energy_moved, forces_moved = of(student, *moved)
    assert close(energy_moved, energy)
    assert close(forces_moved, forces)
    assert np.abs(of(student, atoms[0])[1].sum(axis=0)).max() < 1e-9


def test_permutation_permutes_the_forces(student: Student, atoms: list[Atoms]) -> None:
    order = np.random.default_rng(0).permutation(len(atoms[0]))
    energy, forces = of(student, atoms[0])
    energy_permuted, forces_permuted = of(student, atoms[0][order])
    assert close(energy_permuted, energy)
    assert close(forces_permuted, forces[order])


def test_copies_far_apart_add_up(student: Student, atoms: list[Atoms]) -> None:
    far = atoms[0].copy()
    far.translate([1e4, 0, 0])
    energy, forces = of(student, atoms[0])
    energy_both, forces_both = of(student, atoms[0] + far)
    # The potential of a dipole falls with the square of the distance, and shifts charges.
    allowed = 1e-6 if student.reads_pairs else 1e-10
    assert close(energy_both, 2 * energy, allowed)
    assert close(forces_both, np.concatenate([forces, forces]), allowed)


def test_forces_are_minus_the_slope_of_the_energy(student: Student, atoms: list[Atoms]) -> None:
    _, forces = of(student, atoms[1])
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (len(atoms[1]) - 1, 2)):
        moved = [atoms[1].copy(), atoms[1].copy()]
        moved[0].positions[atom, axis] += step
        moved[1].positions[atom, axis] -= step
        up, down = of(student, *moved)[0]
        assert -(up - down) / (2 * step) == pytest.approx(forces[atom, axis], rel=1e-4, abs=1e-4)


def test_a_batch_is_its_structures(student: Student, atoms: list[Atoms]) -> None:
    together, alone = predict(student, atoms), [predict(student, [a])[0] for a in atoms]
    in_twos = predict(student, atoms, batch_size=2)
    for some in (alone, in_twos):
        for (energy, forces), (energy_alone, forces_alone) in zip(together, some, strict=True):
            assert energy_alone == pytest.approx(energy, rel=1e-10)
            assert close(forces_alone, forces)


def test_an_atom_that_crosses_the_cutoff_is_not_noticed(student: Student) -> None:
    def at(distance: float) -> Atoms:
        return Atoms("COH", [[0, 0, 0], [1.2, 0, 0], [1.2 + distance, 0, 0]])

    inside, outside = student.cutoff - 1e-6, student.cutoff + 1e-6
    edges = [collate([at(distance)], student.cutoff).edge_index.shape[1] for distance in (inside, outside)]
    assert edges[0] > edges[1]
    energy, forces = of(student, at(inside), at(outside))
    assert abs(energy[0] - energy[1]) < 1e-7
    assert np.abs(forces[:3] - forces[3:]).max() < 1e-4
    nearer, _ = of(student, at(student.cutoff - 1.5))
    assert abs(nearer[0] - energy[0]) > 1e-6


def test_an_isolated_atom_has_an_energy_and_no_force(student: Student) -> None:
    lone, water = Atoms("O", [[0, 0, 0]]), molecule("H2O")
    energy, forces = of(student, lone, water, lone)
    assert np.isfinite(energy).all()
    assert np.array_equal(forces[0], np.zeros(3))
    assert energy[0] == pytest.approx(energy[2], abs=1e-10)


def test_collinear_and_symmetric_structures_have_finite_second_derivatives(student: Student) -> None:
    """Check the structures where vectors vanish: training differentiates their norm twice."""
    symmetric = [Atoms("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]]), molecule("CH4"), Atoms("H", [[0, 0, 0]])]
    _, forces, _ = energy_and_forces(student, student.collate(symmetric, torch.float64), create_graph=True)
    gradients = torch.autograd.grad(forces.square().sum(), list(student.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients)


def test_single_precision_is_near_double(student: Student, atoms: list[Atoms]) -> None:
    energy, forces = of(student, *atoms)
    rough = predict(student, atoms, dtype=torch.float32)
    assert next(student.parameters()).dtype == torch.float64
    assert np.allclose([e for e, _ in rough], energy, rtol=0, atol=1e-3)
    assert np.allclose(np.concatenate([f for _, f in rough]), forces, rtol=0, atol=1e-3 * max(1, np.abs(forces).max()))


@pytest.fixture(scope="session")
def compiled(
    variants: dict[str, Student], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Student, EnergyAndForces]]:
    """Return one compiled function, and the student whose weights it reads."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    student = copy.deepcopy(variants["fresh"])
    yield student, compiled_energy_and_forces(student)
    torch.set_num_threads(threads)
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
    if before is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own, on importing its compiler
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_compiled_way_is_the_plain_way(
    variants: dict[str, Student], compiled: tuple[Student, EnergyAndForces], weights: str, labelled: Dataset
) -> None:
    """Compare energies, forces with their graph, and parameter gradients, in float64, for batches of several shapes."""
    student, function = compiled
    student.load_state_dict(variants[weights].state_dict())
    for first, count in ((0, 8), (20, 3), (50, 13)):
        some = [labelled.to_atoms(row) for row in range(first, first + count)]
        found = faithfulness(student, function, student.collate(some, torch.float64))
        assert found.holds, found
        assert found.allowed == pytest.approx(1e-5)


def test_faithfulness_sees_a_fault(variants: dict[str, Student], atoms: list[Atoms]) -> None:
    student = variants["fresh"]
    batch = student.collate(atoms, torch.float64)

    def holds(fault: Callable[[Prediction], dict[str, torch.Tensor]]) -> bool:
        def faulty(some: Batch) -> Prediction:
            found = energy_and_forces(student, some, create_graph=True)
            return found._replace(**fault(found))

        return faithfulness(student, faulty, batch).holds

    assert holds(lambda _: {})
    assert not holds(lambda found: {"forces": found.forces * 1.0004})
    assert not holds(lambda found: {"energy": found.energy + 1.0})
    assert not holds(lambda found: {"forces": found.forces * torch.nan})
    # Correct values, wrong gradient.
    assert not holds(lambda found: {"forces": (found.forces + found.forces.detach()) / 2})
    if student.dipole_weight is not None:
        assert not holds(lambda found: {"dipole": found.dipole * 1.0004})
        assert not holds(lambda found: {"dipole": found.dipole.detach()})


def test_save_and_load(student: Student, atoms: list[Atoms], tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    single = copy.deepcopy(student).float()
    for path in paths:
        save_student(single, path, {"params": {"epochs": 3}, "labelled_fingerprint": "abc"})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    loaded = load_student(paths[0])
    assert (loaded.name, loaded.size, loaded.support) == (single.name, single.size, single.support)
    for before, after in zip(predict(single, atoms), predict(loaded, atoms), strict=True):
        assert before[0] == after[0]
        assert np.array_equal(before[1], after[1])


def test_files_that_are_no_student(variants: dict[str, Student], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "student.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_student(path)
    path.write_bytes(b"not a student")
    with pytest.raises(UnreadableStudent, match="not a student file"):
        load_student(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(UnreadableStudent, match="not a student file"):
        load_student(path)
    rest = '"size": {}, "support": {"elements": [1]}, "training": {}}'
    painn = '{"schema_version": 1, "student": "painn", ' + rest
    for about, why in (
        ('{"schema_version": 99, "student": "painn", ' + rest, "schema 99"),
        ('{"schema_version": 1, "student": "painn"}', "missing"),
        ('{"schema_version": 1, "student": "pain", ' + rest, "did you mean 'painn'"),
        (painn, "Missing"),
        *((painn.replace("[1]", elements), "expected atomic numbers") for elements in ("[119]", "[-1]", "[1, 1]")),
        (painn.replace("[1]", '"H"'), "student.safetensors: "),
        (painn.replace("{}", '{"features": -1}', 1), "features must be a positive int"),
        (painn.replace("{}", '{"features": 30000}', 1), "at most 1024, got 30000"),
        (painn.replace("{}", '{"cutoff": 1' + "0" * 400 + "}", 1), "cutoff must be a positive float, at most 100"),
    ):
        save_file({"a": torch.ones(1)}, path, metadata={"hydrogate": about})
        with pytest.raises(UnreadableStudent, match=why):
            load_student(path)


def test_a_pipe_is_no_student_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", tmp_path):
        with pytest.raises(UnreadableStudent, match="a folder, a pipe or a device"):
            load_student(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"numbers": 35},
            r"structure 1 has element Br; student '\w+' was trained on element H, C, N, O, F, S, Cl only",
        ),
        ({"charge": -1}, r"structure 1 has total charge -1; .* total charge 0 only"),
        ({"spin": 3}, r"structure 1 has spin multiplicity 3; .* spin multiplicity 1 only"),
    ],
)
def test_what_it_was_not_taught_is_refused(variants: dict[str, Student], change: dict[str, int], message: str) -> None:
    strange = molecule("H2O")
    strange.info.update({key: value for key, value in change.items() if key != "numbers"})
    if "numbers" in change:
        strange.numbers[0] = change["numbers"]
    with pytest.raises(UnsupportedStructure, match=message):
        predict(variants["fresh"], [molecule("H2O"), strange], batch_size=1)
    batch = variants["fresh"].collate([molecule("H2O"), strange], torch.float64)
    with pytest.raises(UnsupportedStructure, match=message):
        energy_and_forces(variants["fresh"], batch)
