"""Checks of contract ``structures`` on the splits: what a test figure may be believed of."""

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.chemistry import molecule_key, nearest_similarities
from hydrogate.checks.dataset import SPLITS, Dataset
from hydrogate.checks.rules import NotRun, Quantities, Rows, Subject, rule

_WIDER = "Add molecules that hold it, leave the molecules with it out, or split with another seed (regenerate.split)."


def _split(subject: Subject) -> Dataset:
    data = subject.data
    if not (data.split != "").any():
        raise NotRun("the data set has no split")
    return data


def _train_and_held_out(subject: Subject) -> Dataset:
    data = _split(subject)
    if not ((data.split == "train").any() and np.isin(data.split, ["valid", "test"]).any()):
        raise NotRun("the data set has no train split beside a held-out one")
    return data


@rule("structures", remedy="Split by molecule (regenerate.split), never by geometry.")
def split_leakage(subject: Subject, bounds: Bounds) -> Rows:
    """No molecule and no augmentation parent on both sides of a split."""
    data = _split(subject)
    if not (data.smiles != "").all():
        raise NotRun("some structures have no SMILES, so that their molecule cannot be told")
    key_of = {smiles: molecule_key(smiles) for smiles in dict.fromkeys(data.smiles.tolist())}
    keys = [key_of[smiles] for smiles in data.smiles.tolist()]
    sides: dict[str, set[str]] = {}
    for key, split in zip(keys, data.split.tolist(), strict=True):
        sides.setdefault(key, set()).add(split)
    unknown = set(data.split.tolist()) - set(SPLITS)
    crosses = np.array([len(sides[key]) > 1 for key in keys], dtype=np.float64)
    crosses += data.split != data.split[data.parent]
    crosses += np.isin(data.split, list(unknown))

    def describe(row: int) -> str:
        return f"{data.name(row)} is in split {data.split[row]!r}, its molecule also in {sorted(sides[keys[row]])}"

    return Rows(crosses, describe)


@rule("structures", unit="structures", remedy=_WIDER)
def element_coverage(subject: Subject, bounds: Bounds) -> Quantities:
    """Structures of each split that hold the element that it has fewest of; elements of any split count."""
    data = _train_and_held_out(subject)
    elements = np.unique(data.numbers)
    holds = np.zeros((len(data), len(elements)), dtype=bool)
    holds[data.structure_of_atom, np.searchsorted(elements, data.numbers)] = True
    values: dict[str, float] = {}
    rarest: list[str] = []
    for split in (split for split in SPLITS if (data.split == split).any()):
        counts = holds[data.split == split].sum(axis=0)
        values[split] = float(counts.min())
        rarest.append(f"{chemical_symbols[elements[counts.argmin()]]} in {split}")
    wanted = bounds.settings["min_structures"]
    few = f"{len(data)} structures, at least {wanted} needed" if len(data) < wanted else ""
    return Quantities(values, len(data), f"structures (rarest: {', '.join(rarest)})", few, only_warns=True)


@rule("structures", unit="pairs", remedy=_WIDER)
def element_pair_coverage(subject: Subject, bounds: Bounds) -> Quantities:
    """Bonded pairs of elements of the held-out splits that no structure of train has."""
    data, bonded = _train_and_held_out(subject), subject.bonds
    if data.periodic.all():
        raise NotRun("all structures are periodic, and bonds across a cell's boundary are not looked for")
    ends = np.sort(np.column_stack([data.numbers[bonded.first], data.numbers[bonded.second]]), axis=1)
    training = data.split[data.structure_of_atom[bonded.first]] == "train"
    taught = {tuple(pair) for pair in np.unique(ends[training], axis=0).tolist()}
    asked = [tuple(pair) for pair in np.unique(ends[~training], axis=0).tolist()]
    missing = [f"{chemical_symbols[one]}-{chemical_symbols[two]}" for one, two in asked if (one, two) not in taught]
    named = f" (missing from train: {', '.join(missing[:5])})" if missing else ""
    return Quantities({"": float(len(missing))}, len(asked), f"bonded pairs of elements{named}")


@rule(
    "structures", remedy="Split by scaffold (regenerate.split.by) where test molecules should be unlike those of train."
)
def split_similarity(subject: Subject, bounds: Bounds) -> Quantities:
    """Tanimoto similarity of each test molecule to its nearest of train: the mean and the largest."""
    data = _train_and_held_out(subject)
    if not (data.smiles != "").all():
        raise NotRun("some structures have no SMILES, so that their molecule cannot be told")
    held_out = "test" if (data.split == "test").any() else "valid"
    train, test = (list(dict.fromkeys(data.smiles[data.split == split].tolist())) for split in ("train", held_out))
    random = np.random.default_rng(bounds.settings["seed"])
    chosen = np.sort(random.choice(len(test), min(bounds.settings["molecules"], len(test)), replace=False))
    nearest = nearest_similarities([test[index] for index in chosen.tolist()], train)
    return Quantities({"mean": nearest.mean(), "largest": nearest.max()}, len(nearest), f"molecules of {held_out}")
