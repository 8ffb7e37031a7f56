"""Records as public tools write them, each with its right answer: what is read, what is quarantined and why.

Rebuilt by hand from public reports; `tests/pipeline/data/sdf` holds the files.
"""

import bz2
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hydrogate.checks.geometry.chemistry import molecule_key
from hydrogate.pipeline.molecules.records import resolve_input
from hydrogate.pipeline.molecules.sdf import Molecule, read_sdf
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

CASES = Path(__file__).resolve().parents[1] / "data" / "sdf"


def molecules(name: str) -> list[Molecule]:
    found = list(read_sdf(CASES / name))
    assert all(isinstance(one, Molecule) for one in found), found
    return [one for one in found if isinstance(one, Molecule)]


@pytest.mark.parametrize(
    ("name", "smiles", "multiplicity", "hydrogens"),
    [
        ("07_noimplicit_all.sdf", "CC(C)NC[C@@H](O)c1ccc(O)c(O)c1", 1, 17),
        ("07b_polar_noimplicit.sdf", "CC(C)NC[C@@H](O)c1ccc(O)c(O)c1", 1, 17),
        ("32_hhh.sdf", "CC(=O)Nc1ccc(O)cc1", 1, 9),
        ("11b_NHC_tripletRAD3.sdf", "CN1[C]N(C)C=C1", 3, 8),
        ("11c_ethyl_radical.sdf", "[CH2]C", 2, 5),
        ("12b_CD3_implicitH.sdf", "[2H]C([2H])([2H])C(=O)Nc1ccccc1", 1, 9),
    ],
)
def test_hydrogens_and_spin_are_those_of_the_valences(
    name: str, smiles: str, multiplicity: int, hydrogens: int
) -> None:
    (molecule,) = molecules(name)
    assert (molecule.smiles, molecule.spin_multiplicity, molecule.expected_hydrogens) == (
        smiles,
        multiplicity,
        hydrogens,
    )
    assert (molecule.to_atoms().numbers == 1).sum() == molecule.explicit_hydrogens  # deuterium is hydrogen


def test_a_singlet_carbene_stays_a_singlet(tmp_path: Path) -> None:
    text = (CASES / "11b_NHC_tripletRAD3.sdf").read_text()
    assert text.count("M  RAD  1   7   3") == 1
    (tmp_path / "singlet.sdf").write_text(text.replace("M  RAD  1   7   3", "M  RAD  1   7   1"))
    (carbene,) = read_sdf(tmp_path / "singlet.sdf")
    assert isinstance(carbene, Molecule)
    assert (carbene.spin_multiplicity, carbene.expected_hydrogens) == (1, 8)


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("06_2Dflag3D_planar.sdf", "has_3d", "2-D drawing"),
        ("06b_2Dflag3D_sp3.sdf", "has_3d", "2-D drawing"),
        ("06c_2Dflag3D_chain.sdf", "has_3d", "2-D drawing"),
        ("08_phosphate_single.sdf", "sanitizes", r"the bond of atom 15 \(P\) and atom \d+ \(O\) is written single"),
        ("08b_sulfonamide_single.sdf", "sanitizes", r"the bond of atom 7 \(S\) and atom 9 \(O\) is written single"),
        ("08d_allsingle.sdf", "sanitizes", r"the bond of atom 6 \(C\) and atom 7 \(O\) is written single"),
        ("36_amide.sdf", "sanitizes", r"the bond of atom 3 \(C\) and atom \d+ \(O\) is written single"),
        ("09b_carboxylate_noCHG_fullH.sdf", "sanitizes", r"atom 3 \(O\); an acid without its proton, or a missing"),
        ("13_dummy.sdf", "known_elements", r"a dummy atom"),
        ("21_dupatom.sdf", "has_3d", r"atom 0 \(C\) and atom 13 \(C\) are 0 Å apart"),
    ],
)
def test_what_no_record_may_be_is_quarantined_with_its_reason(name: str, check: str, words: str) -> None:
    (record,) = read_sdf(CASES / name)
    assert not isinstance(record, Molecule)
    assert record.check == check
    assert re.search(words, record.record.reason), record.record.reason


def test_one_bad_record_leaves_the_others_alone() -> None:
    first, *others = read_sdf(CASES / "40_min_crash.sdf")
    assert not isinstance(first, Molecule) and "are 0 Å apart" in first.record.reason
    assert all(isinstance(one, Molecule) for one in others)


@pytest.mark.parametrize(("name", "pack"), [("a.sd", bytes), ("a.sdf.gz", gzip.compress), ("a.mol.bz2", bz2.compress)])
def test_blocks_without_a_delimiter_are_records_of_their_own(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(pack((CASES / "01_nodelim.sdf").read_bytes()))
    (path,) = resolve_input(str(tmp_path)).paths
    assert len([one for one in read_sdf(path) if isinstance(one, Molecule)]) == 3


BLOCK = (CASES / "32_hhh.sdf").read_text().removesuffix("$$$$\n")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"{BLOCK} $$$$\n{BLOCK}", 2),  # indented, and none at the end
        (f"{BLOCK}> <score>\n1.2\n\n{BLOCK}$$$$\n", 2),  # a data item between two blocks
        (f"{BLOCK}> <pose>\n{BLOCK}\n> <score>\n1\n\n$$$$\n", 1),  # a block that is the value of a data item
        (f"{BLOCK.partition('M  END')[0]}{BLOCK}$$$$\n", 2),  # the first is truncated
    ],
    ids=["indented", "data between", "block as value", "truncated"],
)
def test_every_block_is_counted_once(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_text(text)
    records = list(read_sdf(tmp_path / "a.sdf"))
    assert len(records) == count
    assert isinstance(records[-1], Molecule)


def test_tautomers_are_one_molecule_for_the_split() -> None:
    one, two = molecules("22b_tautomers.sdf")
    assert molecule_key(one.smiles) == molecule_key(two.smiles)


def test_utf16_is_named() -> None:
    with pytest.raises(UnreadableFile, match="UTF-16"):
        list(read_sdf(CASES / "03_utf16.sdf"))
