"""SDF reader: each record becomes a :class:`Molecule` or is quarantined with its file, index and reason.

All reading of molecule files with RDKit is here. Coordinates are in Å. The hydrogen count implied by the valences is
taken before any hydrogen is added; protonation states are not changed. Text in a file is untrusted: it is never
executed and never used as a path.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset, Quarantined, concatenate
from hydrogate.checks.data.input_counts import SETTING_ASIDE, InputCounts
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.geometry.chemistry import bond_without_order
from hydrogate.pipeline.molecules.geometry_faults import flat_sp3, order_contradicted, too_close, unlike_a_geometry
from hydrogate.pipeline.molecules.records import raw_records, resolve_input, source_names
from hydrogate.pipeline.molecules.valences import declared_unpaired, trust_valences, why_no_state
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import Mol as Mol

# Å: in a 2-D drawing, z coordinates differ by no more than this.
FLAT = 1e-3
_DUMMY = "a dummy atom (*)"
# RDKit's time and memory grow as the product of the two; 20,000 atoms, or 1,700 rings of 60, crash the process.
MOST_ATOMS, MOST_RINGS = 2500, 250
# RDKit raises any of these for a record; a bad record must not end the others.
RDKIT_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
# For the message when no record of a file gives a molecule.
REMEDIES = {check: RULES["input", check].remedy for check in SETTING_ASIDE}
REMEDIES["readable"] = "Write the records again, each with a V2000 or V3000 block."
_COUNTS = re.compile(r"^(?:M  V30 COUNTS +(\d+) +(\d+)|([ \d]{3})([ \d]{3}).*V2000)", re.MULTILINE)
_LOG_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] ?")


class SetAside(NamedTuple):
    """Quarantined record, and the check of contract ``input`` that it failed."""

    check: str
    record: Quarantined


def aside(check: str, source: str, index: int, reason: str) -> SetAside:
    """Return record ``index`` of ``source`` as quarantined by ``check``."""
    return SetAside(check, Quarantined(source, index, reason))


@dataclass(frozen=True, eq=False)
class Molecule:
    """Molecule from a sanitized SDF record.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Atoms and coordinates (Å) as in the file; implicit hydrogens are still implicit.
    source, index : str, int
        File, and index of the record in it, from 0.
    charge : int, e
    spin_multiplicity : int
        1 + radical electrons.
    explicit_hydrogens, expected_hydrogens : int
        Number of hydrogens in the file, and number implied by the valences (including the explicit ones).
    smiles, inchikey : str
        Canonical SMILES with the stereochemistry of the coordinates.
    """

    mol: "Chem.Mol"
    source: str
    index: int
    charge: int
    spin_multiplicity: int
    explicit_hydrogens: int
    expected_hydrogens: int
    smiles: str
    inchikey: str

    def to_atoms(self, mol: "Chem.Mol | None" = None) -> Atoms:
        """Return the atoms of ``mol`` (default: of the record), with charge and spin multiplicity in ``info``."""
        chosen = self.mol if mol is None else mol
        numbers = [atom.GetAtomicNum() for atom in chosen.GetAtoms()]
        info = {"charge": self.charge, "spin": self.spin_multiplicity}
        return Atoms(numbers, chosen.GetConformer().GetPositions(), info=info)


def read_sdf(
    path: Path, *, source: str | None = None, elements: Iterable[str] | None = None
) -> Iterator[Molecule | SetAside]:
    """Yield each record of ``path`` in order, as a molecule or quarantined.

    Parameters
    ----------
    path : Path
        ``.sdf`` or ``.sdf.gz``, V2000 or V3000.
    source : str, optional
        Name of the file in the results; its file name by default.
    elements : iterable of str, optional
        Allowed element symbols; by default all elements.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        See :func:`hydrogate.pipeline.molecules.records.raw_records`.
    """
    allowed = None if elements is None else frozenset(elements)
    for index, text in enumerate(raw_records(path)):
        yield read_record(text, source or path.name, index, allowed)


def read_record(text: str, source: str, index: int, elements: frozenset[str] | None = None) -> Molecule | SetAside:
    """Read the text of one record: a molecule, or quarantined by the first check of contract ``input`` it fails."""
    from rdkit import Chem
    from rdkit.Chem.inchi import MolToInchiKey

    if not text.strip():
        return aside("readable", source, index, "empty record")
    if "M  END" not in text:
        return aside("readable", source, index, "truncated record: it ends before `M  END`")
    if size := _too_large(text):
        return aside("readable", source, index, size)
    with rdkit_log() as log:
        # RDKit counts columns in bytes; the name of the record is not used.
        mol = Chem.MolFromMolBlock(text.encode("ascii", "replace").decode(), sanitize=False, removeHs=False)
        if mol is None:
            return aside("readable", source, index, f"unparsable record: {_reason(log)}")
        if not mol.GetNumAtoms():
            return aside("readable", source, index, "record without atoms")
        try:
            declared = declared_unpaired(text)
            trust_valences(mol, declared)
            Chem.SanitizeMol(mol)
            for check, reason in _faults(mol, text, elements, declared):
                if reason:
                    return aside(check, source, index, reason)
            Chem.AssignStereochemistryFrom3D(mol)
            smiles = Chem.MolToSmiles(Chem.RemoveHs(mol))
            inchikey = MolToInchiKey(mol)  # type: ignore[no-untyped-call]
        except RDKIT_ERRORS as error:
            return aside("sanitizes", source, index, f"fails sanitization: {_reason(str(error).splitlines())}")
    explicit = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
    return Molecule(
        mol=mol,
        source=source,
        index=index,
        charge=Chem.GetFormalCharge(mol),
        spin_multiplicity=1 + sum(declared.values()),
        explicit_hydrogens=explicit,
        expected_hydrogens=explicit + sum(atom.GetTotalNumHs() for atom in mol.GetAtoms()),
        smiles=smiles,
        inchikey=inchikey,
    )


def _faults(
    mol: "Chem.Mol", text: str, elements: frozenset[str] | None, declared: Mapping[int, int]
) -> Iterator[tuple[str, str]]:
    """Yield each check of contract ``input`` with the reason why a sanitized record fails it; empty where it passes."""
    undecided = bond_without_order(mol)
    yield "sanitizes", f"cannot count its hydrogens: {undecided}" if undecided else ""
    yield "known_elements", _unknown_elements(mol, elements)
    yield "has_3d", _no_coordinates(mol)
    yield "has_3d", too_close(mol)
    yield "has_3d", _flat_by_its_header(mol, text)
    yield "has_3d", unlike_a_geometry(mol)
    yield "sanitizes", order_contradicted(mol)
    yield "has_3d", flat_sp3(mol)
    yield "sanitizes", why_no_state(mol, declared)


def _too_large(text: str) -> str:
    """Return why a record is too large for RDKit, by the atom and bond counts it declares; empty if it is not."""
    for found in _COUNTS.findall(text.replace("-\nM  V30 ", "")):
        # RDKit itself rejects counts that are no numbers, such as "1 0"; only one of V3000 and V2000 is present.
        counts = [int(count) if count.strip().isdigit() else 0 for count in found]
        atoms, bonds = max(counts[:2], counts[2:])
        if atoms > MOST_ATOMS or bonds - atoms >= MOST_RINGS:
            most = f"the limits are {MOST_ATOMS} atoms and {MOST_RINGS} rings"
            return f"record too large: {atoms} atoms and {bonds} bonds; {most}"
    return ""


@contextmanager
def rdkit_log() -> Iterator[list[str]]:
    """Collect RDKit's log messages as lines, and print none of them to the terminal."""
    from rdkit import rdBase

    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text := _LOG_STAMP.sub("", record.getMessage()).strip():
                lines.append(text)

    logger = logging.getLogger("rdkit")
    before = logger.handlers, logger.propagate
    # RDKit's default handler writes to the terminal.
    logger.handlers, logger.propagate = [Keep()], False
    rdBase.LogToPythonLogger()
    try:
        yield lines
    finally:
        rdBase.LogToCppStreams()
        logger.handlers, logger.propagate = before


