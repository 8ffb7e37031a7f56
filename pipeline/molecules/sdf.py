"""SDF files, record by record: each becomes a :class:`Molecule` or is set aside with its file, index and reason.

The home of RDKit for files. Coordinates are in Å; the hydrogen count that the valences imply is taken before any
hydrogen is added; protonation stays as given. Text in a file is untrusted: it is never run and never names a path.
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
from hydrogate.pipeline.molecules.records import raw_records, resolve_input, source_names
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import Mol as Mol

# Å: what a drawing's z coordinates differ by.
FLAT = 1e-3
# RDKit's time and memory grow as the product of the two; 20,000 atoms, or 1,700 rings of 60, end the process.
MOST_ATOMS, MOST_RINGS = 2500, 250
# Where nothing in a file is of use.
REMEDIES = {check: RULES["input", check].remedy for check in SETTING_ASIDE}
REMEDIES["readable"] = "Write them again, each with its V2000 or V3000 block."
_COUNTS = re.compile(r"^(?:M  V30 COUNTS +(\d+) +(\d+)|([ \d]{3})([ \d]{3}).*V2000)", re.MULTILINE)
_LOG_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] ?")


class SetAside(NamedTuple):
    """A record that became no molecule, and the check of contract ``input`` that says so."""

    check: str
    record: Quarantined


def aside(check: str, source: str, index: int, reason: str) -> SetAside:
    """Record ``index`` of ``source``, set aside by ``check``."""
    return SetAside(check, Quarantined(source, index, reason))


@dataclass(frozen=True, eq=False)
class Molecule:
    """A record, sanitized.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Atoms and coordinates (Å) as the file has them; implicit hydrogens are still implicit.
    source, index : str, int
        File and record, from 0.
    charge : int, e
    spin_multiplicity : int
        1 + radical electrons.
    explicit_hydrogens, expected_hydrogens : int
        Hydrogens written down, and those that the valences imply (the written ones included).
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
        """The atoms of ``mol`` (default: those of the record), with charge and spin multiplicity in ``info``."""
        chosen = self.mol if mol is None else mol
        numbers = [atom.GetAtomicNum() for atom in chosen.GetAtoms()]
        info = {"charge": self.charge, "spin": self.spin_multiplicity}
        return Atoms(numbers, chosen.GetConformer().GetPositions(), info=info)


def read_sdf(
    path: Path, *, source: str | None = None, elements: Iterable[str] | None = None
) -> Iterator[Molecule | SetAside]:
    """Each record of ``path`` in order, as a molecule or set aside.

    Parameters
    ----------
    path : Path
        ``.sdf`` or ``.sdf.gz``, V2000 or V3000.
    source : str, optional
        What the file is called in the results; its name by default.
    elements : iterable of str, optional
        Symbols that are allowed; by default every element is.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As in :func:`hydrogate.pipeline.molecules.records.raw_records`.
    """
    allowed = None if elements is None else frozenset(elements)
    for index, text in enumerate(raw_records(path)):
        yield read_record(text, source or path.name, index, allowed)


def read_record(text: str, source: str, index: int, elements: frozenset[str] | None = None) -> Molecule | SetAside:
    """One record's text as a molecule, or set aside by the first check of contract ``input`` that it fails."""
    from rdkit import Chem
    from rdkit.Chem.inchi import MolToInchiKey

    if not text.strip():
        return aside("readable", source, index, "empty record")
    if "M  END" not in text:
        return aside("readable", source, index, "truncated record: it ends before `M  END`")
    if size := _too_large(text):
        return aside("readable", source, index, size)
    with rdkit_log() as log:
        # RDKit counts columns in bytes, and no name is taken from here.
        mol = Chem.MolFromMolBlock(text.encode("ascii", "replace").decode(), sanitize=False, removeHs=False)
        if mol is None:
            return aside("readable", source, index, f"unparsable record: {_reason(log)}")
        if not mol.GetNumAtoms():
            return aside("readable", source, index, "record without atoms")
        try:
            Chem.SanitizeMol(mol)
            if undecided := bond_without_order(mol):
                return aside("sanitizes", source, index, f"its hydrogens cannot be counted: {undecided}")
            if unknown := _unknown_elements(mol, elements):
                outside = f"elements outside regenerate.elements: {', '.join(unknown)}"
                return aside("known_elements", source, index, outside)
            if flat := _why_not_3d(mol, text):
                return aside("has_3d", source, index, flat)
            Chem.AssignStereochemistryFrom3D(mol)
            smiles = Chem.MolToSmiles(Chem.RemoveHs(mol))
            inchikey = MolToInchiKey(mol)  # type: ignore[no-untyped-call]
        except (Chem.MolSanitizeException, ValueError, RuntimeError) as error:
            return aside("sanitizes", source, index, f"fails sanitization: {_reason(str(error).splitlines())}")
    explicit = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    return Molecule(
        mol=mol,
        source=source,
        index=index,
        charge=Chem.GetFormalCharge(mol),
        spin_multiplicity=1 + radicals,
        explicit_hydrogens=explicit,
        expected_hydrogens=explicit + sum(atom.GetTotalNumHs() for atom in mol.GetAtoms()),
        smiles=smiles,
        inchikey=inchikey,
    )


