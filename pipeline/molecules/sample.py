"""Sample input that the project ships: drug-like molecules in the form in which a generative model writes them.

Fragments of known drugs (``known_drugs.smi``) are recombined by the BRICS rules, embedded with ETKDG and relaxed with
MMFF. Then the hydrogens are removed and the heavy atoms displaced slightly. The result is three-dimensional SDF records
with implicit hydrogens, in Å. ``hydrogate sample`` calls this module; no generative model is involved.

The content depends only on ``count``, ``seed`` and the RDKit version, not on the number of processes.
"""

import gzip
import hashlib
import io
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hydrogate.pipeline.program import progress_bar
from hydrogate.pipeline.storage.hdf5 import written_whole

if TYPE_CHECKING:
    from rdkit import Chem

ELEMENTS = frozenset({"C", "H", "N", "O", "F", "S", "Cl"})
HEAVY_ATOMS = (8, 30)
# Å, per coordinate of a heavy atom: bond lengths then scatter by 0.035 Å, a fifth of the difference of C-C and C=C.
DISTORTION = 0.025
KNOWN_SHARE = 0.1
ROTATABLE_BONDS = 9
# Below this value the recombined molecules are chains of linkers that no chemist would call drug-like.
DRUG_LIKENESS = 0.35
# Starting a process takes a second, an embedding 20 ms.
SERIAL_BELOW = 100
BATCH = 500


class SampleMolecule(NamedTuple):
    """Record of a sample.

    Parameters
    ----------
    smiles : str
        Canonical SMILES without stereochemistry.
    molblock : str
        V2000 block with heavy-atom coordinates in Å and implicit hydrogens.
    """

    smiles: str
    molblock: str


class _Fragment(NamedTuple):
    mol: "Chem.Mol"
    labels: tuple[str, ...]
    heavy: int


def known_drugs() -> list[tuple[str, str]]:
    """Return (SMILES, name) of each molecule in ``known_drugs.smi``."""
    text = Path(__file__).with_name("known_drugs.smi").read_text(encoding="utf-8")
    return [(smiles, name) for smiles, name in (line.split("\t") for line in text.splitlines())]