def _reason(log: Sequence[str]) -> str:
    """Return RDKit's message without its source locations, which differ between machines and runs."""
    said = takewhile(lambda line: not line.startswith("Violation occurred"), map(str.strip, log))
    return "; ".join(line for line in said if line.strip("*")) or "RDKit gave no reason"


def _unknown_elements(mol: "Chem.Mol", elements: frozenset[str] | None) -> str:
    """Return why elements of a record are not accepted; empty if all are."""
    if not all(atom.GetAtomicNum() for atom in mol.GetAtoms()):
        return f"{_DUMMY}: an attachment point or a group without a structure; write the atoms that it stands for"
    present = {atom.GetSymbol() for atom in mol.GetAtoms()}
    unknown = sorted(symbol for symbol in present if elements is not None and symbol not in elements)
    return f"elements outside regenerate.elements: {', '.join(unknown)}" if unknown else ""


def _no_coordinates(mol: "Chem.Mol") -> str:
    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        return "coordinates are not finite"
    return "" if mol.GetNumAtoms() == 1 or positions.any() else "all coordinates are zero"


def _flat_by_its_header(mol: "Chem.Mol", text: str) -> str:
    """Return why a record with equal z coordinates is a drawing: its header does not say that it is none."""
    flat = mol.GetNumAtoms() > 1 and np.ptp(mol.GetConformer().GetPositions()[:, 2]) <= FLAT
    if not flat or text.split("\n", 2)[1][20:22].upper() == "3D":
        return ""
    return "a 2-D drawing: all z coordinates are equal and the header does not say 3D"


