"""Sample: the list of known drugs, and molecules that depend only on the seed."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, rdBase
from rdkit.Chem.inchi import MolToInchiKey
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from hydrogate.pipeline.molecules.sample import ELEMENTS, known_drugs, make_sample, write_sample
from hydrogate.pipeline.molecules.sdf import Molecule, raw_records, read_sdf

SHIPPED = Path(__file__).resolve().parents[3] / "samples" / "sample-1000-0.sdf.gz"


def test_every_known_drug_parses_once_and_is_neutral() -> None:
    drugs = known_drugs()
    molecules = [Chem.MolFromSmiles(smiles) for smiles, _ in drugs]
    assert len(drugs) >= 150
    assert all(mol is not None and Chem.GetFormalCharge(mol) == 0 for mol in molecules)
    assert len({MolToInchiKey(mol) for mol in molecules}) == len({name for _, name in drugs}) == len(drugs)


@pytest.mark.parametrize(
    ("name", "formula"), [("aspirin", "C9H8O4"), ("caffeine", "C8H10N4O2"), ("morphine", "C17H19NO3")]
)
def test_known_drugs_are_what_they_are_called(name: str, formula: str) -> None:
    smiles = {name: smiles for smiles, name in known_drugs()}[name]
    assert CalcMolFormula(Chem.MolFromSmiles(smiles)) == formula


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.sdf.gz", "two.sdf.gz", "other.sdf.gz")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        write_sample(path, 6, seed, progress=False)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first != other
    assert first[4:8] == b"\0\0\0\0"  # the time in the gzip header


def test_the_shipped_sample_follows_from_the_code() -> None:
    shipped = list(islice(raw_records(SHIPPED), 8))
    made = [molecule.molblock for molecule in islice(make_sample(1000, 0, processes=1), 8)]
    if f"RDKit {rdBase.rdkitVersion}" in shipped[0]:
        assert made == shipped
    else:  # another RDKit version embeds differently; the molecules are the same
        assert [block.split("\n")[0] for block in made] == [block.split("\n")[0] for block in shipped]


def test_the_shipped_sample_is_what_a_generator_writes() -> None:
    records = list(read_sdf(SHIPPED))
    molecules = [record for record in records if isinstance(record, Molecule)]
    assert len(molecules) == len(records) == 1000
    assert len({molecule.inchikey[:14] for molecule in molecules}) == 1000
    assert SHIPPED.stat().st_size < 1_000_000
    present = dict.fromkeys(ELEMENTS - {"H"}, 0)
    for molecule in molecules:
        assert molecule.explicit_hydrogens == 0
        assert molecule.charge == 0
        assert molecule.spin_multiplicity == 1
        assert 8 <= molecule.mol.GetNumAtoms() <= 30
        for symbol in {atom.GetSymbol() for atom in molecule.mol.GetAtoms()}:
            present[symbol] += 1
    assert min(present.values()) >= 40
    hydrogens = sum(molecule.expected_hydrogens for molecule in molecules)
    heavy = sum(molecule.mol.GetNumAtoms() for molecule in molecules)
    assert 0.44 <= hydrogens / (hydrogens + heavy) <= 0.50


def test_distorted_bonds_still_match_their_orders() -> None:
    lengths: dict[str, list[float]] = {"CC": [], "C=C": []}
    for record in islice(read_sdf(SHIPPED), 200):
        assert isinstance(record, Molecule)
        positions = record.mol.GetConformer().GetPositions()
        for bond in record.mol.GetBonds():
            ends = bond.GetBeginAtom(), bond.GetEndAtom()
            if any(end.GetSymbol() != "C" for end in ends) or bond.GetIsAromatic():
                continue
            length = float(np.linalg.norm(positions[ends[0].GetIdx()] - positions[ends[1].GetIdx()]))
            if bond.GetBondTypeAsDouble() == 2:
                lengths["C=C"].append(length)
            elif all(end.GetHybridization() == Chem.HybridizationType.SP3 for end in ends):
                lengths["CC"].append(length)
    assert np.mean(lengths["CC"]) >= 1.50
    assert np.mean(lengths["C=C"]) <= 1.38
    assert 0.02 < np.std(lengths["CC"]) < 0.06


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (5, -1)])
def test_numbers_out_of_range_are_refused(count: int, seed: int) -> None:
    with pytest.raises(ValueError, match=f"got count {count}, seed {seed}"):
        make_sample(count, seed)


def test_a_sample_is_an_sdf_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it \.sdf or \.sdf\.gz"):
        write_sample(tmp_path / "sample.xyz", 5)
    assert not list(tmp_path.iterdir())


def test_a_plain_file_holds_what_the_gzipped_one_holds(tmp_path: Path) -> None:
    write_sample(tmp_path / "a.sdf", 2, progress=False)
    write_sample(tmp_path / "a.sdf.gz", 2, progress=False)
    assert (tmp_path / "a.sdf").read_bytes() == gzip.decompress((tmp_path / "a.sdf.gz").read_bytes())


def test_a_sample_that_is_there_is_left_and_another_file_of_its_name_is_refused(call, tmp_path: Path) -> None:
    drawn = ("sample", "--count", "2", "--seed", "5")
    path = tmp_path / "samples/sample-2-5.sdf.gz"
    first = call(*drawn)
    assert (first.status, first.out) == (0, "samples/sample-2-5.sdf.gz\n")
    made, changed = path.read_bytes(), path.stat().st_mtime_ns
    again = call(*drawn)
    assert (again.status, again.out) == first[:2]  # a script can use the file name from stdout
    assert "already has the 2 molecules of seed 5; not changed" in again.err
    assert path.stat().st_mtime_ns == changed
    text = gzip.decompress(made).decode()
    one, another, damaged = text.partition("$$$$\n")[0] + "$$$$\n", text.replace("sample-5-", "sample-6-"), made[:-50]
    for content in (one.encode(), another.encode(), damaged, b""):
        path.write_bytes(content)
        refused = call(*drawn)
        assert (refused.status, refused.out) == (2, "")
        assert "samples/sample-2-5.sdf.gz: already exists" in refused.err
        assert path.read_bytes() == content
    assert call(*drawn, "--force").status == 0
    assert path.read_bytes() == made


def test_what_cannot_be_written_is_refused_before_any_molecule_is_made(call, tmp_path: Path) -> None:
    (tmp_path / "mine.sdf").write_text("of somebody")
    for path, said in (("mine.sdf", "already exists"), ("mine.sdf/new.sdf", "cannot write to")):
        result = call("sample", "--count", "1", "--output", path)
        assert (result.status, result.out) == (2, "")
        assert said in result.err
    assert (tmp_path / "mine.sdf").read_text() == "of somebody"
    assert call("sample", "--count", "1", "--output", "mine.sdf", "--force").status == 0
    assert "$$$$" in (tmp_path / "mine.sdf").read_text()
