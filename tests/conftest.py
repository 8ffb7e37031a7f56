"""Shared fixtures: a valid data set of small molecules, built once per run and labelled by GFN2-xTB."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import dvc  # noqa: F401, imported early: its log must not bind to the captured stream of the first test
import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.models.teachers import Labels, make_teacher
from hydrogate.pipeline.stages.check import relabel

# 36 drug-like fragments with hydrogens, in Å: embedded by RDKit 2026.09 and relaxed by MMFF94. Stored in a file because
# the embedding differs between RDKit releases. `info` has the SMILES.
MOLECULES = Path(__file__).with_name("molecules.extxyz")


@pytest.fixture(scope="session")
def structures() -> Dataset:
    """Build 108 unlabelled structures: three rattled geometries of each of 36 molecules; the first is the parent."""
    atoms: list[Atoms] = []
    names = ("smiles", "parent", "source_index", "split", "heavy_atoms_moved")
    columns: dict[str, list[object]] = {name: [] for name in names}
    molecules = read(MOLECULES, ":")
    for index, molecule in enumerate(molecules):
        root = len(atoms)
        for geometry in range(3):
            noise = np.random.default_rng([index, geometry]).normal(0.0, 0.05, molecule.positions.shape)
            atoms.append(Atoms(molecule.numbers, molecule.positions + noise))
            columns["smiles"].append(molecule.info["smiles"])
            columns["parent"].append(root)
            columns["source_index"].append(index)
            columns["heavy_atoms_moved"].append(np.nan if geometry else 0.0)
            columns["split"].append("test" if index % 5 == 0 else "valid" if index % 5 == 1 else "train")
    hydrogens = [int((a.numbers == 1).sum()) for a in atoms]
    data = concatenate(atoms, expected_hydrogens=hydrogens, source=["good.sdf"] * len(atoms), **columns)
    return replace(data, n_read=len(molecules))


@pytest.fixture(scope="session")
def labelled(structures: Dataset) -> Dataset:
    """Label these structures with energies and forces."""
    teacher = make_teacher("xtb")
    answers = teacher.label([structures.to_atoms(row) for row in range(len(structures))])
    symbols = list(structures.species_percentages())
    atoms = teacher.label([concatenate([Atoms(symbol)]).to_atoms(0) for symbol in symbols])
    assert all(isinstance(answer, Labels) for answer in (*answers, *atoms))
    return replace(
        structures,
        energy=np.array([answer.energy for answer in answers]),
        forces=np.concatenate([answer.forces for answer in answers]).astype(np.float32),
        dipole=np.stack([answer.dipole for answer in answers]),
        charges=np.concatenate([answer.charges for answer in answers]).astype(np.float32),
        teacher=teacher.identity(),
        n_read=len(structures),
        isolated_atom_energies={symbol: float(atom.energy) for symbol, atom in zip(symbols, atoms, strict=True)},
    )


@pytest.fixture(scope="session")
def ask_again() -> Potential:
    """Return the teacher of the valid data set."""
    return partial(relabel, make_teacher("xtb"))


@pytest.fixture(scope="session")
def orb_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Save random weights for the full architecture of a method in the format of the actual loader."""
    folder = tmp_path_factory.mktemp("orb")

    @cache
    def saved(method: str) -> Path:
        import torch

        from hydrogate.models.teachers.orb import save_random_weights

        torch.manual_seed(0)
        return save_random_weights(method, folder)

    return saved


# Test files that train, label, compile or start processes: some 90 % of the time of all tests.
SLOW = {
    "checks/accidents/test_mutants.py",
    "checks/accidents/test_probe.py",
    "checks/accidents/test_really_happened.py",
    "checks/contracts/test_clean_data.py",
    "checks/contracts/test_contract_docs.py",
    "checks/contracts/test_offline_html.py",
    "checks/engine/test_extending.py",
    "checks/engine/test_waiving.py",
    "models/kernels/test_kernels.py",
    "models/students/test_students.py",
    "models/teachers/test_ase_calculator.py",
    "models/teachers/test_orb.py",
    "models/teachers/test_teachers.py",
    "models/test_dynamics.py",
    "pipeline/cli/test_cli.py",
    "pipeline/commands/test_audit_cli.py",
    "pipeline/commands/test_probe_cli.py",
    "pipeline/formats/test_formats_cli.py",
    "pipeline/formats/test_shards.py",
    "pipeline/molecules/test_sample.py",
    "pipeline/reports/test_report.py",
    "pipeline/reports/test_review.py",
    "pipeline/stages/regenerate/test_regenerate.py",
    "pipeline/stages/regenerate/test_sampling.py",
    "pipeline/stages/test_dvc_flow.py",
    "pipeline/stages/test_dynamics.py",
    "pipeline/stages/test_label.py",
    "pipeline/stages/test_label_processes.py",
    "pipeline/stages/test_label_survives.py",
    "pipeline/stages/test_orb_pipeline.py",
    "pipeline/stages/test_plots.py",
    "pipeline/stages/test_torchrun.py",
    "pipeline/stages/test_validate.py",
    "pipeline/training/test_loop.py",
    "pipeline/training/test_train.py",
    "pipeline/workers/test_pool.py",
    "studies/test_atlas.py",
    "studies/test_bench_contracts.py",
    "studies/test_bench_words.py",
    "studies/test_sampling_study.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow files, so that `-m "not slow"` leaves a subset for every day."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).as_posix() in SLOW:
            item.add_marker("slow")
