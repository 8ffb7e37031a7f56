"""Stage ``regenerate``: SDF files to one data set of molecules with explicit hydrogens.

In:  the files that ``regenerate.input`` names (``.sdf``, ``.sd``, ``.mol``, compressed or not; coordinates in Å,
     hydrogens implicit or not).
Out: ``data/structures.h5``: positions in Å, charge in e, spin multiplicity, the hydrogen count implied by the valences
     (counted before any hydrogen is added), SMILES, InChIKey, source, parent and split, and the quarantined records.
     ``data/quarantine.csv``: each quarantined record with its check and its reason.
     ``metrics/input.json``: report of contract ``input``. ``plots/structures.png``: a contact sheet.

Heavy atoms keep the coordinates of the file; protonation states are not changed. The result does not depend on the
number of processes or on the order of the records.
"""

import csv
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.geometry.chemistry import molecule_key
from hydrogate.pipeline.molecules.hydrogens import add_hydrogens
from hydrogate.pipeline.molecules.records import digest_of, raw_records, resolve_input, source_names
from hydrogate.pipeline.molecules.sampling import further_geometries, generator
from hydrogate.pipeline.molecules.sdf import (
    RDKIT_ERRORS,
    SetAside,
    aside,
    count_records,
    rdkit_log,
    read_record,
    refuse_barren_files,
)
from hydrogate.pipeline.molecules.split import assign_splits, split_key
from hydrogate.pipeline.params import Regenerate, load_params
from hydrogate.pipeline.program import progress_bar, stage_exit_status
from hydrogate.pipeline.stages.check import judge_input, write_report
from hydrogate.pipeline.storage.hdf5 import write_dataset, written_whole
from hydrogate.pipeline.workers.pool import over_processes

if TYPE_CHECKING:
    from rdkit import Chem

RECORDS_PER_CHUNK = 25
# Workers take seconds to start; a record takes 10 ms.
SERIAL_BELOW = 200
SHEET = 24


class _Job(NamedTuple):
    params: Regenerate
    source: str
    record: int
    text: str


class _Made(NamedTuple):
    """Molecule with its geometries (k, n, 3) in Å, its own first, and the data for the split and the counts.

    ``partner`` is the index of the other end of each geometry's displacement pair, or its own index without a pair.
    ``heavy_atoms_moved`` (Å) compares the first geometry with the file; NaN if the file's geometry was discarded.
    """

    atoms: Atoms
    geometries: NDArray[np.float32]
    partner: list[int]
    columns: dict[str, str | int]
    heavy_atoms_moved: float
    explicit_hydrogens: int
    molecule: str
    group: str


def _make_chunk(jobs: Sequence[_Job]) -> list[_Made | SetAside]:
    return [_make(job) for job in jobs]


def _make(job: _Job) -> _Made | SetAside:
    params = job.params
    record = read_record(job.text, job.source, job.record, frozenset(params.elements))
    if isinstance(record, SetAside):
        return record
    rng = generator(record, params.seed)
    mol = record.mol
    if params.add_hydrogens:
        try:
            mol = add_hydrogens(record.mol, reembed=params.reembed, seed=int(rng.integers(2**31)))
        except RDKIT_ERRORS as error:
            return aside("sanitizes", job.source, job.record, f"cannot place hydrogens: {error}")
    try:
        further = further_geometries(mol, params.sampling, rng)
    except RDKIT_ERRORS as error:
        return aside("sanitizes", job.source, job.record, f"cannot sample geometries: {error}")
    atoms = record.to_atoms(mol)
    if record.explicit_hydrogens < record.expected_hydrogens and not params.add_hydrogens:
        # Without its hydrogens the molecule is another substance; the teacher labels it in its lowest spin state.
        atoms.info["spin"] = 1 + (int(atoms.numbers.sum()) - record.charge) % 2
    return _Made(
        atoms=atoms,
        geometries=np.array([mol.GetConformer().GetPositions(), *further.positions], dtype=np.float32),
        partner=[0, *(other + 1 for other in further.partner)],
        columns={
            "expected_hydrogens": record.expected_hydrogens,
            "smiles": record.smiles,
            "inchikey": record.inchikey,
            "source": record.source,
            "source_index": record.index,
        },
        heavy_atoms_moved=float("nan") if params.reembed else _heavy_atoms_moved(record.mol, mol),
        explicit_hydrogens=record.explicit_hydrogens,
        molecule=molecule_key(record.smiles),
        group=split_key(record.smiles, params.split.by),
    )