def _too_large(text: str) -> str:
    """Why RDKit is not asked about a record, by the atoms and bonds that it declares; empty where it is."""
    for found in _COUNTS.findall(text.replace("-\nM  V30 ", "")):
        # What is no number, "1 0", RDKit refuses itself; of V3000 and V2000 one is not there.
        counts = [int(count) if count.strip().isdigit() else 0 for count in found]
        atoms, bonds = max(counts[:2], counts[2:])
        if atoms > MOST_ATOMS or bonds - atoms >= MOST_RINGS:
            most = f"at most {MOST_ATOMS} atoms and {MOST_RINGS} rings are read"
            return f"a record of {atoms} atoms and {bonds} bonds; {most}"
    return ""


@contextmanager
def rdkit_log() -> Iterator[list[str]]:
    """What RDKit says meanwhile, as lines, and nothing of it on the terminal."""
    from rdkit import rdBase

    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text := _LOG_STAMP.sub("", record.getMessage()).strip():
                lines.append(text)

    logger = logging.getLogger("rdkit")
    before = logger.handlers, logger.propagate
    # RDKit's own handler writes to the terminal.
    logger.handlers, logger.propagate = [Keep()], False
    rdBase.LogToPythonLogger()
    try:
        yield lines
    finally:
        rdBase.LogToCppStreams()
        logger.handlers, logger.propagate = before


def _reason(log: Sequence[str]) -> str:
    """What RDKit said, but where in itself: that differs from one machine, and run, to the next."""
    said = takewhile(lambda line: not line.startswith("Violation occurred"), map(str.strip, log))
    return "; ".join(line for line in said if line.strip("*")) or "RDKit gives no reason"


def _unknown_elements(mol: "Chem.Mol", elements: frozenset[str] | None) -> list[str]:
    present = Counter(atom.GetSymbol() if atom.GetAtomicNum() else "*" for atom in mol.GetAtoms())
    return sorted(symbol for symbol in present if symbol == "*" or (elements is not None and symbol not in elements))


def _why_not_3d(mol: "Chem.Mol", text: str) -> str:
    """Why the coordinates are not three-dimensional; empty where they are.

    Planar molecules lie flat too: flat is 3-D where the record's header says so and no atom stands out of its plane.
    """
    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        return "coordinates are not finite"
    if mol.GetNumAtoms() == 1:
        return ""
    if not positions.any():
        return "all coordinates are zero"
    if np.ptp(positions[:, 2]) > FLAT:
        return ""
    header = text.split("\n", 2)[1]
    if header[20:22].upper() != "3D":
        return "a 2-D drawing: all z coordinates are equal and its header does not say 3D"
    tetrahedral = [
        atom.GetIdx() for atom in mol.GetAtoms() if atom.GetDegree() > 2 and atom.GetHybridization().name == "SP3"
    ]
    return (
        f"a 2-D drawing: all z coordinates are equal, and atom {tetrahedral[0]} is tetrahedral" if tetrahedral else ""
    )


def count_records(
    records_read: Mapping[str, int], hydrogens: Sequence[tuple[int, int]], set_aside: Iterable[SetAside]
) -> InputCounts:
    """Account for every record; ``hydrogens`` holds (explicit, expected) of each molecule."""
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
    """Refuse a file of several records, or an input as a whole, of which nothing became a molecule.

    A file of one bad record is a bad record: generators write a file a molecule.

    Raises
    ------
    UnreadableFile
        Naming the file, the commonest reasons and what mends them.
    """
    reasons: dict[str, Counter[tuple[str, str]]] = {}
    for check, records in counts.quarantined.items():
        for record in records:
            reasons.setdefault(record.source, Counter())[record.reason, REMEDIES[check]] += 1
    for source, read in counts.records_read.items():
        why = reasons.get(source, Counter())
        if why.total() == read and (read > 1 or not counts.molecules):
            common = why.most_common(3)
            said = "; ".join(reason + (f" ({n} of {read})" if read > 1 else "") for (reason, _), n in common)
            remedy = " ".join(dict.fromkeys(remedy for (_, remedy), _ in common))
            what = f"none of its {read} records became a" if read > 1 else "its only record became no"
            raise UnreadableFile(f"{source}: {what} molecule: {said}. {remedy}")


def read_input(paths: Sequence[Path]) -> tuple[Dataset, InputCounts]:
    """Files or folders as written, implicit hydrogens left implicit, and what became of each record.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        As in :func:`hydrogate.pipeline.molecules.records.raw_records` and :func:`refuse_barren_files`.
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
    """One file as a data set, as written: implicit hydrogens stay implicit, so that a contract sees them missing."""
    return read_input([path])[0]
