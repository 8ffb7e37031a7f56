"""Checks of contract ``structures`` on the splits: leakage, coverage of elements, and similarity.

A few bytes per molecule and SMILES are collected from all parts, since a leak can be between two of them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import SPLITS
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.hashing import Keys, Sides, keys_of_text
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, rule, tallied
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.chemistry import molecule_key, nearest_similarities, skeleton_key
from hydrogate.checks.rules.bonding import isolated

_WIDER = "Add molecules that contain it, remove the molecules with it, or split with another seed (regenerate.split)."
_NO_SMILES = "some structures have no SMILES, so their molecule cannot be identified"
# One bit per split; all names outside SPLITS share the last one.
_BITS = {split: 1 << index for index, split in enumerate(SPLITS)}
_ANOTHER = 1 << len(SPLITS)


def split_sizes(part: Part) -> dict[str, int]:
    """Return the number of structures of each split."""
    splits, counts = np.unique(part.data.split.astype(str), return_counts=True)
    return dict(zip(splits.tolist(), counts.tolist(), strict=True))


def _refuse_no_split(sizes: dict[str, int], held_out: bool = False) -> None:
    if not sizes.keys() - {""}:
        raise NotRun("the data set has no split")
    if held_out and not ("train" in sizes and {"valid", "test"} & sizes.keys()):
        raise NotRun("the data set needs both a train split and a held-out split")


def _without_smiles(part: Part) -> int:
    return int(np.count_nonzero(part.data.smiles == ""))


@rule("structures", remedy="Split by molecule (regenerate.split), never by geometry.")
def split_leakage(subject: Subject, bounds: Bounds) -> Rounds:
    """Each molecule, with all geometries derived from it, is in exactly one split."""
    sizes, without = yield from ask(split_sizes, _without_smiles)
    _refuse_no_split(sizes)
    if without:
        raise NotRun(_NO_SMILES)
    # The canonical tautomer takes milliseconds and does not change the skeleton, so it is computed only for molecules
    # whose skeleton is in more than one split.
    skeletons: Sides = yield from ask(partial(_sides, key=skeleton_key))
    molecules: Sides = yield from ask(partial(_sides, key=molecule_key, among=skeletons.crossing()))
    tally: Tally = yield from ask(
        tallied(partial(_leaks, skeletons=skeletons.crossing(), molecules=molecules.crossing()))
    )
    return tally


def _keys(part: Part, key: Callable[[str], str], rows: np.ndarray) -> Keys:
    return keys_of_text(np.array([key(smiles) for smiles in part.data.smiles[rows].tolist()], dtype=object))


def _among(part: Part, skeletons: Sides | None) -> np.ndarray:
    every = np.arange(len(part.data))
    return every if skeletons is None else np.flatnonzero(skeletons.of_keys(_keys(part, skeleton_key, every)))


def _sides(part: Part, key: Callable[[str], str], among: Sides | None = None) -> Sides:
    """Return the splits in which each key occurs, over the structures whose skeleton is ``among`` the given ones."""
    rows = _among(part, among)
    bits = [_BITS.get(split, _ANOTHER) for split in part.data.split[rows].tolist()]
    return Sides.of(_keys(part, key, rows), np.array(bits, dtype=np.uint8))


def _leaks(part: Part, skeletons: Sides, molecules: Sides) -> Rows:
    data = part.data
    rows = _among(part, skeletons)
    seen = np.zeros(len(data), dtype=np.uint8)
    seen[rows] = molecules.of_keys(_keys(part, molecule_key, rows))
    crosses = (seen != 0).astype(np.float64)
    crosses += data.split != data.split[data.parent]
    crosses += ~np.isin(data.split, SPLITS)

    def describe(row: int) -> str:
        sides = {split for split, bit in _BITS.items() if seen[row] & bit} | {str(data.split[row])}
        return f"{part.name(row)} is in split {data.split[row]!r}, its molecule in {sorted(sides)}"

    return Rows(crosses, describe)


@rule("structures", unit="structures", remedy=_WIDER)
def element_coverage(subject: Subject, bounds: Bounds) -> Rounds:
    """Number of structures in each split with the element that is rarest there; elements of all splits count."""
    sizes, holding = yield from ask(split_sizes, _holding)
    _refuse_no_split(sizes, held_out=True)
    elements = sorted({z for _, z in holding})
    values: dict[str, float] = {}
    rarest: list[str] = []
    for split in (split for split in SPLITS if split in sizes):
        fewest = min(elements, key=lambda z: holding.get((split, z), 0), default=0)
        values[split] = float(holding.get((split, fewest), 0))
        rarest.append(f"{chemical_symbols[fewest]} in {split}")
    structures, wanted = subject.whole.structures, bounds.settings["min_structures"]
    few = f"{structures} structures, at least {wanted} needed" if structures < wanted else ""
    return Quantities(values, structures, f"structures (rarest: {', '.join(rarest)})", few, only_warns=True)


def _holding(part: Part) -> dict[tuple[str, int], int]:
    """Return the number of structures with each element, by split."""
    split, held = part.data.split, part.compositions > 0
    return {
        (name, z): int(count)
        for name in np.unique(split.astype(str)).tolist()
        for z, count in zip(part.elements.tolist(), held[split == name].sum(axis=0).tolist(), strict=True)
    }


@rule("structures", unit="pairs", remedy=_WIDER)
def element_pair_coverage(subject: Subject, bounds: Bounds) -> Rounds:
    """Number of bonded element pairs of the held-out splits that no training structure has."""
    sizes, (taught, asked) = yield from ask(split_sizes, _bonded_pairs)
    _refuse_no_split(sizes, held_out=True)
    missing = [f"{chemical_symbols[one]}-{chemical_symbols[two]}" for one, two in sorted(asked - taught)]
    named = f" (missing from train: {', '.join(missing[:5])})" if missing else ""
    return Quantities({"": float(len(missing))}, len(asked), f"bonded element pairs{named}")


def _bonded_pairs(part: Part) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
    """Return the bonded element pairs, lighter element first, of train and of all other splits."""
    isolated(part)
    data, bonded = part.data, part.bonds
    ends = np.sort(np.column_stack([data.numbers[bonded.first], data.numbers[bonded.second]]), axis=1).astype(np.int64)
    training = data.split[data.structure_of_atom[bonded.first]] == "train"
    pairs = ends[:, 0] * 1000 + ends[:, 1]
    taught, asked = (
        frozenset(divmod(pair, 1000) for pair in np.unique(pairs[of]).tolist()) for of in (training, ~training)
    )
    return taught, asked


@rule(
    "structures",
    remedy="Split by scaffold (regenerate.split.by) if test molecules should differ from the training molecules.",
)
def split_similarity(subject: Subject, bounds: Bounds) -> Rounds:
    """Tanimoto similarity of each test molecule to the nearest training molecule: mean and largest."""
    sizes, without = yield from ask(split_sizes, _without_smiles)
    _refuse_no_split(sizes, held_out=True)
    if without:
        raise NotRun(_NO_SMILES)
    held_out = "test" if "test" in sizes else "valid"
    train, test = (
        [*smiles] for smiles in (yield from ask(partial(_smiles, split="train"), partial(_smiles, split=held_out)))
    )
    random = np.random.default_rng(bounds.settings["seed"])
    chosen = np.sort(random.choice(len(test), min(bounds.settings["molecules"], len(test)), replace=False))
    nearest = nearest_similarities([test[index] for index in chosen.tolist()], train)
    return Quantities({"mean": nearest.mean(), "largest": nearest.max()}, len(nearest), f"molecules of {held_out}")


def _smiles(part: Part, split: str) -> dict[str, int]:
    """Return the distinct SMILES of one split, in order of first occurrence, with their counts."""
    smiles, first, counts = np.unique(
        part.data.smiles[part.data.split == split].astype(str), return_index=True, return_counts=True
    )
    order = np.argsort(first)
    return dict(zip(smiles[order].tolist(), counts[order].tolist(), strict=True))