def _heavy_atoms_moved(given: "Chem.Mol", made: "Chem.Mol") -> float:
    """Return the largest displacement (Å) of a heavy atom from ``given`` to ``made``; added hydrogens come last."""
    heavy = [atom.GetIdx() for atom in given.GetAtoms() if atom.GetAtomicNum() > 1]
    change = made.GetConformer().GetPositions()[heavy] - given.GetConformer().GetPositions()[heavy]
    return float(np.linalg.norm(change, axis=1).max(initial=0.0))


def run(paths: Sequence[Path], params: Regenerate, *, processes: int = 0) -> tuple[Dataset, InputCounts]:
    """Build the data set from the files ``paths``, and count what became of each record.

    Parameters
    ----------
    paths : sequence of Path
        SDF files.
    params : Regenerate
    processes : int
        Worker processes; 0 is one per core. The result does not depend on it.

    Raises
    ------
    UnreadableFile
        A file is unreadable, or none of its records gives a molecule.
    ValueError
        ``reembed`` or sampling with a force field is requested without explicit hydrogens.
    """
    if not params.add_hydrogens and (params.reembed or params.sampling.method in ("md", "rattle_relax")):
        raise ValueError(
            "regenerate.reembed and sampling by md or rattle_relax need explicit hydrogens; "
            "set regenerate.add_hydrogens to true"
        )
    jobs: list[_Job] = []
    records_read: dict[str, int] = {}
    for path, source in zip(paths, source_names(paths), strict=True):
        of_file = [_Job(params, source, index, text) for index, text in enumerate(raw_records(path))]
        records_read[source] = len(of_file)
        jobs += of_file
    results = _over_records(jobs, processes)
    made = [result for result in results if isinstance(result, _Made)]
    set_aside = [result for result in results if isinstance(result, SetAside)]
    hydrogens = [(one.explicit_hydrogens, int(one.columns["expected_hydrogens"])) for one in made]
    counts = count_records(records_read, hydrogens, set_aside)
    refuse_barren_files(counts)
    shares = {"train": params.split.train, "valid": params.split.valid, "test": params.split.test}
    splits = assign_splits({one.molecule: one.group for one in made}, shares, params.seed)
    data = _dataset(made, splits)
    return replace(data, quarantine=tuple(result.record for result in set_aside), n_read=len(jobs)), counts


def _over_records(jobs: Sequence[_Job], processes: int) -> list[_Made | SetAside]:
    """Return the results of ``jobs`` in the same order."""
    size = RECORDS_PER_CHUNK if len(jobs) >= SERIAL_BELOW and processes != 1 else max(len(jobs), 1)
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    results: list[list[_Made | SetAside]] = [[] for _ in chunks]
    done: Iterable[tuple[int, list[_Made | SetAside]]] = (
        over_processes(_make_chunk, chunks, workers=processes)
        if len(chunks) > 1
        else ((number, _make_chunk(chunk)) for number, chunk in enumerate(chunks))
    )
    with progress_bar("regenerate", total=len(jobs), unit="records") as advance:
        for number, result in done:
            results[number] = result
            advance(len(result))
    return [one for chunk in results for one in chunk]


def _dataset(made: Sequence[_Made], splits: dict[str, str]) -> Dataset:
    structures: list[Atoms] = []
    columns: dict[str, list[str | int]] = {"parent": [], "split": [], **{name: [] for name in made[0].columns}}
    moved: list[float] = []
    partner: list[int] = []
    for one in made:
        parent = len(structures)
        partner += [parent + other for other in one.partner]
        moved += [one.heavy_atoms_moved, *[float("nan")] * (len(one.geometries) - 1)]
        for positions in one.geometries:
            atoms = one.atoms.copy()  # type: ignore[no-untyped-call]
            atoms.positions = positions
            structures.append(atoms)
            for name, value in {"parent": parent, "split": splits[one.molecule], **one.columns}.items():
                columns[name].append(value)
    recorded: dict[str, Any] = {} if np.isnan(moved).all() else {"heavy_atoms_moved": moved}
    if partner != list(range(len(partner))):
        recorded["partner"] = np.array(partner, dtype=np.int64)
    return concatenate(structures, **columns, **recorded)


