"""Sound data of other kinds than drug-like molecules give no error under the profile that fits."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.collections import g2, s22

from hydrogate.checks import Dataset, Report, check, concatenate
from hydrogate.checks.symmetry import Potential


def box_of_water(count: int = 2, side: float = 3.4) -> Atoms:
    """``count``³ water molecules in a periodic box, each turned its own way, some cut by a face."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[count * side] * 3, pbc=True)
    for place in np.ndindex(count, count, count):
        water = molecule("H2O")
        water.euler_rotate(*rng.uniform(0, 360, 3), center="COM")
        water.translate(side * np.array(place))
        box += water
    box.wrap()
    return box


def charged(name: str, symbols: str, positions: list[list[float]], charge: int) -> Atoms:
    return Atoms(symbols, positions, info={"charge": charge, "name": name})


AMMONIUM = charged("NH4+", "NH4", [[0, 0, 0], *(0.59 * np.array(v) for v in
                   ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]))], 1)  # fmt: skip
ACETATE = charged(
    "acetate",
    "CCOOH3",
    [
        [0.0, 0.0, 0.0],
        [1.54, 0.0, 0.0],
        [2.15, 1.09, 0.0],
        [2.15, -1.09, 0.0],
        [-0.36, 1.03, 0.0],
        [-0.36, -0.51, 0.89],
        [-0.36, -0.51, -0.89],
    ],
    -1,
)


def g2_set() -> list[Atoms]:
    """ASE's G2 set; the multiplicity from its magnetic moments."""
    found = []
    for name in g2.names:
        atoms = g2[name]
        atoms.info["spin"] = 1 + round(abs(float(atoms.get_initial_magnetic_moments().sum())))
        found.append(atoms)
    return found


SMALL: dict[str, list[Atoms]] = {
    "water": [molecule("H2O")],
    "H2": [molecule("H2")],
    "NaCl": [molecule("NaCl")],
    "thiol": [molecule("CH3SH")],
    "radical": [molecule("CH3", info={"spin": 2})],
    "ammonium": [AMMONIUM],
    "acetate": [ACETATE],
    "all": [molecule(name) for name in ("H2O", "H2", "NaCl", "CH3SH", "C6H6")] + [AMMONIUM, ACETATE],
}
CLUSTERS = {"S22": [s22[name] for name in s22.names], "one dimer": [s22["Water_dimer"]]}
PERIODIC = {
    "rock salt": [bulk("NaCl", "rocksalt", a=5.64)],
    "rock salt, cubic": [bulk("NaCl", "rocksalt", a=5.64, cubic=True)],
    "copper": [bulk("Cu")],
    "water": [box_of_water()],
    "all": [bulk("NaCl", "rocksalt", a=5.64), bulk("Cu"), box_of_water(), bulk("Si", cubic=True)],
}
CASES = [
    pytest.param(structures, profile, id=f"{profile}: {name}")
    for profile, sets in (("small", {**SMALL, "G2": g2_set()}), ("clusters", CLUSTERS), ("periodic", PERIODIC))
    for name, structures in sets.items()
]


def refusals(report: Report) -> list[str]:
    return [str(finding) for finding in report.refusals()]


@pytest.mark.parametrize(("structures", "profile"), CASES)
def test_structures_hold_under_the_profile_that_fits(structures: list[Atoms], profile: str) -> None:
    report = check(structures, "structures", profile=profile)
    assert report.holds(), refusals(report)


def labelled_by(ask: Potential, structures: list[Atoms]) -> Dataset:
    plain = concatenate(structures)
    answers = ask([plain.to_atoms(row) for row in range(len(plain))])
    energy, forces = zip(*answers, strict=True)
    return concatenate(structures, energy=energy, forces=forces, teacher={"name": "xtb", "method": "GFN2-xTB"})


def near(structures: list[Atoms], times: int = 2) -> list[Atoms]:
    """``structures`` rattled by 0.03 Å, ``times`` over."""
    found = []
    for seed in range(times):
        for atoms in structures:
            moved = atoms.copy()
            moved.rattle(0.03, seed=seed)
            found.append(moved)
    return found


@pytest.mark.parametrize(
    ("structures", "profile"),
    [
        pytest.param(SMALL["water"], "small", id="water as it is"),
        pytest.param(near(SMALL["H2"]), "small", id="H2"),
        pytest.param(near(SMALL["NaCl"]), "small", id="NaCl"),
        pytest.param(near(SMALL["all"]), "small", id="small"),
        pytest.param([s22[name] for name in s22.names if len(s22[name]) <= 16], "clusters", id="S22 to 16 atoms"),
        pytest.param(near([box_of_water()]), "periodic", id="water in a box"),
    ],
)
def test_labels_hold_under_the_profile_that_fits(structures: list[Atoms], profile: str, ask_again: Potential) -> None:
    report = check(labelled_by(ask_again, structures), "labels", profile=profile)
    assert report.holds(), refusals(report)
