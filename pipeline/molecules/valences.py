"""Hydrogens, unpaired electrons and charges of a record, as a chemist reads them from its bonds.

A molfile can say of an atom that it holds no implicit hydrogen (the valence field and the hydrogen count of V2000,
``VAL=`` and ``HCOUNT=`` of V3000). Docking tools and generative models set these fields on atoms whose hydrogens they
have merely left out, so they are not trusted: valences decide. Unpaired electrons count where ``M  RAD`` declares them.

Source: BIOVIA, CTfile Formats (2020), "The Atom Block" and "The Properties Block".
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit import Chem

# Non-metals, whose valences tell how many hydrogens an atom holds; a metal holds what is written.
NON_METALS = frozenset((5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 52, 53))
MOST_UNPAIRED = 2
_UNPAIRED = {1: 0, 2: 1, 3: 2}  # of `M  RAD`: singlet, doublet, triplet
_COUNTS_V2000 = re.compile(r"^([ \d]{3})[ \d]{3}.*V2000.*$", re.MULTILINE)
_RAD_V2000 = re.compile(r"^M  RAD(.*)$", re.MULTILINE)
_ATOM_V3000 = re.compile(r"^M  V30 +(\d+) +\S+ +\S+ +\S+ +\S+ +\d+(.*)$", re.MULTILINE)
_RAD_V3000 = re.compile(r"\bRAD=(\d+)")


def declared_unpaired(text: str) -> dict[int, int]:
    """Return the unpaired electrons that a molfile declares, by atom from 0; a singlet carbene has none.

    Parameters
    ----------
    text : str
        The record.
    """
    codes = _doublets_of_atom_lines(text)
    for line in _RAD_V2000.findall(text):
        numbers = [int(word) for word in line.split() if word.isdigit()][1:]
        codes |= dict(zip(numbers[::2], numbers[1::2], strict=False))
    for atom, rest in _ATOM_V3000.findall(text.replace("-\nM  V30 ", "")):
        if found := _RAD_V3000.search(rest):
            codes[int(atom)] = int(found[1])
    return {atom - 1: _UNPAIRED[code] for atom, code in codes.items() if code in _UNPAIRED}


def _doublets_of_atom_lines(text: str) -> dict[int, int]:
    """The older form, code 4 in the charge field of an atom line; `M  CHG` or `M  RAD` take its place."""
    found = _COUNTS_V2000.search(text)
    if found is None or "\nM  CHG" in text or "\nM  RAD" in text:
        return {}
    lines = text[found.end() :].split("\n", int(found[1]) + 1)[1 : int(found[1]) + 1]
    return {number: 2 for number, line in enumerate(lines, 1) if line[36:39] == "  4"}


def trust_valences(mol: "Chem.Mol", declared: Mapping[int, int]) -> None:
    """Let valences decide how many hydrogens the non-metals hold, whatever the fields of the record say.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Not sanitized yet; changed in place.
    declared : mapping of int to int
        Unpaired electrons by :func:`declared_unpaired`; RDKit does not read those of the atom lines.
    """
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() in NON_METALS:
            atom.SetNoImplicit(False)
            if not any(bond.GetIsAromatic() for bond in atom.GetBonds()):  # there the field tells [nH] from n
                atom.SetNumExplicitHs(0)
        if declared.get(atom.GetIdx(), 0) and not atom.GetNumRadicalElectrons():
            atom.SetNumRadicalElectrons(declared[atom.GetIdx()])


def why_no_state(mol: "Chem.Mol", declared: Mapping[int, int]) -> str:
    """Explain why the electronic state of a sanitized record is not known; empty where it is.

    More than two unpaired electrons, an unpaired electron that ``M  RAD`` does not declare, or an atom that would need
    a hydrogen which no such molecule has: its charge is missing.
    """
    atoms = list(mol.GetAtoms())
    if sum(declared.values()) > MOST_UNPAIRED:
        return f"{sum(declared.values())} unpaired electrons; at most {MOST_UNPAIRED} are labelled"
    for atom in atoms:
        name = f"atom {atom.GetIdx()} ({atom.GetSymbol()})"
        if atom.GetNumRadicalElectrons() and atom.GetIdx() not in declared:
            return f"{name} has {atom.GetNumRadicalElectrons()} unpaired electrons that no `M  RAD` declares"
        if _needs_a_charge(atom):
            return f"{name} has {atom.GetDegree()} bonds and no charge: is its `M  CHG` missing?"
    lacking = [atom for atom in atoms if atom.GetAtomicNum() > 1 and atom.GetTotalNumHs() > 0]
    carbons = [atom for atom in atoms if atom.GetAtomicNum() == 6]
    writes_all = (
        any(atom.GetAtomicNum() == 1 for atom in atoms)
        and carbons
        and not any(atom.GetAtomicNum() == 6 for atom in lacking)
    )
    if lacking and writes_all:
        names = ", ".join(f"{atom.GetIdx()} ({atom.GetSymbol()})" for atom in lacking[:5])
        return (
            f"all hydrogens on carbon are written, and {len(lacking)} on other atoms are not: atom {names}; an acid "
            "without its proton, or a missing `M  CHG`"
        )
    return ""


def _needs_a_charge(atom: "Chem.Atom") -> bool:
    """Tell an atom whose implied hydrogen belongs to no known molecule: a sulfonium, a phosphonium, R2Cl."""
    if atom.GetFormalCharge() or not atom.GetNumImplicitHs():
        return False
    single = all(bond.GetBondTypeAsDouble() == 1.0 for bond in atom.GetBonds())
    match atom.GetAtomicNum():
        case 16 | 34 | 52:
            return (atom.GetDegree() >= 3 and single) or atom.GetDegree() + _multiple(atom) in (3, 5)
        case 15 | 33:
            return atom.GetDegree() >= 4 and single
        case 17 | 35 | 53:
            return atom.GetDegree() >= 2
    return False


def _multiple(atom: "Chem.Atom") -> int:
    """Bonds beyond the first to each neighbour; aromatic ones count as none."""
    return sum(int(bond.GetBondTypeAsDouble()) - 1 for bond in atom.GetBonds() if not bond.GetIsAromatic())
