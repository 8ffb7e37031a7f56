"""Proposed bounds: the trusted data pass under them, corrupted copies fail, and exact bounds are never loosened."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from hydrogate.checks import check
from hydrogate.checks.contracts.propose_bounds import FIXED, MEASURED_WITH, Proposal, proposal_yaml, propose
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import resolve_bounds
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.errors import BadParams


@pytest.fixture(scope="module")
def proposals(labelled: Dataset) -> dict[str, Proposal]:
    return {name: propose(labelled, name) for name in ("structures", "labels")}


def ends(proposal: Proposal, check_name: str, quantity: str = "") -> dict[str, float]:
    (found,) = [item for item in proposal.checks if item.check == check_name]
    return {end: item.value for (of, end), item in found.ends.items() if of == quantity}


def note(proposal: Proposal, check_name: str) -> str:
    return next(item.note for item in proposal.checks if item.check == check_name)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("contract", ["structures", "labels"])
def test_the_data_hold_under_their_own_bounds(labelled: Dataset, contract: str, margin: float) -> None:
    proposal = propose(labelled, contract, margin=margin)
    assert proposal.loosened() == ()
    report = check(labelled, contract, overrides=[("mine", proposal.override())])
    assert report.holds(), report.refusals()


@pytest.mark.parametrize("factor", [3.0, 1 / 3, 1.6, 0.0, -1.0])
def test_spoiled_forces_do_not(labelled: Dataset, proposals: dict[str, Proposal], factor: float) -> None:
    spoiled = replace(labelled, forces=(labelled.forces * factor).astype(np.float32))
    assert not check(spoiled, "labels", overrides=[("mine", proposals["labels"].override())]).holds()


def test_the_scale_of_forces_alone_is_enough(labelled: Dataset, proposals: dict[str, Proposal]) -> None:
    spoiled = replace(labelled, forces=labelled.forces * 1.6)
    report = check(spoiled, "labels", overrides=[("mine", proposals["labels"].override())])
    assert "force_rms" in {finding.check for finding in report.refusals()}
    assert "force_rms" not in {finding.check for finding in check(spoiled, "labels").refusals()}


def test_an_end_lies_half_way_to_the_shipped_one(labelled: Dataset, proposals: dict[str, Proposal]) -> None:
    observed = float((labelled.numbers == 1).mean())
    proposed = ends(proposals["structures"], "hydrogen_fraction")
    assert proposed["min"] == pytest.approx((observed + 0.40) / 2, abs=1e-3)
    assert proposed["max"] == pytest.approx((observed + 0.60) / 2, abs=1e-3)
    assert ends(propose(labelled, margin=1.0), "hydrogen_fraction") == {"min": 0.40, "max": 0.60}


def test_where_any_value_down_to_zero_is_allowed_an_end_lies_half_way_too(proposals: dict[str, Proposal]) -> None:
    (found,) = [item for item in proposals["labels"].checks if item.check == "net_torque"]
    end = found.ends["", "max"]
    assert 0 < end.observed < 0.001
    assert end.value == pytest.approx((end.observed + 0.05) / 2, rel=0.01)


def test_an_end_that_warns_stays_where_the_data_are_beyond_it(labelled: Dataset) -> None:
    least = ends(propose(labelled, margin=0.0), "min_distance")["min"]
    squeezed = replace(labelled, positions=labelled.positions * np.float32(0.72 / least))
    assert ends(propose(squeezed), "min_distance") == {"min": pytest.approx(0.66, abs=2e-3), "warn_min": 0.8}


def test_what_is_nowhere_finite_proposes_nothing(labelled: Dataset) -> None:
    proposal = propose(replace(labelled, forces=np.full_like(labelled.forces, np.nan)), "labels")
    for name in ("force_rms_per_structure", "sibling_residual", "net_torque"):
        assert (ends(proposal, name), note(proposal, name)) == ({}, "no finite value was observed")


def test_a_bound_that_the_check_measures_with_stays(labelled: Dataset, proposals: dict[str, Proposal]) -> None:
    assert ends(proposals["structures"], "duplicates") == ends(propose(labelled, margin=0.0), "duplicates")
    assert ends(proposals["structures"], "duplicates") == {"min": 0.01}


@pytest.mark.parametrize("name", ["finite", "explicit_hydrogens", "split_leakage", "charge_parity"])
def test_exact_bounds_stay_as_shipped(proposals: dict[str, Proposal], name: str) -> None:
    assert ends(proposals["structures"], name) == {"max": 0.0}


def test_exact_bounds_stay_as_shipped_for_data_that_break_them(labelled: Dataset) -> None:
    heavy = labelled.subset(range(len(labelled)))
    broken = replace(heavy, expected_hydrogens=heavy.expected_hydrogens + 1)
    crossed = replace(broken, split=np.array(["train", "test", "valid"] * 36, dtype=object))
    proposal = propose(crossed)
    assert ends(proposal, "explicit_hydrogens") == ends(proposal, "split_leakage") == {"max": 0.0}
    refusing = {f.check for f in check(crossed, overrides=[("mine", proposal.override())]).refusals()}
    assert {"explicit_hydrogens", "split_leakage"} <= refusing


def test_gradients_stored_as_forces_are_not_blessed(labelled: Dataset) -> None:
    proposal = propose(replace(labelled, forces=-labelled.forces), "labels")
    assert ends(proposal, "restoring_forces") == {"max": -0.3}
    assert ends(proposal, "sibling_work") == {"min": 0.9, "max": 1.1}


def test_a_bound_that_is_no_law_is_loosened_and_named(labelled: Dataset) -> None:
    stiff = replace(labelled, forces=labelled.forces * 10, energy=labelled.energy * 10)
    proposal = propose(stiff, "labels")
    assert "force_rms" in proposal.loosened()
    assert not FIXED & set(proposal.loosened())
    rms = float(np.sqrt(np.mean(stiff.forces.astype(float) ** 2)))
    assert ends(proposal, "force_rms")["max"] == pytest.approx(rms + 0.5 * 2.45, rel=0.01)
    assert "LOOSER than the shipped 5" in proposal_yaml([proposal], "stiff", 0.5)


def test_every_number_has_its_comment_and_reads_back_as_it_was(proposals: dict[str, Proposal]) -> None:
    text = proposal_yaml(list(proposals.values()), "good.h5\nevil: 1\x07", 0.5)
    content = yaml.safe_load(text)
    assert list(content) == ["contracts"]
    for name, proposal in proposals.items():
        assert content["contracts"][name] == proposal.override()[name]
        resolve_bounds(name, overrides=[("mine", content["contracts"])])
    for line in text.splitlines():
        if line.lstrip().startswith(("min:", "max:", "warn_")):
            assert "# observed " in line
            assert " over " in line
            assert "shipped" in line


def test_what_could_not_run_is_a_comment(proposals: dict[str, Proposal]) -> None:
    text = proposal_yaml(list(proposals.values()), "good.h5", 0.5)
    assert "    # element_drift: not run: no reference data set was given" in text
    assert "    # label_audit: not run: " in text
    assert "element_drift" not in proposals["structures"].override()["structures"]


def test_too_little_to_judge_and_switched_off_are_comments(labelled: Dataset) -> None:
    few = labelled.subset(range(6))
    assert note(propose(few), "hydrogen_fraction").startswith("undecided: 6 structures")
    assert note(propose(few, profile="small"), "hydrogen_fraction") == "switched off"


def test_unlabelled_data_propose_nothing_for_labels(structures: Dataset) -> None:
    proposal = propose(structures, "labels")
    for name in ("force_rms", "force_magnitude", "force_rms_per_structure", "hydrogen_forces", "restoring_forces"):
        assert note(proposal, name).startswith("not run: the data set has no")


@pytest.mark.parametrize("margin", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_margin_is_from_0_to_1(labelled: Dataset, margin: float) -> None:
    with pytest.raises(BadParams, match=r"--margin .* from 0 to 1"):
        propose(labelled, margin=margin)


def test_no_bounds_for_predictions(labelled: Dataset) -> None:
    with pytest.raises(BadParams, match="structures and labels, not 'predictions'"):
        propose(labelled, "predictions")


def test_what_is_fixed_exists() -> None:
    assert {check_name for _, check_name in RULES} >= FIXED | MEASURED_WITH
