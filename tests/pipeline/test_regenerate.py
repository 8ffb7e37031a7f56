"""Stage regenerate: what goes in comes out with its hydrogens, or is accounted for."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from hydrogate.checks import Dataset, check
from hydrogate.checks.observables import geometry
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline import regenerate
from hydrogate.pipeline.hdf5 import UnreadableFile, read_dataset, write_dataset
from hydrogate.pipeline.hydrogens import add_hydrogens, force_field
from hydrogate.pipeline.params import Regenerate, load_params
from hydrogate.pipeline.records import raw_records
from hydrogate.pipeline.sampling import HIGHEST_ENERGY, ForceField, _bonded, rattle
from hydrogate.pipeline.sdf import Molecule, read_record

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "samples" / "sample-1000-0.sdf.gz"
DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
RECORDS = list(islice(raw_records(SHIPPED), 20))


def parameters(**changes: Any) -> Regenerate:
    return Regenerate.model_validate({**DEFAULTS["regenerate"], **changes})


def sampling(method: str, **changes: Any) -> dict[str, Any]:
    return {"sampling": {**DEFAULTS["regenerate"]["sampling"], "method": method, **changes}}


def write(path: Path, records: list[str]) -> Path:
    path.write_bytes(gzip.compress("".join(f"{record}$$$$\n" for record in records).encode()))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("in") / "twenty.sdf.gz", RECORDS)


@pytest.fixture(scope="module")
def data(source: Path) -> Dataset:
    return regenerate.run([source], parameters())[0]


def molecules() -> list[Molecule]:
    records = [read_record(text, "twenty.sdf.gz", index) for index, text in enumerate(RECORDS)]
    return [record for record in records if isinstance(record, Molecule)]


def test_every_record_comes_out_with_its_hydrogens(data: Dataset) -> None:
    roots = np.flatnonzero(data.parent == np.arange(len(data)))
    assert len(data) == 80
    assert roots.tolist() == list(range(0, 80, 4))
    assert data.n_read == 20
    assert data.source_index[roots].tolist() == list(range(20))
    assert set(data.source) == {"twenty.sdf.gz"}
    hydrogens = np.add.reduceat(data.numbers == 1, data.offset[:-1])
    assert hydrogens.tolist() == data.expected_hydrogens.tolist()
    assert (data.charge == 0).all()
    assert (data.spin_multiplicity == 1).all()
    assert all(len(key) == 27 for key in data.inchikey)


def test_heavy_atoms_do_not_move_at_all(data: Dataset) -> None:
    for root, molecule in zip(range(0, 80, 4), molecules(), strict=True):
        given = molecule.mol.GetConformer().GetPositions().astype(np.float32)
        assert np.array_equal(data.positions[data.atoms_of(root)][: len(given)], given)


def test_how_far_heavy_atoms_moved_is_recorded_of_the_given_geometries(data: Dataset) -> None:
    assert data.heavy_atoms_moved is not None
    assert (data.heavy_atoms_moved[::4] == 0).all()
    assert np.isnan(data.heavy_atoms_moved.reshape(20, 4)[:, 1:]).all()
    verdicts = {finding.check: finding for finding in check(data, "structures").findings}
    assert (str(verdicts["heavy_atoms_moved"].verdict), verdicts["heavy_atoms_moved"].n) == ("pass", 20)


def test_a_reader_that_moves_heavy_atoms_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(mol: Any, **_: Any) -> Any:
        full = Chem.AddHs(mol, addCoords=True)
        rdForceFieldHelpers.MMFFOptimizeMolecule(full)
        return full

    monkeypatch.setattr(regenerate, "add_hydrogens", careless)
    moved, _ = regenerate.run([source], parameters())
    finding = next(f for f in check(moved, "structures").findings if f.check == "heavy_atoms_moved")
    assert str(finding.verdict) == "fail"
    assert finding.n_bad == 20


def test_the_data_set_holds_its_contract_where_it_is_large_enough(data: Dataset) -> None:
    verdicts = {finding.check: str(finding.verdict) for finding in check(data, "structures").findings}
    for name in ("explicit_hydrogens", "xh_spread", "min_distance", "hydrogen_bond_lengths", "split_leakage", "finite"):
        assert verdicts[name] == "pass", name
    assert verdicts["quarantine_share"] == "pass"


def test_without_further_geometries_hydrogen_has_no_spread(source: Path, data: Dataset) -> None:
    def spread(of: Dataset) -> float:
        shape = geometry(of)
        return float(shape.length[of.numbers[shape.partner] == 6].std())

    bare, _ = regenerate.run([source], parameters(**sampling("none")))
    assert len(bare) == 20
    assert spread(bare) < 0.02 < spread(data)


def test_the_bug_is_reproduced_on_request(source: Path) -> None:
    data, counts = regenerate.run([source], parameters(add_hydrogens=False))
    # In the lowest spin that its electrons allow, so that a teacher can label what is left.
    electrons = np.add.reduceat(data.numbers, data.offset[:-1], dtype=int) - data.charge
    assert set(data.spin_multiplicity.tolist()) == {1, 2}
    np.testing.assert_array_equal(data.spin_multiplicity, 1 + electrons % 2)
    assert not (data.numbers == 1).any()
    assert (data.expected_hydrogens > 0).all()
    assert counts.implicit_hydrogens == int(data.expected_hydrogens[::4].sum())
    finding = next(f for f in check(data, "structures").findings if f.check == "explicit_hydrogens")
    assert str(finding.verdict) == "fail"
    assert finding.n_bad == len(data)


def test_all_geometries_of_a_molecule_are_on_one_side(data: Dataset) -> None:
    assert (data.split == data.split[data.parent]).all()
    roots = data.split[::4].tolist()
    assert {split: roots.count(split) for split in set(roots)} == {"train": 14, "valid": 2, "test": 4}


def test_neither_order_nor_neighbours_change_a_structure(tmp_path: Path, data: Dataset) -> None:
    reversed_file = write(tmp_path / "reversed.sdf.gz", RECORDS[::-1])
    other, _ = regenerate.run([reversed_file], parameters())
    for index in range(20):
        for k in range(4):
            here, there = data.atoms_of(4 * index + k), other.atoms_of(4 * (19 - index) + k)
            assert np.array_equal(data.positions[here], other.positions[there])
    assert data.split.reshape(20, 4)[:, 0].tolist() == other.split.reshape(20, 4)[::-1, 0].tolist()
    few, _ = regenerate.run([write(tmp_path / "few.sdf.gz", RECORDS[5:7])], parameters())
    assert np.array_equal(few.positions[few.atoms_of(3)], data.positions[data.atoms_of(23)])


def test_the_seed_moves_the_rattled_geometries(source: Path, data: Dataset) -> None:
    other, _ = regenerate.run([source], parameters(seed=1))
    assert np.array_equal(other.positions[other.atoms_of(0)], data.positions[data.atoms_of(0)])
    assert not np.allclose(other.positions[other.atoms_of(1)], data.positions[data.atoms_of(1)])


def test_processes_change_nothing(source: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regenerate, "SERIAL_BELOW", 0)
    monkeypatch.setattr(regenerate, "RECORDS_PER_CHUNK", 7)
    parallel, counts = regenerate.run([source], parameters(), processes=2)
    assert parallel.fingerprint() == data.fingerprint()
    assert counts.n_read == counts.molecules == 20


def test_rattled_geometries_keep_their_distance(source: Path) -> None:
    wild, _ = regenerate.run([source], parameters(**sampling("rattle", sigma=0.12, per_structure=2)))
    assert len(wild) == 60
    assert geometry(wild).min_distance.min() >= 0.6


@pytest.mark.parametrize(
    ("smiles", "short", "least"),
    [("CC#N", 0.0, 1.01), ("CC#CC", 0.0, 1.04), ("CC#N", 0.08, 1.01), ("[C-]#[O+]", 0.0, 0.95)],
)
def test_a_stiff_bond_is_not_shortened_by_much(smiles: str, short: float, least: float) -> None:
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


def test_a_bond_that_no_force_field_knows_is_rattled_all_the_same() -> None:
    mol = Chem.MolFromXYZBlock("2\n\nC 0 0 0\nSe 0 0 1.7\n")
    bonded = Chem.RWMol(mol)
    bonded.AddBond(0, 1, Chem.BondType.DOUBLE)
    Chem.SanitizeMol(bonded)
    drawn = rattle(bonded, 100, 0.05, np.random.default_rng(0), 15.0)
    assert np.ptp([positions[1, 2] - positions[0, 2] for positions in drawn]) > 0.2


def test_hopeless_rattling_drops_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrogate.pipeline.sampling.REDRAWS", 3)
    data, _ = regenerate.run([source], parameters(**sampling("rattle", sigma=2.0)))
    assert len(data) == 80
    refused = {f.check for f in check(data, "structures").findings if f.refuses()}
    assert "min_distance" in refused


def test_md_geometries_scatter_as_a_temperature_does(tmp_path: Path) -> None:
    path = write(tmp_path / "three.sdf.gz", RECORDS[:3])
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
    """RMS distance (Å) of each structure from structure ``other[row]``."""
    apart = data.positions - np.concatenate([data.positions[data.atoms_of(row)] for row in other.tolist()])
    return np.sqrt(np.add.reduceat((apart.astype(float) ** 2).sum(axis=1), data.offset[:-1]) / data.sizes)


def test_relaxed_geometries_are_far_away_and_not_high_up(source: Path, data: Dataset) -> None:
    relaxed, _ = regenerate.run([source], parameters(**sampling("rattle_relax", sigma=0.15)))
    further = np.flatnonzero(relaxed.parent != np.arange(80))
    assert len(relaxed) == 80
    assert np.median(displacements(relaxed, relaxed.parent)[further]) > 1.4 * np.median(
        displacements(data, data.parent)[further]
    )
    for row, molecule in zip(range(0, 80, 4), molecules(), strict=True):
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    path = write(tmp_path / "one.sdf.gz", RECORDS[:1])
    params = parameters(**sampling("rattle_relax", sigma=0.15))
    accepted, _ = regenerate.run([path], params)
    monkeypatch.setattr("hydrogate.pipeline.sampling.REDRAWS", 3)
    monkeypatch.setattr(f"hydrogate.pipeline.sampling.{bound}", value)
    other, _ = regenerate.run([path], params)
    assert len(other) == len(accepted) == 4
    assert not np.array_equal(other.positions, accepted.positions)


@pytest.mark.parametrize("method", ["rattle", "rattle_relax", "md"])
def test_pairs_lie_about_a_geometry(tmp_path: Path, method: str) -> None:
    path = write(tmp_path / "two.sdf.gz", RECORDS[:2])
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    first, _ = molecules()[:2]

    def none_for_the_first(mol: Any) -> Any:
        if mol.GetNumHeavyAtoms() == first.mol.GetNumHeavyAtoms():
            raise ValueError("neither MMFF nor UFF has parameters for this molecule")
        return force_field(mol)

    assert first.mol.GetNumHeavyAtoms() != molecules()[1].mol.GetNumHeavyAtoms()
    monkeypatch.setattr("hydrogate.pipeline.sampling.force_field", none_for_the_first)
    path = write(tmp_path / "two.sdf.gz", RECORDS[:2])
    data, counts = regenerate.run([path], parameters(**sampling(method, per_structure=1)))
    assert data.source_index.tolist() == [1, 1]
    assert counts.n_quarantined == 1
    assert data.quarantine[0].reason.startswith("no geometries can be sampled: neither MMFF nor UFF")


def test_without_pairs_there_is_no_such_column(data: Dataset) -> None:
    assert data.partner is None


@pytest.mark.parametrize(
    ("method", "changes"), [("rattle", {"pairs": 2}), ("none", {"pairs": 1}), ("md", {"pairs": 1, "per_structure": 1})]
)
def test_pairs_without_room_are_refused(method: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"pairs take \d further geometries, and method"):
        parameters(**sampling(method, **changes))


@pytest.mark.parametrize("by", ["molecule", "scaffold"])
@pytest.mark.parametrize("method", ["rattle", "rattle_relax"])
def test_whatever_is_sampled_stays_with_its_root(source: Path, method: str, by: str) -> None:
    params = parameters(**sampling(method, pairs=1), split={**DEFAULTS["regenerate"]["split"], "by": by})
    data, _ = regenerate.run([source], params)
    assert (data.parent[data.parent] == data.parent).all()
    assert (data.split == data.split[data.parent]).all()
    assert (data.split == data.split[data.partner]).all()
    assert len(set(data.split)) == 3
    assert {f.check: str(f.verdict) for f in check(data, "structures").findings}["split_leakage"] == "pass"


def test_order_and_processes_change_no_relaxed_geometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = parameters(**sampling("rattle_relax", sigma=0.15, pairs=1))
    one, _ = regenerate.run([write(tmp_path / "a.sdf.gz", RECORDS[:4])], params)
    monkeypatch.setattr(regenerate, "SERIAL_BELOW", 0)
    monkeypatch.setattr(regenerate, "RECORDS_PER_CHUNK", 1)
    other, _ = regenerate.run([write(tmp_path / "b.sdf.gz", RECORDS[3::-1])], params, processes=2)
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
def test_the_contract_of_labels_can_judge_what_is_sampled(source: Path, method: str, changes: dict[str, Any]) -> None:
    data, _ = regenerate.run([source], parameters(**sampling(method, **changes)))
    teacher = make_teacher("xtb")
    answers = teacher.label([data.to_atoms(row) for row in range(len(data))])
    labelled = replace(
        data,
        energy=np.array([answer.energy for answer in answers]),
        forces=np.concatenate([answer.forces for answer in answers]).astype(np.float32),
        teacher=teacher.identity(),
        _cache={},
    )
    verdicts = {finding.check: str(finding.verdict) for finding in check(labelled, "labels").findings}
    for name in ("sibling_work", "sibling_residual", "restoring_forces", "force_magnitude", "force_rms_per_structure"):
        assert verdicts[name] == "pass", name
    flipped = replace(labelled, forces=-labelled.forces, _cache={})
    refused = {finding.check for finding in check(flipped, "labels").findings if finding.refuses()}
    assert {"sibling_work", "restoring_forces"} <= refused


@pytest.mark.parametrize("changes", [{"reembed": True}, sampling("md"), sampling("rattle_relax")])
def test_what_needs_explicit_hydrogen_says_so(source: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"need explicit hydrogens; set regenerate\.add_hydrogens"):
        regenerate.run([source], parameters(add_hydrogens=False, **changes))


def test_reembedding_throws_the_geometry_away(tmp_path: Path) -> None:
    path = write(tmp_path / "two.sdf.gz", RECORDS[:2])
    data, _ = regenerate.run([path], parameters(reembed=True, **sampling("none")))
    given = molecules()[0].mol.GetConformer().GetPositions()
    assert not np.allclose(data.positions[: len(given)], given, atol=0.1)
    assert data.heavy_atoms_moved is None
    assert data.expected_hydrogens.tolist() == np.add.reduceat(data.numbers == 1, data.offset[:-1]).tolist()


def test_bad_records_are_quarantined_and_counted(tmp_path: Path) -> None:
    silane = RECORDS[0].replace(" C  ", " Ge ", 1)
    path = write(tmp_path / "some.sdf.gz", [RECORDS[0], silane, RECORDS[1], RECORDS[2][:200]])
    data, counts = regenerate.run([path], parameters(**sampling("none")))
    assert len(data) == counts.molecules == 2
    assert data.n_read == counts.n_read == 4
    assert [record.source_index for record in data.quarantine] == [1, 3]
    assert {name: len(records) for name, records in counts.quarantined.items() if records} == {
        "known_elements": 1,
        "readable": 1,
    }


def test_an_input_of_bad_records_alone_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.sdf.gz", [RECORDS[0].replace(" C  ", " Ge ", 1)])
    with pytest.raises(UnreadableFile, match=r"bad\.sdf\.gz: its only record .* Ge\. Extend regenerate\.elements"):
        regenerate.run([path], parameters())


def project(folder: Path, **changes: Any) -> Path:
    content = {**DEFAULTS, "regenerate": {**DEFAULTS["regenerate"], **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def stage(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hydrogate.pipeline.regenerate"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_stage_writes_data_metrics_and_picture(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path, input=str(source)))
    assert regenerate.main([]) == 0
    data = read_dataset(tmp_path / "data" / "structures.h5")
    assert data.fingerprint() == regenerate.run([source], load_params().regenerate)[0].fingerprint()
    report = json.loads((tmp_path / "metrics" / "input.json").read_text(encoding="utf-8"))
    assert report["contract"] == "input"
    assert report["holds"] is True
    picture = (tmp_path / "plots" / "structures.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    first = (tmp_path / "data" / "structures.h5").read_bytes()
    assert regenerate.main([]) == 0
    assert (tmp_path / "data" / "structures.h5").read_bytes() == first
    assert (tmp_path / "plots" / "structures.png").read_bytes() == picture


@pytest.mark.parametrize("content", [b"", b"no molecules here\n"], ids=["empty", "text"])
def test_an_unusable_file_ends_the_stage_with_status_2_and_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given/odd.sdf").write_bytes(content)
    (tmp_path / "given/notes.txt").touch()
    finished = stage(project(tmp_path, input="given"))
    assert finished.returncode == 2
    assert finished.stdout == "1 of 2 files left out: no .sdf or .sdf.gz\n"
    assert "odd.sdf: " in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_the_picture_shows_the_hydrogens_of_the_data(data: Dataset) -> None:
    for row in range(0, 80, 4):
        drawn = regenerate._depiction(data, row)
        numbers = sorted(atom.GetAtomicNum() for atom in drawn.GetAtoms())
        assert numbers == sorted(data.numbers[data.atoms_of(row)].tolist())


def test_the_picture_of_the_bug_shows_no_hydrogen(source: Path) -> None:
    data, _ = regenerate.run([source], parameters(add_hydrogens=False))
    drawn = [atom for row in range(0, 80, 4) for atom in regenerate._depiction(data, row).GetAtoms()]
    assert all(atom.GetAtomicNum() != 1 and not atom.GetTotalNumHs() for atom in drawn)
