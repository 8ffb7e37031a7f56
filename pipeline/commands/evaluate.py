"""``hydrogate evaluate``: all metrics of a student, from a file of reference labels and a file of predictions."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.geometry.chemistry import molecule_key, skeleton_key
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.breakdown import Breakdown, breakdown
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure


class Taught(NamedTuple):
    """Number of reference structures, and how many were excluded because their molecule is in the training data."""

    structures: int
    left_out: int


class Evaluation(NamedTuple):
    """Metrics by name, and notes for their interpretation."""

    metrics: dict[str, Metric]
    notes: tuple[str, ...]
    where: Breakdown | None = None
    taught: Taught | None = None


def run(
    reference: Dataset,
    predicted: Dataset,
    *,
    floor: float,
    where: bool = False,
    training: Dataset | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Measure ``predicted`` against ``reference``.

    Parameters
    ----------
    reference, predicted : Dataset
        The same structures in the same order, with forces (eV/Å); energies (eV) are optional.
    floor : float, eV/Å
        Smallest reference force of atoms that count in angular errors.
    where : bool
        Also break the force error down by atom and structure.
    training : Dataset
        Training data of the student; its molecules are excluded, except those of its split ``test``.

    Raises
    ------
    BadParams
        The floor is not a positive number.
    ValueError
        A file has no structures or no forces, or the structures differ; the message names the first difference. Or
        the error cannot be broken down, the molecules in ``training`` are unknown, or all molecules are in it.
    """
    if not (math.isfinite(floor) and floor > 0):
        raise BadParams(
            f"--floor {floor:g}: expected a force above 0 eV/Å; the angle of a vanishing force is undefined"
        )
    if not len(reference):
        raise ValueError(f"the reference has no structures to evaluate ({reference!r})")
    notes = []
    if _says_no_charge(predicted) and not _says_no_charge(reference):
        notes.append("The prediction states no charges; the charges of the reference are used.")
        predicted = replace(predicted, charge=reference.charge, spin_multiplicity=reference.spin_multiplicity)
    told = _with_molecules(reference)
    comparison = Comparison.of(told, predicted, angular_floor=floor)
    taught = None
    if training is not None:
        rows = _unseen(told, training)
        taught = Taught(len(told), len(told) - len(rows))
        notes.append(
            f"{taught.left_out} of {len(told)} structures are excluded: their molecules are in the training data."
        )
        told, predicted = told.subset(rows), predicted.subset(rows)
        comparison = Comparison.of(told, predicted, angular_floor=floor)
    notes += _notes(told, predicted, comparison)
    metrics = measure(comparison, resamples=resamples, seed=seed)
    return Evaluation(metrics, tuple(notes), breakdown(told, comparison) if where else None, taught)


def of_split(reference: Dataset, split: str | None) -> Dataset:
    """Return the structures of ``split``, in order; all structures if it is None.

    Raises
    ------
    BadParams
        No structure has this split.
    """
    if split is None:
        return reference
    found = reference.subset(np.flatnonzero(reference.split == split))
    if not len(found):
        known = [str(name) or "'' (no split)" for name in np.unique(reference.split.astype(str))]
        raise BadParams(f"--split {split}: the reference has no structure of this split{did_you_mean(split, known)}")
    return found


def _unseen(data: Dataset, training: Dataset) -> NDArray[np.int64]:
    """Return the rows of ``data`` whose molecules are not in the training data."""
    learned = training.subset(np.flatnonzero(training.split != "test"))
    if not len(learned):
        raise ValueError(f"--training: {training!r} has no training structures, only split test or none")
    skeleton_of: dict[str, str] = {}
    for name, one in (("reference", data), ("training data", learned)):
        if untold := int((one.smiles == "").sum()):
            raise ValueError(
                f"molecules of the training data are identified by SMILES: {untold} of {len(one)} structures of the "
                f"{name} have none"
            )
        for row, smiles in enumerate(one.smiles):
            try:
                skeleton_of[smiles] = skeleton_key(smiles)
            except ValueError as error:
                raise ValueError(f"{one.name(row)} of the {name}: {error}") from error
    # The canonical tautomer takes milliseconds and does not change the skeleton, so skeletons are compared first.
    skeletons = {skeleton_of[smiles] for smiles in learned.smiles}
    alike = np.array([skeleton_of[smiles] in skeletons for smiles in data.smiles])
    among = {skeleton_of[smiles] for smiles in data.smiles[alike]}
    molecules = {molecule_key(smiles) for smiles in learned.smiles if skeleton_of[smiles] in among}
    alike[alike] = [molecule_key(smiles) in molecules for smiles in data.smiles[alike]]
    if alike.all():
        raise ValueError(f"all {len(data)} structures of the reference are of molecules in the training data")
    return np.flatnonzero(~alike)


def _says_no_charge(data: Dataset) -> bool:
    """Return True if all structures are neutral with the lowest multiplicity, the default of files without charges."""
    odd = np.add.reduceat(data.numbers, data.offset[:-1], dtype=np.int64) % 2 if len(data) else 0
    return bool((data.charge == 0).all() and (data.spin_multiplicity == 1 + odd).all())


def _with_molecules(data: Dataset) -> Dataset:
    """Return ``data`` with equal SMILES grouped as geometries of one molecule, if nothing else identifies it."""
    parent, first_of = data.parent.copy(), dict[str, int]()
    keys: dict[str, str] = {}
    for row in np.flatnonzero(~_is_told_by_file(data) & (data.smiles != "")).tolist():
        smiles = str(data.smiles[row])
        if smiles not in keys:
            keys[smiles] = _key(smiles)
        parent[row] = first_of.setdefault(keys[smiles], row)
    return replace(data, parent=parent)


def _key(smiles: str) -> str:
    try:
        return molecule_key(smiles)
    except ValueError:
        return smiles


def _is_told_by_file(data: Dataset) -> NDArray[np.bool_]:
    """Return (M,) flags: True if an InChIKey or a parent identifies the molecule."""
    own = np.arange(len(data))
    related = data.parent != own
    related[data.parent[related]] = True
    return np.asarray(related | (data.inchikey != ""))


def _notes(reference: Dataset, predicted: Dataset, comparison: Comparison) -> list[str]:
    notes = []
    for name, data in (("reference", reference), ("prediction", predicted)):
        if data.energy is None:
            notes.append(f"The {name} has no energies: energy metrics are undefined.")
    untold = int((~_is_told_by_file(reference) & (reference.smiles == "")).sum())
    if untold:
        which = (
            "No structure identifies"
            if untold == len(reference)
            else f"{untold} of {len(reference)} structures do not identify"
        )
        notes.append(
            f"{which} its molecule (parent, InChIKey, SMILES): each counts as a separate molecule, and intervals are "
            "too narrow if several are geometries of one molecule."
        )
    if np.array_equal(comparison.forces, comparison.forces_predicted):
        notes.append("Every predicted force is identical to the reference: is it the same file or key?")
    broken = int((~np.isfinite(comparison.forces_predicted)).any(axis=1).sum())
    if broken:
        notes.append(f"{broken} atoms have non-finite predicted forces: metrics that use them are undefined.")
    return notes