def contact_sheet(data: Dataset, path: Path, *, count: int = SHEET, seed: int = 0) -> None:
    """Draw ``count`` random molecules of ``data`` as a PNG grid, with every atom, also hydrogens."""
    from rdkit.Chem import Draw

    roots = np.flatnonzero(data.parent == np.arange(len(data))).tolist()
    chosen = sorted(random.Random(seed).sample(roots, min(count, len(roots))))
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    canvas = Draw.rdMolDraw2D.MolDraw2DCairo(columns * 420, rows * 360, 420, 360)
    options: Any = canvas.drawOptions()
    options.legendFontSize, options.maxFontSize, options.padding = 22, 22, 0.03
    options.drawMolsSameScale = options.prepareMolsBeforeDrawing = False
    canvas.DrawMolecules(
        [_depiction(data, row) for row in chosen], legends=[f"{row}   {data.formula(row)}" for row in chosen]
    )
    canvas.FinishDrawing()
    with written_whole(path) as temporary:
        temporary.write_bytes(canvas.GetDrawingText())


def _depiction(data: Dataset, row: int) -> "Chem.Mol":
    """Return structure ``row`` as a 2-D depiction: its atoms, the bonds of its geometry, the bond orders of its SMILES.

    If geometry and SMILES disagree, the geometry is drawn with single bonds.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor, rdDetermineBonds

    own = data.atoms_of(row)
    shape = Chem.RWMol()
    for number in data.numbers[own].tolist():
        shape.AddAtom(_bare_atom(number))
    conformer = Chem.Conformer(shape.GetNumAtoms())
    conformer.SetPositions(data.positions[own].astype(np.float64))
    shape.AddConformer(conformer)
    with rdkit_log():
        rdDetermineBonds.DetermineConnectivity(shape)
        written = Chem.MolFromSmiles(str(data.smiles[row]))
        if (data.numbers[own] == 1).any():
            written = Chem.AddHs(written)
        Chem.Kekulize(written, clearAromaticFlags=True)
        skeleton = Chem.RWMol(written)
        for atom in written.GetAtoms():
            skeleton.ReplaceAtom(atom.GetIdx(), _bare_atom(atom.GetAtomicNum()))
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(0)
        for bond in skeleton.GetBonds():
            bond.SetBondType(Chem.BondType.SINGLE)
        agree = shape.GetNumBonds() == skeleton.GetNumBonds() and shape.HasSubstructMatch(skeleton)
        mol = written if agree else shape.GetMol()
        mol.UpdatePropertyCache(strict=False)
        rdDepictor.Compute2DCoords(mol)
    return mol


def _bare_atom(number: int) -> "Chem.Atom":
    from rdkit import Chem

    atom = Chem.Atom(number)
    atom.SetNoImplicit(True)
    return atom


def _write_quarantine(counts: InputCounts, path: Path) -> None:
    """Write every quarantined record with its check and its reason as CSV."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "record", "check", "reason"))
        for check, records in counts.quarantined.items():
            rows.writerows((one.source, one.source_index, check, one.reason) for one in records)


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``data/structures.h5``. Exit status: 0 done, 2 invalid input or parameters."""
    params = load_params()
    files = resolve_input(params.regenerate.input)
    if files.ignored:
        print(f"{files.ignored} of {files.ignored + len(files.paths)} files ignored: not .sdf, .sd or .mol")
    data, counts = run(files.paths, params.regenerate)
    write_report(judge_input(counts, data, params, digest_of(files.paths)))
    contact_sheet(data, Path("plots/structures.png"), seed=params.regenerate.seed)
    write_dataset(data, Path("data/structures.h5"))
    _write_quarantine(counts, Path("data/quarantine.csv"))
    print(
        f"data/structures.h5: {data!r}; {counts.n_read} records read, {counts.molecules} molecules, "
        f"{counts.n_quarantined} quarantined; {counts.implicit_hydrogens} hydrogens were implicit"
    )
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
