"""SDF reader: every record becomes a molecule or is quarantined with a reason; invalid files are rejected by name."""

import gzip
import re
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import AllChem

from hydrogate.checks.data.input_counts import SETTING_ASIDE
from hydrogate.pipeline.molecules.hydrogens import add_hydrogens, force_field
from hydrogate.pipeline.molecules.sdf import Molecule, SetAside, read_input, read_record, read_records, read_sdf
from hydrogate.pipeline.storage.hdf5 import UnreadableFile


def block(smiles: str, *, explicit: bool = False, seed: int = 1) -> str:
    """Return one record with 3-D coordinates, ``$$$$`` included."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    return Chem.MolToMolBlock(mol if explicit else Chem.RemoveAllHs(mol)) + "$$$$\n"


def drawing(smiles: str) -> str:
    mol = Chem.MolFromSmiles(smiles)
    AllChem.Compute2DCoords(mol)
    return Chem.MolToMolBlock(mol) + "$$$$\n"


@pytest.fixture
def sdf(tmp_path: Path) -> Callable[..., Path]:
    def write(*records: str, name: str = "in.sdf") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(records).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return write


def only(record: Molecule | SetAside) -> Molecule:
    assert isinstance(record, Molecule), record
    return record


def reason(record: Molecule | SetAside, check: str) -> str:
    assert isinstance(record, SetAside), record
    assert record.check == check
    return record.record.reason


@pytest.mark.parametrize("name", ["in.sdf", "in.sdf.gz"])
def test_a_record_is_read_as_written(sdf: Callable[..., Path], name: str) -> None:
    (record,) = read_sdf(sdf(block("CC(=O)Oc1ccccc1C(=O)O"), name=name))
    aspirin = only(record)
    assert (aspirin.source, aspirin.index) == (name, 0)
    assert aspirin.mol.GetNumAtoms() == 13
    assert (aspirin.explicit_hydrogens, aspirin.expected_hydrogens) == (0, 8)
    assert (aspirin.charge, aspirin.spin_multiplicity) == (0, 1)
    assert aspirin.smiles == "CC(=O)Oc1ccccc1C(=O)O"
    assert aspirin.inchikey == "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"


@pytest.mark.parametrize(
    ("smiles", "charge", "multiplicity", "hydrogens"),
    [("CC(=O)[O-]", -1, 1, 3), ("C[NH3+]", 1, 1, 6), ("[CH3]", 0, 2, 3), ("C[N+](=O)[O-]", 0, 1, 3), ("O", 0, 1, 2)],
)
def test_charge_multiplicity_and_expected_hydrogens(
    smiles: str, charge: int, multiplicity: int, hydrogens: int
) -> None:
    for explicit in (False, True):
        record = only(read_record(block(smiles, explicit=explicit), "x.sdf", 0))
        assert (record.charge, record.spin_multiplicity, record.expected_hydrogens) == (charge, multiplicity, hydrogens)
        assert record.explicit_hydrogens == (hydrogens if explicit else 0)


def test_stereochemistry_comes_from_the_coordinates() -> None:
    seen = {only(read_record(block(smiles), "x.sdf", 0)).smiles for smiles in ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O")}
    assert seen == {"C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"}


def mixed_ethanol() -> str:
    """Return ethanol with an explicit hydroxyl hydrogen and five implicit hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    edited = Chem.RWMol(mol)
    for atom in range(7, 2, -1):
        edited.RemoveAtom(atom)
    return Chem.MolToMolBlock(edited) + "$$$$\n"


def test_counts_of_implicit_explicit_and_mixed_records(sdf: Callable[..., Path]) -> None:
    path = sdf(block("CCO"), block("CCO", explicit=True), mixed_ethanol(), block("ClC(Cl)(Cl)Cl"))
    data, counts = read_input([path])
    assert (counts.fully_implicit, counts.fully_explicit, counts.mixed, counts.without_hydrogen) == (1, 1, 1, 1)
    assert (counts.implicit_hydrogens, counts.explicit_hydrogens) == (6 + 5, 6 + 1)
    assert counts.n_read == counts.molecules == len(data) == 4
    assert data.expected_hydrogens.tolist() == [6, 6, 6, 0]
    assert [int((data.numbers[data.atoms_of(row)] == 1).sum()) for row in range(4)] == [0, 6, 1, 0]


def edited(record: str, line: int, text: str) -> str:
    lines = record.split("\n")
    lines[line] = text
    return "\n".join(lines)


