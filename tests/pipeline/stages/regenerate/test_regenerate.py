"""Stage regenerate: every input record becomes a molecule with hydrogens, or is counted as quarantined."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from hydrogate.checks import check
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.stages import regenerate
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, read_dataset


def test_every_record_comes_out_with_its_hydrogens(data):
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


def test_heavy_atoms_do_not_move_at_all(molecules, data):
    for root, molecule in zip(range(0, 80, 4), molecules, strict=True):
        given = molecule.mol.GetConformer().GetPositions().astype(np.float32)
        assert np.array_equal(data.positions[data.atoms_of(root)][: len(given)], given)


def test_how_far_heavy_atoms_moved_is_recorded_of_the_given_geometries(data):
    assert data.heavy_atoms_moved is not None
    assert (data.heavy_atoms_moved[::4] == 0).all()
    assert np.isnan(data.heavy_atoms_moved.reshape(20, 4)[:, 1:]).all()
    verdicts = {finding.check: finding for finding in check(data, "structures").findings}
    assert (str(verdicts["heavy_atoms_moved"].verdict), verdicts["heavy_atoms_moved"].n) == ("pass", 20)


def test_a_reader_that_moves_heavy_atoms_is_refused(parameters, source, monkeypatch):
    def careless(mol: Any, **_: Any) -> Any:
        full = Chem.AddHs(mol, addCoords=True)
        rdForceFieldHelpers.MMFFOptimizeMolecule(full)
        return full

    monkeypatch.setattr(regenerate, "add_hydrogens", careless)
    moved, _ = regenerate.run([source], parameters())
    finding = next(f for f in check(moved, "structures").findings if f.check == "heavy_atoms_moved")
    assert str(finding.verdict) == "fail"
    assert finding.n_bad == 20


def test_the_data_set_holds_its_contract_where_it_is_large_enough(data):
    verdicts = {finding.check: str(finding.verdict) for finding in check(data, "structures").findings}
    for name in ("explicit_hydrogens", "xh_spread", "min_distance", "hydrogen_bond_lengths", "split_leakage", "finite"):
        assert verdicts[name] == "pass", name
    assert verdicts["quarantine_share"] == "pass"


def test_the_bug_is_reproduced_on_request(parameters, source):
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


def test_all_geometries_of_a_molecule_are_on_one_side(data):
    assert (data.split == data.split[data.parent]).all()
    roots = data.split[::4].tolist()
    assert {split: roots.count(split) for split in set(roots)} == {"train": 14, "valid": 2, "test": 4}


def test_neither_order_nor_neighbours_change_a_structure(parameters, write, records, tmp_path, data):
    reversed_file = write(tmp_path / "reversed.sdf.gz", records[::-1])
    other, _ = regenerate.run([reversed_file], parameters())
    for index in range(20):
        for k in range(4):
            here, there = data.atoms_of(4 * index + k), other.atoms_of(4 * (19 - index) + k)
            assert np.array_equal(data.positions[here], other.positions[there])
    assert data.split.reshape(20, 4)[:, 0].tolist() == other.split.reshape(20, 4)[::-1, 0].tolist()
    few, _ = regenerate.run([write(tmp_path / "few.sdf.gz", records[5:7])], parameters())
    assert np.array_equal(few.positions[few.atoms_of(3)], data.positions[data.atoms_of(23)])


def test_processes_change_nothing(parameters, source, data, monkeypatch):
    monkeypatch.setattr(regenerate, "SERIAL_BELOW", 0)
    monkeypatch.setattr(regenerate, "RECORDS_PER_CHUNK", 7)
    parallel, counts = regenerate.run([source], parameters(), processes=2)
    assert parallel.fingerprint() == data.fingerprint()
    assert counts.n_read == counts.molecules == 20


@pytest.mark.parametrize(("method", "changes"), [("rattle", {"reembed": True}), ("md", {}), ("rattle_relax", {})])
def test_what_needs_explicit_hydrogen_says_so(parameters, sampling, source, method, changes):
    with pytest.raises(ValueError, match=r"need explicit hydrogens; set regenerate\.add_hydrogens"):
        regenerate.run([source], parameters(add_hydrogens=False, **sampling(method), **changes))


def test_reembedding_throws_the_geometry_away(parameters, sampling, write, records, molecules, tmp_path):
    path = write(tmp_path / "two.sdf.gz", records[:2])
    data, _ = regenerate.run([path], parameters(reembed=True, **sampling("none")))
    given = molecules[0].mol.GetConformer().GetPositions()
    assert not np.allclose(data.positions[: len(given)], given, atol=0.1)
    assert data.heavy_atoms_moved is None
    assert data.expected_hydrogens.tolist() == np.add.reduceat(data.numbers == 1, data.offset[:-1]).tolist()


def test_bad_records_are_quarantined_and_counted(parameters, sampling, write, records, tmp_path):
    silane = records[0].replace(" C  ", " Ge ", 1)
    path = write(tmp_path / "some.sdf.gz", [records[0], silane, records[1], records[2][:200]])
    data, counts = regenerate.run([path], parameters(**sampling("none")))
    assert len(data) == counts.molecules == 2
    assert data.n_read == counts.n_read == 4
    assert [record.source_index for record in data.quarantine] == [1, 3]
    assert {name: len(records) for name, records in counts.quarantined.items() if records} == {
        "known_elements": 1,
        "readable": 1,
    }


def test_an_input_of_bad_records_alone_is_refused(parameters, write, records, tmp_path):
    path = write(tmp_path / "bad.sdf.gz", [records[0].replace(" C  ", " Ge ", 1)])
    with pytest.raises(UnreadableFile, match=r"bad\.sdf\.gz: its only record .* Ge\. Extend regenerate\.elements"):
        regenerate.run([path], parameters())


@pytest.fixture
def project(shipped, tmp_path):
    """Function that makes a folder whose ``params.yaml`` has changed parameters of the stage."""

    def make(**changes):
        content = shipped | {"regenerate": shipped["regenerate"] | changes}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return tmp_path

    return make


def stage(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hydrogate.pipeline.stages.regenerate"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_stage_writes_data_metrics_and_picture(project, source, tmp_path, monkeypatch):
    monkeypatch.chdir(project(input=str(source)))
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
def test_an_unusable_file_ends_the_stage_with_status_2_and_its_name(project, tmp_path, content):
    (tmp_path / "given").mkdir()
    (tmp_path / "given/odd.sdf").write_bytes(content)
    (tmp_path / "given/notes.txt").touch()
    finished = stage(project(input="given"))
    assert finished.returncode == 2
    assert finished.stdout == "1 of 2 files ignored: not .sdf, .sd or .mol\n"
    assert "odd.sdf: " in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_the_picture_shows_the_hydrogens_of_the_data(data):
    for row in range(0, 80, 4):
        drawn = regenerate._depiction(data, row)
        numbers = sorted(atom.GetAtomicNum() for atom in drawn.GetAtoms())
        assert numbers == sorted(data.numbers[data.atoms_of(row)].tolist())


def test_the_picture_of_the_bug_shows_no_hydrogen(parameters, source):
    data, _ = regenerate.run([source], parameters(add_hydrogens=False))
    drawn = [atom for row in range(0, 80, 4) for atom in regenerate._depiction(data, row).GetAtoms()]
    assert all(atom.GetAtomicNum() != 1 and not atom.GetTotalNumHs() for atom in drawn)
