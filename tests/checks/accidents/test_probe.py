"""Detection matrix: which data corruptions the shipped bounds catch, which pass, and how both are reported."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from hydrogate.checks import Dataset
from hydrogate.checks.accidents import ACCIDENTS
from hydrogate.checks.accidents.probe import STRENGTHS, Line, Outcome, Probe, count_trials, probe, sampled
from hydrogate.checks.errors import BadParams
from hydrogate.checks.render.detection_matrix import probe_markdown, probe_text

# A check that catches each corruption at its highest strength, among others.
CAUGHT_BY = {
    "atomization_energies": "energy_residual",
    "elements_exchanged": "isolated_atom_energies",
    "energies_per_atom": "energy_residual_scale",
    "energies_in_hartree": "energy_residual_scale",
    "energies_in_kcal": "energy_residual_scale",
    "energies_shuffled": "energy_residual",
    "flattened": "hydrogen_bond_lengths",
    "forces_a_tenth": "sibling_work",
    "forces_a_thousandth": "force_rms",
    "forces_clipped": "net_force",
    "forces_converted_twice": "force_magnitude",
    "forces_divided_by_kcal": "force_magnitude",
    "forces_in_half_precision": "net_force",
    "forces_in_another_frame": "net_torque",
    "forces_in_hartree_per_bohr": "force_magnitude",
    "forces_in_kcal": "force_magnitude",
    "forces_not_found": "force_magnitude",
    "forces_of_another_geometry": "net_torque",
    "forces_permuted": "net_torque",
    "gradients_for_forces": "restoring_forces",
    "hydrogen_torn_off": "hydrogen_bond_lengths",
    "hydrogens_at_origin": "hydrogen_bond_lengths",
    "hydrogens_stripped": "hydrogen_bond_lengths",
    "nan_in_one_atom": "finite",
    "one_force_diverged": "force_magnitude",
    "polar_hydrogens_only": "net_force",
    "positions_in_bohr": "hydrogen_bond_lengths",
    "scf_not_converged": "sibling_residual",
    "two_teachers": "sibling_work",
    "zeros_for_failed_labels": "force_magnitude",
}


@pytest.fixture(scope="module")
def matrix(labelled: Dataset) -> Probe:
    return probe(labelled, "labels")


@pytest.fixture(scope="module")
def structure_matrix(structures: Dataset) -> Probe:
    return probe(structures, "structures")


def text_of(found: Probe) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(probe_text(found))
    return captured.get()


def of(found: Probe, name: str) -> Line:
    return next(line for line in found.lines if line.accident == name)


def test_each_accident_of_the_contract_has_a_line(matrix: Probe) -> None:
    assert {line.accident for line in matrix.lines} == {a.name for a in ACCIDENTS.values() if "labels" in a.contracts}
    assert all(len(line.trials) == len(STRENGTHS) and not line.absent for line in matrix.lines)
    for line in matrix.lines:
        accident = ACCIDENTS[line.accident]
        assert (line.says, line.source) == (accident.says, accident.source)
    assert matrix.clean.holds()


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_the_worst_is_caught(matrix: Probe, name: str) -> None:
    assert CAUGHT_BY[name] in of(matrix, name).trials[0].refused_by


def test_what_loses_nothing_passes(matrix: Probe) -> None:
    line = of(matrix, "energies_in_single_precision")
    assert {trial.outcome for trial in line.trials} == {Outcome.PASSES}
    assert line.weakest_caught is None
    assert "energies_in_single_precision: passes at all (108 structures)" in " ".join(text_of(matrix).split())


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("conformers_across_split", "split_leakage"),
        ("duplicated_block", "duplicates"),
        ("elements_exchanged", "charge_parity"),
        ("hydrogens_stripped", "explicit_hydrogens"),
        ("hydrogens_at_origin", "hydrogen_bond_lengths"),
        ("polar_hydrogens_only", "explicit_hydrogens"),
        ("positions_in_bohr", "hydrogen_bond_lengths"),
        ("smiles_of_another", "bond_lengths_match_orders"),
    ],
)
def test_structures_catch_what_is_of_structures(structure_matrix: Probe, name: str, check: str) -> None:
    assert check in of(structure_matrix, name).trials[0].refused_by


def test_a_sign_that_is_wrong_in_one_structure_passes_without_siblings_and_that_is_said(labelled: Dataset) -> None:
    alone = replace(labelled, parent=np.arange(len(labelled)))
    found = probe(alone)
    line = of(found, "gradients_for_forces")
    assert [line.trials[0].outcome, line.trials[-1].outcome] == [Outcome.CAUGHT, Outcome.PASSES]
    said = " ".join(text_of(found).split())
    assert "gradients_for_forces: passes at" in said
    assert "only relabelling by the teacher (check label_audit)" in said
    assert "Checks not run for lack of an input: sibling_work" in said


def test_the_bound_to_tighten_is_named(labelled: Dataset) -> None:
    bounds = {"sibling_work": {"min": 0.05}, "sibling_residual": {"max": 50}, "force_rms_per_structure": {"min": 0.001}}
    loose = [("test", {"labels": bounds})]
    found = probe(labelled, overrides=loose)
    missed = of(found, "forces_a_tenth").trials[-1]
    assert missed.outcome is Outcome.PASSES
    assert missed.nearest is not None
    assert missed.nearest.check in ("force_rms_per_structure", "sibling_work")
    assert 0.1 <= missed.nearest.way <= 1.0
    allowed = {"force_rms_per_structure": "0.001 to 10", "sibling_work": "0.05 to 1.1"}
    assert missed.nearest.allowed == allowed[missed.nearest.check]
    assert "Tighten force_rms_per_structure: " in " ".join(text_of(found).split())


def test_data_that_do_not_hold_are_said_first(labelled: Dataset) -> None:
    bad = replace(labelled, forces=-labelled.forces)
    found = probe(bad)
    assert set(found.blind) == {"restoring_forces", "sibling_work", "sibling_residual"}
    assert text_of(found).startswith("THE CLEAN DATA ALREADY FAIL: restoring_forces, sibling_work")
    content = found.to_dict()
    assert content["holds_before"] is False
    assert set(content["refused_before"]) == set(found.blind)
    refused = [name for line in found.lines for trial in line.trials for name in trial.refused_by]
    assert not set(refused) & set(found.blind)


def test_a_seed_repeats_it_and_the_data_stay(labelled: Dataset, matrix: Probe) -> None:
    before = labelled.fingerprint()
    done: list[int] = []
    assert probe(labelled, on_trial=done.append).to_dict() == matrix.to_dict()
    assert sum(done) == count_trials("labels")
    assert labelled.fingerprint() == before


def test_an_accident_that_cannot_happen_is_named(structures: Dataset) -> None:
    nothing = np.full(len(structures), "", dtype=object)
    found = probe(replace(structures, split=nothing), "structures", sample=30)
    line = of(found, "conformers_across_split")
    assert {trial.outcome for trial in line.trials} == {Outcome.ABSENT}
    assert "conformers_across_split was not tried: the data set has no split." in text_of(found)


def test_the_sample_keeps_families(labelled: Dataset) -> None:
    taken = sampled(labelled, 31, seed=2)
    assert len(taken) == 30
    assert np.unique(taken.parent, return_counts=True)[1].tolist() == [3] * 10
    assert (taken.n_read, taken.quarantine) == (0, ())
    assert sampled(labelled, 108, seed=2) is labelled
    assert sampled(labelled, 31, seed=3).fingerprint() != taken.fingerprint()


def test_one_family_larger_than_the_sample_is_taken_in_part(labelled: Dataset) -> None:
    one = replace(labelled, parent=np.zeros(len(labelled), dtype=np.int64))
    taken = sampled(one, 20, seed=0)
    assert len(taken) == 20
    assert taken.parent.tolist() == [0] * 20


def test_what_cannot_be_probed_is_refused(structures: Dataset, labelled: Dataset) -> None:
    with pytest.raises(BadParams, match="did you mean 'labels'"):
        probe(labelled, "label")
    with pytest.raises(BadParams, match="has no energies and forces"):
        probe(structures, "labels")
    with pytest.raises(BadParams, match="nothing to probe: 0 structures"):
        probe(labelled.subset([]), "labels")


def test_markdown_holds_the_matrix(matrix: Probe) -> None:
    said = probe_markdown(matrix)
    assert said.startswith("## Detection matrix of contract labels")
    assert said.count("\n| ") == len(matrix.lines) + 2
    assert "| energies\\_shifted | caught \\(50 %\\) |" in said