def count_records(
    records_read: Mapping[str, int], hydrogens: Sequence[tuple[int, int]], set_aside: Iterable[SetAside]
) -> InputCounts:
    """Return the counts of all records; ``hydrogens`` has (explicit, expected) for each molecule."""
    quarantined: dict[str, tuple[Quarantined, ...]] = dict.fromkeys(SETTING_ASIDE, ())
    for check, record in set_aside:
        quarantined[check] += (record,)
    return InputCounts(
        records_read=dict(records_read),
        molecules=len(hydrogens),
        quarantined=quarantined,
        implicit_hydrogens=sum(expected - explicit for explicit, expected in hydrogens),
        explicit_hydrogens=sum(explicit for explicit, _ in hydrogens),
        fully_implicit=sum(explicit == 0 < expected for explicit, expected in hydrogens),
        mixed=sum(0 < explicit < expected for explicit, expected in hydrogens),
        fully_explicit=sum(0 < explicit == expected for explicit, expected in hydrogens),
        without_hydrogen=sum(expected == 0 for _, expected in hydrogens),
    )


def refuse_barren_files(counts: InputCounts) -> None:
    """Raise if no record of a file with several records, or of the entire input, became a molecule.

    A file with a single bad record counts as a bad record, because some generators write one file per molecule.

    Raises
    ------
    UnreadableFile
        The message names the file, the most common reasons and how to fix them.
    """
    reasons: dict[str, Counter[tuple[str, str]]] = {}
    for check, records in counts.quarantined.items():
        for record in records:
            remedy = "" if record.reason.startswith(_DUMMY) else REMEDIES[check]  # which names no other element
            reasons.setdefault(record.source, Counter())[record.reason, remedy] += 1
    for source, read in counts.records_read.items():
        why = reasons.get(source, Counter())
        if why.total() == read and (read > 1 or not counts.molecules):
            common = why.most_common(3)
            said = "; ".join(reason + (f" ({n} of {read})" if read > 1 else "") for (reason, _), n in common)
            remedy = " ".join(filter(None, dict.fromkeys(remedy for (_, remedy), _ in common)))
            what = f"none of its {read} records is a valid" if read > 1 else "its only record is not a valid"
            raise UnreadableFile(f"{source}: {what} molecule: {said}. {remedy}")


def read_input(paths: Sequence[Path]) -> tuple[Dataset, InputCounts]:
    """Read files or folders without adding hydrogens, and count what became of each record.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        See :func:`hydrogate.pipeline.molecules.records.raw_records` and :func:`refuse_barren_files`.
    """
    files = resolve_input([str(path) for path in paths]).paths
    records: dict[str, list[Molecule | SetAside]] = {
        source: list(read_sdf(path, source=source)) for path, source in zip(files, source_names(files), strict=True)
    }
    everything = [record for of_file in records.values() for record in of_file]
    molecules = [record for record in everything if isinstance(record, Molecule)]
    counts = count_records(
        {source: len(of_file) for source, of_file in records.items()},
        [(molecule.explicit_hydrogens, molecule.expected_hydrogens) for molecule in molecules],
        [record for record in everything if isinstance(record, SetAside)],
    )
    refuse_barren_files(counts)
    data = concatenate(
        [molecule.to_atoms() for molecule in molecules],
        expected_hydrogens=[molecule.expected_hydrogens for molecule in molecules],
        smiles=[molecule.smiles for molecule in molecules],
        inchikey=[molecule.inchikey for molecule in molecules],
        source=[molecule.source for molecule in molecules],
        source_index=[molecule.index for molecule in molecules],
    )
    aside = tuple(record.record for record in everything if isinstance(record, SetAside))
    return replace(data, quarantine=aside, n_read=len(everything)), counts


def read_records(path: Path) -> Dataset:
    """Read one file as a data set without adding hydrogens, so that a contract can find the missing ones."""
    return read_input([path])[0]
