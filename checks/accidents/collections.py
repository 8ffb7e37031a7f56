"""Corruptions of a whole data set: duplicates, leakage between splits, wrong molecule identifiers."""

from dataclasses import replace

import numpy as np

from hydrogate.checks.accidents.catalogue import NotApplicable, Rows, accident, changed
from hydrogate.checks.data.dataset import Dataset


@accident("structures", source="https://github.com/isayev/ASE_ANI/issues/13", largest_share=0.5)
def conformers_across_split(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """Geometries of one molecule are on both sides of the split, because the split was drawn by structure."""
    sides = np.unique(data.split)
    if len(sides) < 2:
        raise NotApplicable("the data set has no split")
    families, size = np.unique(data.parent, return_counts=True)
    rows = rows[np.isin(data.parent[rows], families[size > 1])]
    step = rng.integers(1, len(sides), len(rows))
    other = sides[(np.searchsorted(sides, data.split[rows]) + step) % len(sides)]
    return replace(data, split=changed(data.split, rows, other))


@accident("structures", source="https://github.com/facebookresearch/fairchem/issues/942", largest_share=0.5)
def duplicated_block(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """A block of the data set is repeated at its end, as when two downloads are concatenated."""
    twice = np.concatenate([np.arange(len(data)), rows])
    return replace(data.subset(twice), parent=np.concatenate([data.parent, data.parent[rows]]))


@accident("structures", source="https://github.com/isayev/ANI1_dataset/issues/8")
def smiles_of_another(data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
    """SMILES and InChIKey belong to another molecule of the data set."""
    if len(np.unique(data.smiles)) < 2:
        raise NotApplicable("the data set has fewer than two different SMILES")
    donors = rng.permutation(len(data))
    taken = [next(d for d in np.roll(donors, -int(row)) if data.smiles[d] != data.smiles[row]) for row in rows]
    return replace(
        data,
        smiles=changed(data.smiles, rows, data.smiles[taken]),
        inchikey=changed(data.inchikey, rows, data.inchikey[taken]),
    )
