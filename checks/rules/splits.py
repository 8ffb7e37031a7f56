"""Checks of contract ``structures`` on the splits: what a test figure may be believed of.

Of each molecule and each SMILES a few bytes are gathered from the parts, since a leak lies between two of them.
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

_WIDER = "Add molecules that hold it, leave the molecules with it out, or split with another seed (regenerate.split)."
_NO_SMILES = "some structures have no SMILES, so that their molecule cannot be told"
# One bit a split; those that are none of SPLITS share the last.
_BITS = {split: 1 << index for index, split in enumerate(SPLITS)}
_ANOTHER = 1 << len(SPLITS)


def split_sizes(part: Part) -> dict[str, int]:
    """Structures of each split."""
    splits, counts = np.unique(part.data.split.astype(str), return_counts=True)
    return dict(zip(splits.tolist(), counts.tolist(), strict=True))


def _refuse_no_split(sizes: dict[str, int], held_out: bool = False) -> None:
    if not sizes.keys() - {""}:
        raise NotRun("the data set has no split")
    if held_out and not ("train" in sizes and {"valid", "test"} & sizes.keys()):
        raise NotRun("the data set has no train split beside a held-out one")


def _without_smiles(part: Part) -> int:
    return int(np.count_nonzero(part.data.smiles == ""))


@rule("structures", remedy="Split by molecule (regenerate.split), never by geometry.")
def split_leakage(subject: Subject, bounds: Bounds) -> Rounds:
    """No molecule and no augmentation parent on both sides of a split."""
    sizes, without = yield from ask(split_sizes, _without_smiles)
    _refuse_no_split(sizes)
    if without:
        raise NotRun(_NO_SMILES)
    # A tautomer's canonical form takes milliseconds and leaves the skeleton as it is: only molecules of a skeleton that
    # is on two sides are looked at closely.
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
    """The sides on which each key is seen, of the structures whose skeleton is ``among`` those given."""
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
        return f"{part.name(row)} is in split {data.split[row]!r}, its molecule also in {sorted(sides)}"

    return Rows(crosses, describe)


@rule("structures", unit="structures", remedy=_WIDER)
def element_coverage(subject: Subject, bounds: Bounds) -> Rounds:
    """Structures of each split that hold the element that it has fewest of; elements of any split count."""
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
    """Structures of each split that hold each element."""
    split, held = part.data.split, part.compositions > 0
    return {
        (name, z): int(count)
        for name in np.unique(split.astype(str)).tolist()
        for z, count in zip(part.elements.tolist(), held[split == name].sum(axis=0).tolist(), strict=True)
    }


@rule("structures", unit="pairs", remedy=_WIDER)
def element_pair_coverage(subject: Subject, bounds: Bounds) -> Rounds:
    """Bonded pairs of elements of the held-out splits that no structure of train has."""
    sizes, (taught, asked) = yield from ask(split_sizes, _bonded_pairs)
    _refuse_no_split(sizes, held_out=True)
    missing = [f"{chemical_symbols[one]}-{chemical_symbols[two]}" for one, two in sorted(asked - taught)]
    named = f" (missing from train: {', '.join(missing[:5])})" if missing else ""
    return Quantities({"": float(len(missing))}, len(asked), f"bonded pairs of elements{named}")


def _bonded_pairs(part: Part) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]:
    """Bonded pairs of elements, the lighter first: in train, and elsewhere."""
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
    "structures", remedy="Split by scaffold (regenerate.split.by) where test molecules should be unlike those of train."
)
def split_similarity(subject: Subject, bounds: Bounds) -> Rounds:
    """Tanimoto similarity of each test molecule to its nearest of train: the mean and the largest."""
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
    """The distinct SMILES of one split, in their order, and how often they occur."""
    smiles, first, counts = np.unique(
        part.data.smiles[part.data.split == split].astype(str), return_index=True, return_counts=True
    )
    order = np.argsort(first)
    return dict(zip(smiles[order].tolist(), counts[order].tolist(), strict=True))
