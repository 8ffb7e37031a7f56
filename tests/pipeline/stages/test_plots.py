"""Plots: each is written as a PNG, is equal for equal numbers, and works with undefined metrics."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import measure
from hydrogate.pipeline.stages.plots import error_by_element, parity_forces, write_plots


def comparison():
    rng = np.random.default_rng(0)
    structures = [molecule(name) for name in ("CH3CH2OH", "NH3", "C6H6", "CH3OH", "H2O")]
    sizes = [len(atoms) for atoms in structures]
    forces = rng.normal(size=(sum(sizes), 3))
    return Comparison(
        numbers=np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64),
        positions=np.concatenate([atoms.positions for atoms in structures]),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        molecule=np.arange(len(structures)),
        energy=-100.0 * np.array(sizes),
        forces=forces,
        energy_predicted=-100.0 * np.array(sizes) + rng.normal(size=len(sizes)),
        forces_predicted=forces + 0.2 * rng.normal(size=forces.shape),
    )


def texts(figure):
    return " ".join(
        text.get_text()
        for axis in figure.axes
        for text in [*axis.texts, axis.title, axis.xaxis.label, axis.yaxis.label, *axis.get_xticklabels()]
    ) + (figure.get_suptitle() or "")


def test_every_picture_is_a_png_and_equal_for_equal_numbers(tmp_path):
    measured = measure(comparison(), resamples=50)
    first = write_plots(comparison(), measured, tmp_path / "a")
    second = write_plots(comparison(), measured, tmp_path / "b")
    assert len(first) == 4
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes().startswith(b"\x89PNG")
        assert one.read_bytes() == other.read_bytes()


def test_the_picture_of_the_elements_counts_atoms_and_tells_hydrogens_apart():
    measured = measure(comparison(), resamples=50)
    shown = texts(error_by_element(comparison(), measured))
    assert "H on C\n14\n" in shown
    assert "O\n3\n" in shown
    assert "eV/Å" in shown


def test_components_outside_the_picture_are_counted():
    wild = comparison()
    predicted = wild.forces_predicted.copy()
    predicted[0] = [1e3, -1e3, math.nan]
    wild = replace(wild, forces_predicted=predicted)
    assert f"3 of {predicted.size} components lie outside" in texts(parity_forces(wild, measure(wild, resamples=5)))


@pytest.mark.parametrize("value", [math.nan, 0.0])
def test_predictions_without_any_sense_still_give_pictures(tmp_path, value):
    lost = comparison()
    lost = replace(
        lost, forces_predicted=np.full_like(lost.forces, value), energy_predicted=np.full_like(lost.energy, value)
    )
    assert len(write_plots(lost, measure(lost, resamples=5), tmp_path)) == 4


def test_forces_below_the_floor_still_give_pictures(tmp_path):
    still = comparison()
    still = replace(still, forces=0 * still.forces, forces_predicted=0 * still.forces)
    assert len(write_plots(still, measure(still, resamples=5), tmp_path)) == 4
