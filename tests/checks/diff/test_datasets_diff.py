"""Comparison of two data sets: differences are reported, equal content gives zero, undefined values give None."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from rich.console import Console

from hydrogate.checks.contracts.run import check
from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.diff.datasets_diff import compare, teacher_name
from hydrogate.checks.render.difference_tables import difference_dict, difference_markdown, difference_text


def text_of(difference) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(difference_text(difference))
    return captured.get()


def test_a_data_set_differs_in_nothing_from_itself(labelled: Dataset) -> None:
    difference = compare(labelled, replace(labelled))
    assert difference.same
    assert (difference.element_distance, difference.force_distance, difference.energy_distance) == (0.0, 0.0, 0.0)
    assert (difference.new, difference.lost, difference.changed) == ({}, {}, {})
    assert difference.one == replace(difference.other, name="one")
    assert "bit-for-bit identical" in text_of(difference)


def test_scaled_forces_move_their_quantiles_and_their_distance_alone(labelled: Dataset) -> None:
    difference = compare(labelled, replace(labelled, forces=labelled.forces * 3))
    assert not difference.same
    for name, value in difference.one.force.quantiles.items():
        assert difference.other.force.quantiles[name] == pytest.approx(3 * value, rel=1e-5)
    assert difference.force_distance > 0.3
    assert (difference.element_distance, difference.energy_distance) == (0.0, 0.0)
    assert difference.other.energy_per_atom == difference.one.energy_per_atom


def test_the_distances_are_those_of_the_checks(labelled: Dataset) -> None:
    half = labelled.subset(range(54))
    difference = compare(half, labelled)
    found = {f.check: f.observed for name in ("structures", "labels")
             for f in check(half, name, compared_with=labelled).findings}  # fmt: skip
    assert difference.element_distance == found["element_drift"]["value"] > 0
    assert difference.force_distance == pytest.approx(found["distribution_drift"]["force_ks"])
    assert difference.energy_distance == pytest.approx(found["distribution_drift"]["energy_ks"])


def test_molecules_by_their_smiles_whatever_way_they_are_written(labelled: Dataset) -> None:
    ethanol = labelled.subset([0, 1])
    rewritten = replace(ethanol, smiles=np.array(["OCC", "C(O)C"], dtype=object))
    assert compare(ethanol, rewritten).new == {}
    difference = compare(labelled.subset([0, 1, 3]), labelled.subset([0, 6, 7]))
    assert difference.told_by == "molecule_key"
    assert difference.changed == {"CCO": (2, 1)}
    assert difference.new == {"c1ccccc1": 2}
    assert list(difference.lost.values()) == [1]
    assert difference.one.molecules == difference.other.molecules == 2


def test_molecules_by_formula_where_smiles_are_missing(labelled: Dataset) -> None:
    without = concatenate([molecule("H2O"), molecule("CH4"), molecule("CH4")])
    difference = compare(without, labelled.subset([0]))
    assert difference.told_by == "formula"
    assert difference.lost == {"H2O": 1, "CH4": 2}
    assert difference.new == {"C2H6O": 1}
    assert "isomers count as one" in difference_markdown(difference)


def test_stripped_hydrogens_are_seen_in_species_fraction_and_distance(labelled: Dataset) -> None:
    heavy = [labelled.to_atoms(row)[labelled.numbers[labelled.atoms_of(row)] > 1] for row in range(len(labelled))]
    difference = compare(labelled, concatenate(heavy))
    assert difference.other.hydrogen_fraction == 0.0
    content = difference_dict(difference)
    assert content["species_percent_difference"]["H"] == pytest.approx(-100 * difference.one.hydrogen_fraction)
    assert sum(content["species_percent_difference"].values()) == pytest.approx(0.0)
    assert difference.element_distance > 0.3
    assert (difference.other.force, difference.force_distance, difference.energy_distance) == (None, None, None)


def test_what_is_not_finite_is_counted_and_left_out_of_the_figures(labelled: Dataset) -> None:
    forces, energy = labelled.forces.copy(), labelled.energy.copy()
    forces[7, 1], energy[3:5] = np.nan, [np.inf, np.nan]
    difference = compare(labelled, replace(labelled, forces=forces, energy=energy))
    assert (difference.other.force.not_finite, difference.other.energy_per_atom.not_finite) == (1, 2)
    assert difference.other.force.n == len(labelled.numbers)
    assert 0 < difference.energy_distance < 0.1
    assert "|F| eV/Å, not finite" in text_of(difference)
    json.dumps(difference_dict(difference), allow_nan=False)


def test_an_empty_data_set_has_nothing_to_compare(labelled: Dataset) -> None:
    difference = compare(labelled, labelled.subset([]))
    assert difference.other.sizes.quantiles == {}
    assert difference.other.hydrogen_fraction is None
    assert (difference.element_distance, difference.force_distance) == (None, None)
    assert "undefined" in text_of(difference)
    json.dumps(difference_dict(difference), allow_nan=False)


def test_smiles_that_name_nothing_stand_for_themselves_and_are_counted(labelled: Dataset) -> None:
    broken = replace(labelled.subset([0]), smiles=np.array(["C1CC("], dtype=object))
    difference = compare(labelled.subset([0]), broken)
    assert (difference.unreadable_smiles, difference.new, difference.lost) == (1, {"C1CC(": 1}, {"CCO": 1})
    assert "1 SMILES cannot be read by RDKit" in text_of(difference)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (None, "none"),
        ({}, "none"),
        ({"seed": 3}, "none"),
        ({"name": "orb"}, "orb"),
        ({"version": "6.7", "name": "xtb", "accuracy": 0.1, "method": "GFN2"}, "xtb GFN2 6.7"),
    ],
)
def test_a_teacher_is_called_by_what_is_said_of_it(labelled: Dataset, teacher: object, said: str) -> None:
    assert teacher_name(replace(labelled, teacher=teacher)) == said


def test_names_are_no_markup_and_long_lists_are_cut_with_their_count(labelled: Dataset) -> None:
    name = "[bold]x[/bold]<img src=x>](javascript:1)"
    teacher = {"name": "<b>|[red]t"}
    difference = compare(labelled.subset([0]), replace(labelled, teacher=teacher), names=("a", name))
    assert "[bold]x[/bold]" in text_of(difference)
    markdown = difference_markdown(difference)
    assert "<img" not in markdown
    assert "](javascript" not in markdown
    assert "<b>" not in markdown
    new = len(difference.new)
    assert f"only in other: {new}: " in text_of(difference)
    assert f"({new - 10} more)" in text_of(difference)
    assert len(difference_dict(difference)["new"]) == new
