"""Valid data other than drug-like molecules give no error under the profile made for them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.collections import g2, s22
from rich.console import Console

from hydrogate.checks import Dataset, Report, check, concatenate
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.checks.render.markdown import report_markdown
from hydrogate.checks.render.text import report_text


def box_of_water(count: int = 2, side: float = 3.4) -> Atoms:
    """Return ``count``³ water molecules in a periodic box, randomly rotated; some cross a cell face."""
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
    """Return ASE's G2 set, with spin multiplicities from its magnetic moments."""
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
    """Return ``times`` copies of ``structures``, rattled with a standard deviation of 0.03 Å."""
    found = []
    for seed in range(times):
        for atoms in structures:
            moved = atoms.copy()
            moved.rattle(0.03, seed=seed)
            found.append(moved)
    return found


LABELLED = [
    pytest.param(SMALL["water"], "small", id="water as it is"),
    pytest.param(near(SMALL["H2"]), "small", id="H2"),
    pytest.param(near(SMALL["NaCl"]), "small", id="NaCl"),
    pytest.param(SMALL["thiol"], "small", id="a thiol as it is"),
    pytest.param(SMALL["radical"], "small", id="a radical as it is"),
    pytest.param(SMALL["ammonium"], "small", id="a cation as it is"),
    pytest.param(near(SMALL["acetate"]), "small", id="an anion"),
    pytest.param(near(SMALL["all"]), "small", id="small"),
    pytest.param(g2_set(), "small", id="G2 as it is"),
    pytest.param(near(g2_set(), 1), "small", id="G2"),
    pytest.param(CLUSTERS["S22"], "clusters", id="S22 as it is"),
    pytest.param(near(CLUSTERS["S22"], 1), "clusters", id="S22"),
    pytest.param(near([box_of_water()]), "periodic", id="water in a box"),
    pytest.param(PERIODIC["rock salt"], "periodic", id="rock salt as it is"),
]


@pytest.mark.parametrize(("structures", "profile"), LABELLED)
def test_labels_hold_under_the_profile_that_fits(structures: list[Atoms], profile: str, ask_again: Potential) -> None:
    data = labelled_by(ask_again, structures)
    report = check(data, "labels", profile=profile)
    assert report.holds(), refusals(report)
    wrong = check(data, "labels", profile="druglike")
    assert wrong.holds() or profile in wrong.holds_under


@pytest.mark.parametrize(("structures", "profile"), CASES)
def test_the_refusal_under_the_shipped_default_names_the_profile_that_fits(
    structures: list[Atoms], profile: str
) -> None:
    report = check(structures, "structures", profile="druglike")
    assert report.refusals()
    assert report.holds_under == (profile,)


@pytest.mark.parametrize(
    ("structures", "wrong", "right"),
    [
        pytest.param(CLUSTERS["S22"], "small", "clusters", id="dimers taken for molecules"),
        pytest.param(PERIODIC["copper"], "clusters", "periodic", id="a metal"),
        pytest.param(SMALL["NaCl"], "clusters", "small", id="a salt taken for a cluster"),
    ],
)
def test_the_refusal_under_another_wrong_profile_names_the_right_one(
    structures: list[Atoms], wrong: str, right: str
) -> None:
    report = check(structures, "structures", profile=wrong)
    assert report.refusals()
    assert report.holds_under == (right,)
    hint = f"this contract passes with --profile {right}"
    with (console := Console(width=300)).capture() as printed:
        console.print(report_text(report))
    assert hint in printed.get()
    assert "This contract passes with" in report_markdown(report)
    assert Report.from_dict(report.to_dict()).holds_under == (right,)


@pytest.mark.parametrize(("declared", "named"), [("druglike", ("clusters",)), ("clusters", ()), (None, ())])
def test_own_bounds_of_one_profile_do_not_hide_the_one_that_fits(declared: str | None, named: tuple[str, ...]) -> None:
    own = {"structures": {"connected": {"max": 1, "reason": "one molecule each"}}}
    overrides = [("params.yaml", {**own, **({"profile": declared} if declared else {})})]
    report = check(CLUSTERS["S22"], "structures", profile="druglike", overrides=overrides)
    assert report.refusals()
    assert report.holds_under == named


def bare(structures: list[Atoms]) -> list[Atoms]:
    return [atoms[atoms.numbers != 1] for atoms in structures]


@pytest.mark.parametrize(
    ("structures", "profile"),
    [
        pytest.param(bare([molecule("C6H6"), molecule("CH3CH2OH")]), "druglike", id="small molecules"),
        pytest.param(bare(CLUSTERS["S22"]), "druglike", id="dimers"),
        pytest.param(bare(CLUSTERS["S22"]), "clusters", id="dimers under their profile"),
        pytest.param([molecule("H2O"), Atoms("CCC", [[0, 0, 0], [0.1, 0, 0], [3, 0, 0]])], "small", id="an overlap"),
    ],
)
def test_no_profile_is_named_that_would_let_a_fault_pass(structures: list[Atoms], profile: str) -> None:
    report = check(structures, "structures", profile=profile)
    assert report.refusals()
    assert report.holds_under == ()
    assert report.hint() == ""


@pytest.mark.parametrize(
    "structures",
    [
        pytest.param([molecule("C60")], id="60 atoms are no small molecule"),
        pytest.param([bulk("Cu"), molecule("CH3CH2OH")], id="a crystal beside a molecule"),
        pytest.param([], id="nothing"),
    ],
)
def test_no_profile_is_named_that_was_made_for_other_data(structures: list[Atoms]) -> None:
    report = check(concatenate(structures), "structures")
    assert report.refusals()
    assert report.holds_under == ()


def test_nothing_is_said_of_other_profiles_where_the_contract_holds(structures: Dataset) -> None:
    assert check(structures, "structures").holds_under == ()