def with_coordinates(record: str, text: str) -> str:
    """Every coordinate replaced by ``text``."""
    atom = re.compile(r"^(\s+-?\d+\.\d{4}){3}")
    return "\n".join(3 * text + line[30:] if atom.match(line) else line for line in record.split("\n"))


ETHANOL = block("CCO")
ISOBUTANE = block("CC(C)C")
V3000 = Chem.MolToV3KMolBlock(Chem.MolFromMolBlock(ETHANOL))
BAD_RECORDS = {
    "drawing": (drawing("CC(C)Cc1ccccc1"), "has_3d", "2-D drawing"),
    "flat and tetrahedral": (drawing("CC(C)(C)O").replace("2D", "3D"), "has_3d", "is tetrahedral"),
    "zero": (with_coordinates(ETHANOL, "    0.0000"), "has_3d", "all coordinates are zero"),
    "nan": (with_coordinates(ETHANOL, "       nan"), "readable", "Cannot process coordinates"),
    "v3000 nan": (re.sub(r" C \S+ \S+ \S+ ", " C nan nan nan ", V3000), "has_3d", "not finite"),
    "valence": (ISOBUTANE.replace("2  3  1  0", "2  3  3  0"), "sanitizes", "Explicit valence for atom # 1 C"),
    **{
        f"bond of type {kind}": (ETHANOL.replace("  2  3  1", f"  2  3  {kind}"), "sanitizes", f"2 has {what}")
        for kind, what in {0: "no order", 4: "an aromatic order outside a ring", 5: "no order", 8: "no order"}.items()
    },
    "element": (block("C[Si](C)(C)C"), "known_elements", "Si"),
    "dummy": (edited(ETHANOL, 6, ETHANOL.split("\n")[6].replace(" O ", " * ")), "known_elements", "*"),
    "truncated": (ETHANOL[: len(ETHANOL) // 2], "readable", "truncated record"),
    "no atoms": ("\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n", "readable", "without atoms"),
    "empty": ("\n", "readable", "empty record"),
    "counts": (edited(ETHANOL, 3, " abc  2  0  0  0  0  0  0  0  0999 V2000"), "readable", "unparsable record"),
    "cut counts": (edited(ETHANOL, 3, "1 0  2  0  0  0  0  0  0  0999 V2000"), "readable", "unparsable record"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_set_aside_and_its_neighbours_are_not(
    sdf: Callable[..., Path], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text, check, wanted = BAD_RECORDS[name]
    text = text.removesuffix("$$$$\n") + "\n$$$$\n"
    records = list(read_sdf(sdf(ETHANOL, text, ETHANOL), elements=["H", "C", "N", "O"]))
    assert wanted in reason(records[1], check)
    assert check in SETTING_ASIDE
    assert records[1].record[:2] == ("in.sdf", 1)
    assert [only(records[row]).smiles for row in (0, 2)] == ["CCO", "CCO"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("smiles", ["c1ccccc1", "CC", "O=C=O", "C"])
def test_flat_molecules_are_not_taken_for_drawings(smiles: str) -> None:
    mol = Chem.MolFromSmiles(smiles)
    AllChem.Compute2DCoords(mol)
    drawn = mol.GetConformer().GetPositions()
    mol.GetConformer().SetPositions(drawn * 1.39 / 1.5)  # from a drawing's bonds to those of benzene
    flat = Chem.MolToMolBlock(mol).replace("2D", "3D")
    assert only(read_record(flat, "x.sdf", 0)).smiles == smiles


@pytest.mark.parametrize("field", ["  0  1", "  0 15", "999", " 15"])
def test_valence_and_hydrogen_fields_take_no_hydrogen_away(field: str) -> None:
    """Columns of the oxygen's line: the hydrogen count, the valence."""
    marked = re.sub(r"( O .{6}).{3}", rf"\g<1>{field[:3]}", ETHANOL) if len(field) > 3 else ETHANOL
    marked = re.sub(r"( O .{15}).{3}", rf"\g<1>{field[-3:]}", marked)
    assert marked != ETHANOL
    molecule = only(read_record(marked, "x.sdf", 0))
    assert (molecule.smiles, molecule.expected_hydrogens, molecule.spin_multiplicity) == ("CCO", 6, 1)


def test_a_file_cut_in_its_last_record_loses_that_record_alone(sdf: Callable[..., Path]) -> None:
    cut = block("c1ccccc1")[:-80]
    records = list(read_sdf(sdf(ETHANOL, cut)))
    assert only(records[0]).smiles == "CCO"
    assert "truncated record: it ends before `M  END`" in reason(records[1], "readable")


def test_a_last_record_without_separator_is_whole(sdf: Callable[..., Path]) -> None:
    assert len([only(r) for r in read_sdf(sdf(ETHANOL, ETHANOL.removesuffix("$$$$\n")))]) == 2


def test_windows_line_ends(sdf: Callable[..., Path]) -> None:
    assert only(next(read_sdf(sdf(ETHANOL.replace("\n", "\r\n"))))).smiles == "CCO"


def test_v3000(sdf: Callable[..., Path]) -> None:
    record = only(read_record(ETHANOL, "x.sdf", 0))
    path = sdf(Chem.MolToV3KMolBlock(record.mol) + "$$$$\n")
    assert only(next(read_sdf(path))).smiles == "CCO"


def ctab(atoms: int, bonds: Iterable[tuple[int, int]], split: str = " ") -> str:
    """Return a V3000 record of carbon atoms; ``split`` can break the counts line in two."""
    lines = [f"{i} 1 {one} {two}" for i, (one, two) in enumerate(bonds, 1)]
    body = [f"COUNTS {atoms}{split}{len(lines)} 0 0 0", "BEGIN ATOM"]
    body += [f"{i} C {i} {i % 7} {i % 5} 0" for i in range(1, atoms + 1)]
    body += ["END ATOM", "BEGIN BOND", *lines, "END BOND", "END CTAB"]
    return "\n\n\n  0  0  0     0  0            999 V3000\n" + "".join(
        f"M  V30 {line}\n" for line in ["BEGIN CTAB", *body]
    ) + "M  END\n"  # fmt: skip


@pytest.mark.parametrize("split", [" ", " -\nM  V30 "])
@pytest.mark.parametrize(
    ("atoms", "bonds"),
    [(20_000, list(pairwise(range(1, 20_001)))), (100, list(combinations(range(1, 101), 2)))],
    ids=["chain", "complete graph"],
)
def test_what_would_end_the_process_in_rdkit_is_set_aside(atoms: int, bonds: list[tuple[int, int]], split: str) -> None:
    said = reason(read_record(ctab(atoms, bonds, split), "x.sdf", 0), "readable")
    size = f"{atoms} atoms and {len(bonds)} bonds"
    assert said.startswith(f"record too large: {size}; the limits are 2500 atoms and 250 rings")


def test_a_record_as_large_as_may_be_is_read() -> None:
    chain = only(read_record(ctab(2500, pairwise(range(1, 2501))), "x.sdf", 0))
    assert chain.mol.GetNumAtoms() == 2500


@pytest.mark.parametrize("line", [4, 5, 8])
def test_letters_of_other_alphabets_where_numbers_belong(line: int) -> None:
    """RDKit cuts columns in the middle of a UTF-8 character; its log is then not valid UTF-8."""
    text = edited(ETHANOL, line - 1, "  3\ufffdä" + ETHANOL.split("\n")[line - 1][5:])
    assert "unparsable record" in reason(read_record(text, "x.sdf", 0), "readable")


def test_a_name_of_another_alphabet_is_no_fault() -> None:
    assert only(read_record("Säure \u202e \ufffd" + ETHANOL, "x.sdf", 0)).smiles == "CCO"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_a_spoilt_record_is_read_or_set_aside(data: st.DataObject) -> None:
    text = ETHANOL
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(text)))
        put = data.draw(
            st.sampled_from(["", "\n", "-1", "999", "nan", "*", "\x00", "ä", "M  CHG  1   1  -9\n", "M  END\n"])
        )
        text = text[:where] + put + text[where + data.draw(st.integers(0, 40)) :]
    record = read_record(text, "x.sdf", 0)
    assert isinstance(record, Molecule) or record.check in SETTING_ASIDE


FLAT = "a 2-D drawing: all z coordinates are equal and the header does not say 3D"
EMBED = "Convert 2-D drawings to 3-D coordinates before using them as input."


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (
            [drawing("CCO"), drawing("CC(C)C"), drawing("CCN")],
            f"none of its 3 records is a valid molecule: {FLAT} (3 of 3). {EMBED}",
        ),
        ([drawing("CCO")], f"its only record is not a valid molecule: {FLAT}. {EMBED}"),
        (
            [drawing("CCO"), "$$$$\n", "$$$$\n"],
            f"none of its 3 records is a valid molecule: empty record (2 of 3); {FLAT} (1 of 3). "
            f"Write the records again, each with a V2000 or V3000 block. {EMBED}",
        ),
    ],
    ids=["drawings", "one drawing", "several reasons"],
)
def test_a_file_without_a_molecule_is_refused_with_reason_and_remedy(
    records: list[str], said: str, sdf: Callable[..., Path]
) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        read_input([sdf(*records)])
    assert str(refusal.value) == f"in.sdf: {said}"


def test_a_reason_of_rdkit_comes_without_its_stack() -> None:
    found = read_record(ETHANOL.replace(" O ", " Xx"), "x.sdf", 0)
    assert isinstance(found, SetAside)
    assert found.record.reason == "unparsable record: Post-condition Violation; Element 'Xx' not found"


def test_one_bad_file_among_files_of_one_record_is_a_bad_record(sdf: Callable[..., Path]) -> None:
    paths = [sdf(ETHANOL, name="0.sdf"), sdf(drawing("CCO"), name="1.sdf")]
    data, counts = read_input(paths)
    assert len(data) == counts.molecules == 1
    assert data.n_read == counts.n_read == 2
    assert [record[:2] for record in data.quarantine] == [("1.sdf", 0)]
    assert len(counts.quarantined["has_3d"]) == 1


def test_what_a_checker_sees_of_an_sdf_file_has_no_hydrogen(sdf: Callable[..., Path]) -> None:
    data = read_records(sdf(ETHANOL))
    assert not (data.numbers == 1).any()
    assert data.expected_hydrogens.tolist() == [6]


@pytest.mark.parametrize("smiles", ["CC(=O)Nc1ccc(O)cc1", "CCSC", "C[N+](=O)[O-]", "FC(F)(F)c1ccncc1Cl", "CS(=O)(=O)N"])
def test_hydrogens_are_placed_and_no_heavy_atom_moves(smiles: str) -> None:
    record = only(read_record(block(smiles), "x.sdf", 0))
    full = add_hydrogens(record.mol)
    given = record.mol.GetNumAtoms()
    positions = full.GetConformer().GetPositions()
    assert np.array_equal(positions[:given], record.mol.GetConformer().GetPositions())
    assert full.GetNumAtoms() == given + record.expected_hydrogens
    assert record.mol.GetNumAtoms() == given
    partner = [full.GetAtomWithIdx(h).GetNeighbors()[0].GetIdx() for h in range(given, full.GetNumAtoms())]
    lengths = np.linalg.norm(positions[given:] - positions[partner], axis=1)
    assert ((lengths > 0.9) & (lengths < 1.4)).all()


def test_hydrogens_that_are_there_stay_where_they_are() -> None:
    record = only(read_record(mixed_ethanol(), "x.sdf", 0))
    full = add_hydrogens(record.mol)
    assert full.GetNumAtoms() == 9
    assert np.array_equal(full.GetConformer().GetPositions()[:4], record.mol.GetConformer().GetPositions())
    complete = only(read_record(block("CCO", explicit=True), "x.sdf", 0)).mol
    assert np.array_equal(add_hydrogens(complete).GetConformer().GetPositions(), complete.GetConformer().GetPositions())


def test_relaxed_hydrogens_have_less_energy_than_placed_ones() -> None:
    mol = only(read_record(block("OCC(O)c1ccccc1"), "x.sdf", 0)).mol
    # RDKit's force field uses the molecule but keeps no reference to it.
    placed, relaxed = Chem.AddHs(mol, addCoords=True), add_hydrogens(mol)
    assert force_field(relaxed).CalcEnergy() < force_field(placed).CalcEnergy()


def test_uff_where_mmff_has_no_parameters() -> None:
    mol = only(read_record(block("CB(O)O"), "x.sdf", 0)).mol
    assert not AllChem.MMFFHasAllMoleculeParams(Chem.AddHs(mol))
    assert add_hydrogens(mol).GetNumAtoms() == 9


def test_reembedding_is_asked_for_and_seeded() -> None:
    mol = only(read_record(block("CCCCO"), "x.sdf", 0)).mol
    first, again, other = (
        add_hydrogens(mol, reembed=True, seed=seed).GetConformer().GetPositions() for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first[:5], mol.GetConformer().GetPositions())
