"""``hydrogate evaluate``: all metrics of anybody's student, from a file of reference labels and one of predictions."""

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
    """Structures of the reference, and how many of them were left out: of molecules that the student learned from."""

    structures: int
    left_out: int


class Evaluation(NamedTuple):
    """The metrics by name, and what a reader must know of them."""

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
        Angles count for atoms with a reference force of at least this.
    where : bool
        Say also where the force error is.
    training : Dataset
        What the student learned from; its molecules are left out, those of its split ``test`` excepted.

    Raises
    ------
    BadParams
        The floor is no positive number.
    ValueError
        A file holds no structures or no forces, or the structures differ; the first difference is named. Or where the
        error is cannot be said, or which molecules are in ``training``, or all are.
    """
    if not (math.isfinite(floor) and floor > 0):
        raise BadParams(
            f"--floor {floor:g}: expected a force above 0 eV/Å; the angle of a vanishing force is undefined"
        )
    if not len(reference):
        raise ValueError(f"the reference holds no structures ({reference!r}); nothing can be measured")
    notes = []
    if _says_no_charge(predicted) and not _says_no_charge(reference):
        notes.append("The prediction says no charges; those of the reference are taken for its.")
        predicted = replace(predicted, charge=reference.charge, spin_multiplicity=reference.spin_multiplicity)
    told = _with_molecules(reference)
    comparison = Comparison.of(told, predicted, angular_floor=floor)
    taught = None
    if training is not None:
        rows = _unseen(told, training)
        taught = Taught(len(told), len(told) - len(rows))
        notes.append(f"{taught.left_out} of {len(told)} structures are of molecules it was taught: left out.")
        told, predicted = told.subset(rows), predicted.subset(rows)
        comparison = Comparison.of(told, predicted, angular_floor=floor)
    notes += _notes(told, predicted, comparison)
    metrics = measure(comparison, resamples=resamples, seed=seed)
    return Evaluation(metrics, tuple(notes), breakdown(told, comparison) if where else None, taught)


def of_split(reference: Dataset, split: str | None) -> Dataset:
    """The structures of ``split``, in order; all of them where it is None.

    Raises
    ------
    BadParams
        No structure is of that split.
    """
    if split is None:
        return reference
    found = reference.subset(np.flatnonzero(reference.split == split))
    if not len(found):
        known = [str(name) or "'' (of no split)" for name in np.unique(reference.split.astype(str))]
        raise BadParams(f"--split {split}: the reference holds no structure of it{did_you_mean(split, known)}")
    return found


def _unseen(data: Dataset, training: Dataset) -> NDArray[np.int64]:
    """The structures of ``data`` that are of no molecule that was learned from."""
    learned = training.subset(np.flatnonzero(training.split != "test"))
    if not len(learned):
        raise ValueError(f"nothing was learned from {training!r}: it holds no structure, or none but of split test")
    skeleton_of: dict[str, str] = {}
    for name, one in (("reference", data), ("training data", learned)):
        if untold := int((one.smiles == "").sum()):
            raise ValueError(
                f"which molecules were learned from is told by SMILES: {untold} of {len(one)} structures of the {name} "
                "say none"
            )
        for row, smiles in enumerate(one.smiles):
            try:
                skeleton_of[smiles] = skeleton_key(smiles)
            except ValueError as error:
                raise ValueError(f"{one.name(row)} of the {name}: {error}") from error
    # A tautomer's canonical form takes milliseconds and leaves the skeleton as it is.
    skeletons = {skeleton_of[smiles] for smiles in learned.smiles}
    alike = np.array([skeleton_of[smiles] in skeletons for smiles in data.smiles])
    among = {skeleton_of[smiles] for smiles in data.smiles[alike]}
    molecules = {molecule_key(smiles) for smiles in learned.smiles if skeleton_of[smiles] in among}
    alike[alike] = [molecule_key(smiles) in molecules for smiles in data.smiles[alike]]
    if alike.all():
        raise ValueError(f"all {len(data)} structures of the reference are of molecules that were learned from")
    return np.flatnonzero(~alike)


def _says_no_charge(data: Dataset) -> bool:
    """Whether each structure is neutral with the lowest multiplicity, as readers take what a file does not say."""
    odd = np.add.reduceat(data.numbers, data.offset[:-1], dtype=np.int64) % 2 if len(data) else 0
    return bool((data.charge == 0).all() and (data.spin_multiplicity == 1 + odd).all())


def _with_molecules(data: Dataset) -> Dataset:
    """``data`` with structures of one SMILES made geometries of the first, where nothing else tells their molecule."""
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
    """(M,) whether an InChIKey or a parent tells the molecule."""
    own = np.arange(len(data))
    related = data.parent != own
    related[data.parent[related]] = True
    return np.asarray(related | (data.inchikey != ""))


def _notes(reference: Dataset, predicted: Dataset, comparison: Comparison) -> list[str]:
    notes = []
    for name, data in (("reference", reference), ("prediction", predicted)):
        if data.energy is None:
            notes.append(f"The {name} holds no energies: energy metrics are undefined.")
    untold = int((~_is_told_by_file(reference) & (reference.smiles == "")).sum())
    if untold:
        which = (
            "No structure says" if untold == len(reference) else f"{untold} of {len(reference)} structures do not say"
        )
        notes.append(
            f"{which} its molecule (parent, InChIKey, SMILES): each counts as a molecule of its own, and intervals are "
            "too narrow where several are geometries of one."
        )
    if np.array_equal(comparison.forces, comparison.forces_predicted):
        notes.append("Every predicted force equals the reference's to the last bit: is it the same file or key?")
    broken = int((~np.isfinite(comparison.forces_predicted)).any(axis=1).sum())
    if broken:
        notes.append(f"{broken} atoms have predicted forces that are not finite: what rests on them is undefined.")
    return notes
