"""Corruptions of SDF files that have occurred in practice, applied to the shipped sample before it is read."""

import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rdkit import Chem

from hydrogate.checks import Dataset, Severity, Verdict, check
from hydrogate.pipeline.formats import read
from hydrogate.pipeline.molecules.sdf import read_input
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.stages.regenerate import run

ROOT = Path(__file__).resolve().parents[3]


def records() -> list[Chem.Mol]:
    """Read the first records of the shipped sample as stored: heavy atoms in three dimensions, implicit hydrogens."""
    with gzip.open(ROOT / "samples" / "sample-1000-0.sdf.gz") as file:
        supplier = Chem.ForwardSDMolSupplier(file)
        return [next(supplier) for _ in range(60)]


def written(path: Path, molecules: Sequence[Chem.Mol]) -> Path:
    with Chem.SDWriter(str(path)) as writer:
        for molecule in molecules:
            writer.write(molecule)
    return path


def polar_only(molecule: Chem.Mol) -> Chem.Mol:
    full = Chem.RWMol(Chem.AddHs(molecule, addCoords=True))
    Chem.Kekulize(full, clearAromaticFlags=True)
    on_carbon = [
        atom.GetIdx()
        for atom in full.GetAtoms()
        if atom.GetAtomicNum() == 1 and atom.GetNeighbors()[0].GetAtomicNum() == 6
    ]
    for index in reversed(on_carbon):
        full.RemoveAtom(index)
    return full


def all_single(molecule: Chem.Mol) -> Chem.Mol:
    """Write each bond as a single bond, as programs do that know distances but no bond orders."""
    copy = Chem.RWMol(molecule)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    for bond in copy.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    return copy


def refusals(data: Dataset) -> set[str]:
    """Return the checks of contract ``structures`` that fail."""
    return {finding.check for finding in check(data, "structures").refusals()}


def test_a_partly_hydrogenated_sdf(tmp_path: Path) -> None:
    path = written(tmp_path / "docked.sdf", [polar_only(molecule) for molecule in records()])
    assert "explicit_hydrogens" in refusals(read(path))
    data, counts = read_input([path])
    report = check(data, "input", counts=counts)
    (finding,) = (finding for finding in report.findings if finding.check == "implicit_hydrogens")
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.WARN)
    assert finding.observed["mixed_molecules"] == counts.mixed > 30


def test_all_bonds_written_single(tmp_path: Path) -> None:
    """The bond block implies too many hydrogens; only bond lengths contradict it, and each record names such a bond."""
    params = load_params(ROOT / "params.yaml").regenerate
    made = partial(run, params=params, processes=1)
    good, _ = made([written(tmp_path / "good.sdf", records())])
    assert refusals(good) == set()
    bad, counts = made([written(tmp_path / "single.sdf", [all_single(molecule) for molecule in records()])])
    assert "quarantine_share" in refusals(bad)
    reasons = [record.reason for record in counts.quarantined["sanitizes"]]
    assert len(reasons) > counts.n_read / 2 and all("is written single and is" in reason for reason in reasons)


def test_all_bonds_written_single_beside_the_right_hydrogens(tmp_path: Path) -> None:
    full = [all_single(Chem.AddHs(molecule, addCoords=True)) for molecule in records()]
    assert "explicit_hydrogens" in refusals(read(written(tmp_path / "full.sdf", full)))
