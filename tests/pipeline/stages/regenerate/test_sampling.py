"""Additional geometries of a molecule: their displacement and strain, and that none is dropped."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from rdkit import Chem

from hydrogate.checks import Dataset, check
from hydrogate.checks.geometry.observables import geometry
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline.molecules.hydrogens import add_hydrogens, force_field
from hydrogate.pipeline.molecules.sampling import HIGHEST_ENERGY, ForceField, _bonded, rattle
from hydrogate.pipeline.stages import regenerate
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset


def test_without_further_geometries_hydrogen_has_no_spread(parameters, sampling, source, data):
    def spread(of: Dataset) -> float:
        shape = geometry(of)
        return float(shape.length[of.numbers[shape.partner] == 6].std())

    bare, _ = regenerate.run([source], parameters(**sampling("none")))
    assert len(bare) == 20
    assert spread(bare) < 0.02 < spread(data)


def test_the_seed_moves_the_rattled_geometries(parameters, source, data):
    other, _ = regenerate.run([source], parameters(seed=1))
    assert np.array_equal(other.positions[other.atoms_of(0)], data.positions[data.atoms_of(0)])
    assert not np.allclose(other.positions[other.atoms_of(1)], data.positions[data.atoms_of(1)])


def test_rattled_geometries_keep_their_distance(parameters, sampling, source):
    wild, _ = regenerate.run([source], parameters(**sampling("rattle", sigma=0.12, per_structure=2)))
    assert len(wild) == 60
    assert geometry(wild).min_distance.min() >= 0.6


@pytest.mark.parametrize(
    ("smiles", "short", "least"),
    [("CC#N", 0.0, 1.01), ("CC#CC", 0.0, 1.04), ("CC#N", 0.08, 1.01), ("[C-]#[O+]", 0.0, 0.95)],
)
def test_a_stiff_bond_is_not_shortened_by_much(smiles, short, least):
    mol = add_hydrogens(Chem.MolFromSmiles(smiles), reembed=True)
    stiff = max(mol.GetBonds(), key=lambda bond: bond.GetBondTypeAsDouble())
    ends = [stiff.GetBeginAtomIdx(), stiff.GetEndAtomIdx()]
    start = mol.GetConformer().GetPositions()
    towards = start[ends[0]] - start[ends[1]]
    start[ends[1]] += short * towards / np.linalg.norm(towards)
    mol.GetConformer().SetPositions(start)
    drawn = rattle(mol, 400, 0.05, np.random.default_rng(0), 15.0)
    lengths = np.linalg.norm([positions[ends[0]] - positions[ends[1]] for positions in drawn], axis=1)
    assert least < lengths.min() < np.linalg.norm(towards) - short
    assert lengths.std() > 0.02


def test_a_bond_that_no_force_field_knows_is_rattled_all_the_same():
    mol = Chem.MolFromXYZBlock("2\n\nC 0 0 0\nSe 0 0 1.7\n")
    bonded = Chem.RWMol(mol)
    bonded.AddBond(0, 1, Chem.BondType.DOUBLE)
    Chem.SanitizeMol(bonded)
    drawn = rattle(bonded, 100, 0.05, np.random.default_rng(0), 15.0)
    assert np.ptp([positions[1, 2] - positions[0, 2] for positions in drawn]) > 0.2


def test_hopeless_rattling_drops_nothing(parameters, sampling, source, monkeypatch):
    monkeypatch.setattr("hydrogate.pipeline.molecules.sampling.REDRAWS", 3)
    data, _ = regenerate.run([source], parameters(**sampling("rattle", sigma=2.0)))
    assert len(data) == 80
    refused = {f.check for f in check(data, "structures").findings if f.refuses()}
    assert "min_distance" in refused


def test_md_geometries_scatter_as_a_temperature_does(parameters, sampling, write, records, tmp_path):
    path = write(tmp_path / "three.sdf.gz", records[:3])
    data, _ = regenerate.run([path], parameters(**sampling("md", per_structure=2)))
    assert len(data) == 9
    again, _ = regenerate.run([path], parameters(**sampling("md", per_structure=2)))
    assert np.array_equal(data.positions, again.positions)
    further = data.subset(np.flatnonzero(data.parent != np.arange(9)))
    shape = geometry(further)
    lengths = shape.length[further.numbers[shape.partner] == 6]
    assert 0.015 < lengths.std() < 0.06
    assert abs(lengths.mean() - 1.09) < 0.03


def displacements(data: Dataset, other: Any) -> Any:
    """Return the RMS distance (Å) of each structure from structure ``other[row]``."""
    apart = data.positions - np.concatenate([data.positions[data.atoms_of(row)] for row in other.tolist()])
    return np.sqrt(np.add.reduceat((apart.astype(float) ** 2).sum(axis=1), data.offset[:-1]) / data.sizes)


def test_relaxed_geometries_are_far_away_and_not_high_up(parameters, sampling, molecules, source, data):
    relaxed, _ = regenerate.run([source], parameters(**sampling("rattle_relax", sigma=0.15)))
    further = np.flatnonzero(relaxed.parent != np.arange(80))
    assert len(relaxed) == 80
    assert np.median(displacements(relaxed, relaxed.parent)[further]) > 1.4 * np.median(
        displacements(data, data.parent)[further]
    )
    for row, molecule in zip(range(0, 80, 4), molecules, strict=True):
        atoms = relaxed.to_atoms(row)
        atoms.calc = ForceField(add_hydrogens(molecule.mol))
        own, bonded = atoms.get_potential_energy(), _bonded(atoms)
        for child in range(row + 1, row + 4):
            atoms.positions = relaxed.positions[relaxed.atoms_of(child)]
            assert atoms.get_potential_energy() - own <= (HIGHEST_ENERGY + 1e-3) * len(atoms)
            assert (_bonded(atoms) == bonded).all()
    verdicts = {finding.check: str(finding.verdict) for finding in check(relaxed, "structures").findings}
    for name in ("xh_spread", "min_distance", "hydrogen_bond_lengths", "duplicates", "split_leakage", "finite"):
        assert verdicts[name] == "pass", name


@pytest.mark.parametrize(("bound", "value"), [("NEAREST_GEOMETRY", 10.0), ("HIGHEST_ENERGY", 1e-6), ("BONDED", 0.98)])
def test_where_nothing_is_accepted_nothing_is_dropped(
    parameters, sampling, write, records, tmp_path, monkeypatch, bound, value
):
    path = write(tmp_path / "one.sdf.gz", records[:1])
    params = parameters(**sampling("rattle_relax", sigma=0.15))
    accepted, _ = regenerate.run([path], params)
    monkeypatch.setattr("hydrogate.pipeline.molecules.sampling.REDRAWS", 3)
    monkeypatch.setattr(f"hydrogate.pipeline.molecules.sampling.{bound}", value)
    other, _ = regenerate.run([path], params)
    assert len(other) == len(accepted) == 4
    assert not np.array_equal(other.positions, accepted.positions)


@pytest.mark.parametrize("method", ["rattle", "rattle_relax", "md"])
def test_pairs_lie_about_a_geometry(parameters, sampling, write, records, tmp_path, method):
    path = write(tmp_path / "two.sdf.gz", records[:2])
    params = parameters(**sampling(method, per_structure=5, pairs=2, step=0.03))
    data, _ = regenerate.run([path], params)
    assert data.partner.tolist() == [0, 1, 3, 2, 5, 4, 6, 7, 9, 8, 11, 10]
    assert data.parent.tolist() == [0] * 6 + [6] * 6
    apart = displacements(data, data.partner)
    paired = data.partner != np.arange(12)
    assert apart[paired] == pytest.approx(np.full(8, 0.06), rel=1e-4)
    assert (displacements(data, data.parent)[paired] > 0.06).all()
    for row in np.flatnonzero(paired):
        shift = data.positions[data.atoms_of(row)].mean(axis=0) - data.positions[data.atoms_of(data.partner[row])].mean(
            axis=0
        )
        assert np.abs(shift).max() < 1e-5
    write_dataset(data, tmp_path / "data.h5")
    assert read_dataset(tmp_path / "data.h5").partner.tolist() == data.partner.tolist()


@pytest.mark.parametrize("method", ["rattle_relax", "md"])
def test_a_molecule_without_a_force_field_is_set_aside(
    parameters, sampling, write, records, molecules, tmp_path, monkeypatch, method
):
    first, _ = molecules[:2]

    def none_for_the_first(mol: Any) -> Any:
        if mol.GetNumHeavyAtoms() == first.mol.GetNumHeavyAtoms():
            raise ValueError("neither MMFF nor UFF has parameters for this molecule")
        return force_field(mol)

    assert first.mol.GetNumHeavyAtoms() != molecules[1].mol.GetNumHeavyAtoms()
    monkeypatch.setattr("hydrogate.pipeline.molecules.sampling.force_field", none_for_the_first)
    path = write(tmp_path / "two.sdf.gz", records[:2])
    data, counts = regenerate.run([path], parameters(**sampling(method, per_structure=1)))
    assert data.source_index.tolist() == [1, 1]
    assert counts.n_quarantined == 1
    assert data.quarantine[0].reason.startswith("cannot sample geometries: neither MMFF nor UFF")


def test_without_pairs_there_is_no_such_column(data):
    assert data.partner is None


@pytest.mark.parametrize(
    ("method", "changes"), [("rattle", {"pairs": 2}), ("none", {"pairs": 1}), ("md", {"pairs": 1, "per_structure": 1})]
)
def test_pairs_without_room_are_refused(parameters, sampling, method, changes):
    with pytest.raises(ValidationError, match=r"pairs need \d additional geometries, but method"):
        parameters(**sampling(method, **changes))


@pytest.mark.parametrize("by", ["molecule", "scaffold"])
@pytest.mark.parametrize("method", ["rattle", "rattle_relax"])
def test_whatever_is_sampled_stays_with_its_root(parameters, sampling, shipped, source, method, by):
    params = parameters(**sampling(method, pairs=1), split={**shipped["regenerate"]["split"], "by": by})
    data, _ = regenerate.run([source], params)
    assert (data.parent[data.parent] == data.parent).all()
    assert (data.split == data.split[data.parent]).all()
    assert (data.split == data.split[data.partner]).all()
    assert len(set(data.split)) == 3
    assert {f.check: str(f.verdict) for f in check(data, "structures").findings}["split_leakage"] == "pass"


def test_order_and_processes_change_no_relaxed_geometry(parameters, sampling, write, records, tmp_path, monkeypatch):
    params = parameters(**sampling("rattle_relax", sigma=0.15, pairs=1))
    one, _ = regenerate.run([write(tmp_path / "a.sdf.gz", records[:4])], params)
    monkeypatch.setattr(regenerate, "SERIAL_BELOW", 0)
    monkeypatch.setattr(regenerate, "RECORDS_PER_CHUNK", 1)
    other, _ = regenerate.run([write(tmp_path / "b.sdf.gz", records[3::-1])], params, processes=2)
    for index in range(4):
        for k in range(4):
            here, there = one.atoms_of(4 * index + k), other.atoms_of(4 * (3 - index) + k)
            assert np.array_equal(one.positions[here], other.positions[there])


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("rattle_relax", {"sigma": 0.15, "per_structure": 2}),
        ("md", {"temperature": 600.0, "pairs": 1, "per_structure": 2}),
    ],
)
def test_the_contract_of_labels_can_judge_what_is_sampled(parameters, sampling, source, method, changes):
    data, _ = regenerate.run([source], parameters(**sampling(method, **changes)))
    teacher = make_teacher("xtb")
    answers = teacher.label([data.to_atoms(row) for row in range(len(data))])
    labelled = replace(
        data,
        energy=np.array([answer.energy for answer in answers]),
        forces=np.concatenate([answer.forces for answer in answers]).astype(np.float32),
        teacher=teacher.identity(),
    )
    verdicts = {finding.check: str(finding.verdict) for finding in check(labelled, "labels").findings}
    for name in ("sibling_work", "sibling_residual", "restoring_forces", "force_magnitude", "force_rms_per_structure"):
        assert verdicts[name] == "pass", name
    flipped = replace(labelled, forces=-labelled.forces)
    refused = {finding.check for finding in check(flipped, "labels").findings if finding.refuses()}
    assert {"sibling_work", "restoring_forces"} <= refused