def make_sample(count: int, seed: int = 0, *, processes: int = 0) -> Iterator[SampleMolecule]:
    """Yield sample molecules one by one.

    Parameters
    ----------
    count : int
        Number of molecules, at least 1.
    seed : int
        Random seed; the same seed gives the same molecules and coordinates.
    processes : int
        Worker processes; 0 is one per core. The result does not depend on it.

    Raises
    ------
    ValueError
        ``count`` is below 1 or ``seed`` is negative.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"count must be at least 1 and seed at least 0, got count {count}, seed {seed}")
    return islice(_embedded(_candidates(count, seed), count, seed, processes), count)


def write_sample(
    path: Path, count: int, seed: int = 0, progress: bool = True, *, processes: int = 0
) -> list[SampleMolecule]:
    """Write a sample atomically as a gzipped (``.sdf.gz``) or plain SDF file; the same seed gives the same bytes.

    Raises
    ------
    ValueError
        ``path`` ends in neither ``.sdf`` nor ``.sdf.gz``, or ``count`` or ``seed`` is out of range.
    """
    if not path.name.endswith((".sdf", ".sdf.gz")):
        raise ValueError(f"{path}: a sample is an SDF file; name it .sdf or .sdf.gz")
    molecules = []
    with progress_bar("sample", total=count, unit="molecules") if progress else nullcontext(None) as advance:
        for molecule in make_sample(count, seed, processes=processes):
            molecules.append(molecule)
            if advance:
                advance(1)
    content = "".join(f"{molecule.molblock}$$$$\n" for molecule in molecules).encode()
    if path.name.endswith(".gz"):
        buffer = io.BytesIO()
        # No file name and no time in the header, so that equal molecules give equal bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
            file.write(content)
        content = buffer.getvalue()
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return molecules


def _candidates(count: int, seed: int) -> Iterator[str]:
    """Yield distinct SMILES without end: known drugs for their share of ``count``, else recombined fragments."""
    from rdkit import Chem
    from rdkit.Chem.inchi import MolToInchiKey

    rng = random.Random(seed)
    known = [mol for mol in (Chem.MolFromSmiles(smiles) for smiles, _ in known_drugs()) if _is_wanted(mol)]
    rng.shuffle(known)
    fragments = _fragments()
    known_left = round(KNOWN_SHARE * count)
    seen: set[str] = set()
    while True:
        take_known = known_left > 0 and known and rng.random() < KNOWN_SHARE
        mol = known.pop() if take_known else _recombine(fragments, rng)
        if mol is None or not (take_known or (_is_wanted(mol) and _is_druglike(mol))):
            continue
        known_left -= bool(take_known)
        # Without stereochemistry the key's first block identifies the molecule; it also merges InChI's tautomers.
        key = MolToInchiKey(mol).partition("-")[0]  # type: ignore[no-untyped-call]
        if key not in seen:
            seen.add(key)
            yield Chem.MolToSmiles(mol)


def _is_wanted(mol: "Chem.Mol") -> bool:
    from rdkit import Chem

    low, high = HEAVY_ATOMS
    return (
        low <= mol.GetNumHeavyAtoms() <= high
        and all(atom.GetSymbol() in ELEMENTS and not atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        and Chem.GetFormalCharge(mol) == 0
    )


def _is_druglike(mol: "Chem.Mol") -> bool:
    from rdkit.Chem import QED
    from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds

    rigid = CalcNumRotatableBonds(mol) <= ROTATABLE_BONDS
    return bool(rigid and QED.qed(mol) >= DRUG_LIKENESS)  # type: ignore[no-untyped-call]


def _fragments() -> list[_Fragment]:
    from rdkit import Chem
    from rdkit.Chem import BRICS

    found: set[str] = set()
    for smiles, _ in known_drugs():
        found |= BRICS.BRICSDecompose(Chem.MolFromSmiles(smiles))  # type: ignore[no-untyped-call]
    fragments = []
    for smiles in sorted(found):
        mol = Chem.MolFromSmiles(smiles)
        atoms = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum()]
        labels = tuple(str(atom.GetIsotope()) for atom in mol.GetAtoms() if not atom.GetAtomicNum())
        if labels and all(atom.GetSymbol() in ELEMENTS for atom in atoms):
            fragments.append(_Fragment(mol, labels, len(atoms)))
    return fragments


def _partners() -> dict[str, dict[str, str]]:
    """Return, for each BRICS label, the labels that it can be joined with and the bond ("-" or "=") between them."""
    from rdkit.Chem import BRICS

    partners: dict[str, dict[str, str]] = {}
    for group in BRICS.reactionDefs:
        for first, second, bond in group:
            # 7a and 7b are the two ends of one double bond; in a fragment both are labelled 7.
            first, second = first.rstrip("ab"), second.rstrip("ab")
            partners.setdefault(first, {})[second] = bond
            partners.setdefault(second, {})[first] = bond
    return partners


def _recombine(fragments: Sequence[_Fragment], rng: random.Random) -> "Chem.Mol | None":
    """Join fragments at matching attachment points until none is open; None if that fails."""
    from rdkit import Chem

    partners = _partners()
    mol = rng.choice(fragments).mol
    target = rng.randint(HEAVY_ATOMS[0], HEAVY_ATOMS[1] - 8)
    while open_points := [atom for atom in mol.GetAtoms() if not atom.GetAtomicNum()]:
        heavy = mol.GetNumAtoms() - len(open_points)
        if heavy > HEAVY_ATOMS[1]:
            return None
        point = rng.choice(open_points)
        bonds = partners[str(point.GetIsotope())]
        grow = heavy + 5 * len(open_points) < target
        fitting = [f for f in fragments if bonds.keys() & set(f.labels) and (len(f.labels) > 1) == grow]
        if not fitting:
            return None
        mol = _join(mol, point.GetIdx(), rng.choice(fitting).mol, bonds)
    return mol if Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE else None


def _join(mol: "Chem.Mol", point: int, fragment: "Chem.Mol", bonds: dict[str, str]) -> "Chem.Mol":
    """Join ``mol`` and ``fragment`` at ``point`` and at the fragment's first matching dummy atom."""
    from rdkit import Chem

    other = next(atom for atom in fragment.GetAtoms() if not atom.GetAtomicNum() and str(atom.GetIsotope()) in bonds)
    order = Chem.BondType.DOUBLE if bonds[str(other.GetIsotope())] == "=" else Chem.BondType.SINGLE
    shift = mol.GetNumAtoms()
    joined = Chem.RWMol(Chem.CombineMols(mol, fragment))
    begin, end = (joined.GetAtomWithIdx(i).GetNeighbors()[0].GetIdx() for i in (point, shift + other.GetIdx()))
    joined.AddBond(begin, end, order)
    joined.RemoveAtom(shift + other.GetIdx())
    joined.RemoveAtom(point)
    return joined.GetMol()


def _embedded(candidates: Iterator[str], count: int, seed: int, processes: int) -> Iterator[SampleMolecule]:
    """Yield the candidates that ETKDG can embed and MMFF can relax, in order."""
    jobs = ((smiles, seed, index) for index, smiles in enumerate(candidates))
    if count < SERIAL_BELOW or processes == 1:
        yield from (made for made in map(_embed, jobs) if made is not None)
        return
    made = 0
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        while made < count:
            for molecule in pool.map(_embed, list(islice(jobs, min(count - made, BATCH))), chunksize=10):
                if molecule is not None:
                    made += 1
                    yield molecule


def _embed(job: tuple[str, int, int]) -> SampleMolecule | None:
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    smiles, seed, index = job
    digest = hashlib.sha256(f"{seed} {smiles}".encode()).digest()
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = int.from_bytes(digest[:4]) >> 1  # type: ignore[assignment]
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol) or rdDistGeom.EmbedMolecule(mol, parameters) != 0:
        return None
    if rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=2000) != 0:
        return None
    mol = Chem.RemoveAllHs(mol)
    conformer = mol.GetConformer()
    noise = np.random.default_rng(list(digest)).normal(scale=DISTORTION, size=(mol.GetNumAtoms(), 3))
    conformer.SetPositions(conformer.GetPositions() + noise)
    mol.SetProp("_Name", f"sample-{seed}-{index}")
    return SampleMolecule(smiles, Chem.MolToMolBlock(mol))
