"""``hydrogate dimers``: a student on hydrogen bonds, along the dissociation curves of S22x5.

22 dimers at five distances. Compares interaction energies (eV), with the monomers in their geometry in the dimer, and
forces on the dimer (eV/Å) with the teacher's. A student of single molecules was not trained on dimers: the result is
reported, and no gate uses it. Source: Gráfová et al., J. Chem. Theory Comput. 6, 2365 (2010), as included in ASE.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data.s22 import (
    create_s22_system,
    get_interaction_energy_s22x5,
    get_number_of_dimer_atoms,
    get_s22_number,
    s22,
)

from hydrogate.checks.geometry.symmetry import Potential

DISTANCES = ("0.9", "1.0", "1.2", "1.5", "2.0")
# Groups of S22: number of the first dimer of each. Source: Jurečka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006).
GROUPS = {"hydrogen bonds": 1, "dispersion": 8, "mixed": 16}


class Dimer(NamedTuple):
    """One dimer at one distance.

    Parameters
    ----------
    name : str
    group : str
        One of `GROUPS`.
    distance : str
        Relative to the equilibrium distance.
    interaction, interaction_teacher, interaction_ccsdt : float, eV
        Interaction energy of the student, of the teacher, and of CCSD(T) at the basis-set limit.
    force_error, force_teacher : float, eV/Å
        Root mean square of the errors of the force components, and of the teacher's components.
    """

    name: str
    group: str
    distance: str
    interaction: float
    interaction_teacher: float
    interaction_ccsdt: float
    force_error: float
    force_teacher: float


def run(student: Potential, teacher: Potential) -> list[Dimer]:
    """Evaluate all dimers at all distances, in the order of S22.

    Raises
    ------
    ValueError
        The student was not trained on an element, or a result is not finite; the message names the dimer.
    """
    pairs = [(name, distance) for name in s22 for distance in DISTANCES]
    structures = [atoms for name, distance in pairs for atoms in _dimer_and_monomers(name, distance)]
    answers = zip(student(structures), teacher(structures), strict=True)
    found = []
    for name, distance in pairs:
        (dimer, reference), *monomers = (next(answers) for _ in range(3))
        by_student, by_teacher = (
            float(whole[0] - sum(one[side][0] for one in monomers)) for side, whole in enumerate((dimer, reference))
        )
        error, forces = (float(np.sqrt(np.mean(x**2))) for x in (dimer[1] - reference[1], reference[1]))
        if not np.isfinite([by_student, by_teacher, error]).all():
            raise ValueError(f"{name} at {distance}: an energy or a force of the student or the teacher is not finite")
        ccsdt = float(get_interaction_energy_s22x5(name, distance))  # type: ignore[no-untyped-call]
        found.append(Dimer(name, _group(name), distance, by_student, by_teacher, ccsdt, error, forces))
    return found


def _dimer_and_monomers(name: str, distance: str) -> Sequence[Atoms]:
    dimer: Atoms = create_s22_system(name, distance)  # type: ignore[no-untyped-call]
    first, _ = get_number_of_dimer_atoms(name)  # type: ignore[no-untyped-call]
    return dimer, dimer[:first], dimer[first:]


def _group(name: str) -> str:
    number = int(get_s22_number(name))  # type: ignore[no-untyped-call]
    return [group for group, first in GROUPS.items() if number >= first][-1]


def summary(dimers: Sequence[Dimer]) -> list[dict[str, Any]]:
    """Return, per group and distance: n, mean absolute errors of the interaction (eV), and force RMSE (eV/Å)."""
    rows = []
    for group in GROUPS:
        for distance in DISTANCES:
            of = [one for one in dimers if (one.group, one.distance) == (group, distance)]
            student, teacher, ccsdt, error, force = np.array([one[3:] for one in of]).T
            rows.append(
                {
                    "group": group,
                    "distance": distance,
                    "n": len(of),
                    "interaction_teacher": float(teacher.mean()),
                    "student_against_teacher": float(np.abs(student - teacher).mean()),
                    "teacher_against_ccsdt": float(np.abs(teacher - ccsdt).mean()),
                    "force_rmse": float(np.sqrt((error**2).mean())),
                    "force_teacher": float(np.sqrt((force**2).mean())),
                }
            )
    return rows
