"""Cases of the atlas: corrupted copies of a sample, relabelled if the corruption happens before labelling."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.accidents import ACCIDENTS, Accident, NotApplicable, changed_structures
from hydrogate.checks.accidents.catalogue import Rows, atoms_of, changed, labels, spin_of_electrons
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.commands.spoil import after
from hydrogate.pipeline.params import Params
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import without_labels
from hydrogate.pipeline.storage.resume import LabelStore, Stored

WORK = Path(".studies/atlas")
STRENGTHS = {"20 %": 0.2, "100 %": 1.0, "5 %": 0.05, "1 %": 0.01}  # in the order of computation
TWO_METHODS = "https://github.com/choderalab/modelforge/issues/33"
OTHER_METHOD = "GFN1-xTB"


@dataclass(frozen=True)
class Budget:
    """Training and evaluation budget, the same for every student.

    Parameters
    ----------
    molecules, held_out : int
        Numbers of molecules in the sample and in the test set, each with all of its geometries.
    epochs : int
        Epochs on the clean sample; on a sample of another size, scaled to the same number of steps.
    md_molecules : int
    md_ps : float
        Length of the NVE run, after a warm-up of half this length.
    clean_sets : int
        Number of clean sets for false alarms, made from the remaining molecules.
    """

    molecules: int = 350
    held_out: int = 100
    epochs: int = 12
    md_molecules: int = 6
    md_ps: float = 0.1
    clean_sets: int = 20


class Case(NamedTuple):
    """A corrupted data set, and its state ``before`` labelling; ``unusable`` is the reason if there is no data set."""

    accident: str
    strength: str
    structures: int
    data: Dataset | None
    unusable: str = ""
    before: Dataset | None = None


class Cases:
    """A sample and its corrupted copies.

    Parameters
    ----------
    params : Params
    data : Dataset
        Data labelled by the teacher of ``params``.
    budget : Budget

    Raises
    ------
    BadParams
        Too few molecules, or no labels from this teacher.
    """

    def __init__(self, params: Params, data: Dataset, budget: Budget) -> None:
        self.sample, self.test, self.rest = _parts(data, budget)
        self.labels = params.label.model_copy(update={"workers": 0})
        WORK.mkdir(parents=True, exist_ok=True)
        self._keep_labels(self.sample)

    def accidents(self) -> dict[str, Accident]:
        """Return all catalogued data corruptions, and ``two_methods``, which needs a second teacher."""
        two = Accident("two_methods", ("labels",), TWO_METHODS, 0.5, False, self._two_methods)
        return dict(sorted({**ACCIDENTS, two.name: two}.items()))

    def case(self, accident: Accident, strength: str) -> Case:
        """Apply ``accident`` to the sample."""
        try:
            spoiled, struck = after(accident, self.sample, STRENGTHS[strength])
        except BadParams as absent:
            return Case(accident.name, strength, 0, None, str(absent.__cause__ or absent))
        before = None
        if accident.before_labelling:
            before = without_labels(spoiled)
            rows = changed_structures(self.sample, spoiled)
            spin = changed(spoiled.spin_multiplicity, rows, spin_of_electrons(spoiled, rows))
            try:
                spoiled = label.run(replace(spoiled, spin_multiplicity=spin), self.labels, WORK)
            except ValueError:  # the teacher labelled no structure
                spoiled = replace(without_labels(spoiled), teacher=spoiled.teacher)
        return Case(accident.name, strength, struck, spoiled, before=before)

    def _keep_labels(self, data: Dataset) -> None:
        """Store the labels of ``data``, so that they are not computed again."""
        if data.energy is None or data.forces is None:
            raise BadParams("data/labelled.h5 has no energies and forces; run python -m nox -s repro")
        teacher = label.teacher_of(self.labels)
        if dict(data.teacher or {}) != teacher.identity():
            raise BadParams("data/labelled.h5 and params.yaml have different teachers; run python -m nox -s repro")
        with LabelStore(WORK / "labels.sqlite", teacher.identity()) as store:
            known = store.known(charges=data.charges is not None)
            answers = []
            for row in range(len(data)):
                own, key = data.atoms_of(row), data.structure_fingerprint(row)
                if key not in known:
                    dipole = None if data.dipole is None else data.dipole[row]
                    charges = None if data.charges is None else data.charges[own]
                    answers.append((key, Stored(float(data.energy[row]), data.forces[own], "", dipole, charges)))
            store.add(answers)

    def _two_methods(self, data: Dataset, rows: Rows, rng: np.random.Generator) -> Dataset:
        """One part of the data set is labelled at another level of theory, GFN1-xTB."""
        energy, forces = labels(data)
        if (data.teacher or {}).get("name") != "xtb":
            raise NotApplicable("no second method is available for this teacher")
        theirs = self.labels.model_copy(update={"method": OTHER_METHOD})
        other = label.run(data.subset(rows), theirs, WORK / OTHER_METHOD)
        if other.energy is None or other.forces is None or len(other) != len(rows):
            raise NotApplicable("the other method failed for some of the structures")
        mixed = changed(forces, atoms_of(data, rows), other.forces)
        return replace(data, energy=changed(energy, rows, other.energy), forces=mixed)


def _parts(data: Dataset, budget: Budget) -> tuple[Dataset, Dataset, Dataset]:
    """Return the sample (splits train and valid), the test set (split test) and the rest; each geometry gets a name."""
    named = replace(data, source=np.array([f"geometry {row}" for row in range(len(data))], dtype=object))
    rng = np.random.default_rng(0)

    def taken(rows: Any, count: int) -> Any:
        molecules = np.unique(data.source_index[rows])
        if len(molecules) < count:
            raise BadParams(f"data/labelled.h5 has only {len(molecules)} molecules where {count} are needed")
        return np.isin(data.source_index, rng.permutation(molecules)[:count]) & np.isin(np.arange(len(data)), rows)

    in_sample = taken(np.flatnonzero(data.split != "test"), budget.molecules)
    in_test = taken(np.flatnonzero(data.split == "test"), budget.held_out)
    which = (in_sample, in_test, ~in_sample & ~in_test)
    sample, test, rest = (named.subset(np.flatnonzero(rows)) for rows in which)
    return sample, test, rest
