"""Tests of relabelling by the teacher: the sample, the messages, and that a missing result never passes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks import Dataset, Finding, Severity, Verdict, check
from hydrogate.checks.engine.partition import Parts
from hydrogate.checks.engine.registry import Subject
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.checks.rules.relabelling import Sample, audit_sample, missed_share


def audited(data: Dataset, ask: Potential) -> dict[str, Finding]:
    report = check(data, "labels", relabel=ask)
    return {f.check: f for f in report.findings if f.check in ("label_audit", "energy_force_consistency")}


def sampled(data: Dataset, size: int) -> Sample:
    """Return the structures that the audit would relabel."""
    parts = Parts.of(data, atoms=500)
    asking, answer = audit_sample(Subject(parts), size, 0), None
    while True:
        try:
            question = asking.send(answer)
        except StopIteration as end:
            return end.value
        answer = tuple(map(parts.ask, question)) if isinstance(question, tuple) else parts.ask(question)


def test_agreement_says_what_it_would_have_missed(labelled: Dataset, ask_again: Potential) -> None:
    found = audited(labelled, ask_again)
    assert {finding.verdict for finding in found.values()} == {Verdict.PASS}
    assert found["label_audit"].message == (
        "20 random structures and 20 outliers of the other checks agree with the teacher; "
        "at 95 % confidence up to 14 % wrong labels would have been missed."
    )


def test_where_all_were_asked_nothing_was_missed(labelled: Dataset, ask_again: Potential) -> None:
    finding = audited(labelled.subset(range(6)), ask_again)["label_audit"]
    assert finding.message == "6 random structures agree with the teacher."
    assert finding.observed["missed_share"] == 0.0


@pytest.mark.parametrize(("n", "of", "share"), [(20, 10**6, 0.14), (59, 10**6, 0.05), (300, 10**6, 0.01), (0, 9, 1.0)])
def test_missed_share(n: int, of: int, share: float) -> None:
    assert missed_share(n, of) == pytest.approx(share, abs=0.005)
    if 0 < share < 1:  # this share of wrong labels is missed once in twenty times
        assert (1.0 - missed_share(n, of)) ** n == pytest.approx(0.05)


def test_a_wrong_label_is_named_with_its_unit(labelled: Dataset, ask_again: Potential) -> None:
    row = sampled(labelled, 20).random[7].row
    forces = labelled.forces.copy()
    forces[labelled.atoms_of(row)] *= -1
    finding = audited(replace(labelled, forces=forces), ask_again)["label_audit"]
    assert finding.verdict is Verdict.FAIL
    assert f" eV/Å over 20 structures (worst: {labelled.name(row)}), allowed at most 0.002" in finding.message


def direct(data: Dataset, **marks: bool) -> Dataset:
    """Return the same labels, from a teacher that declares its forces or energies inexact."""
    return replace(data, teacher={"name": "orb", "method": "orb-v3-direct-omol", **marks})


def test_a_teacher_that_says_that_its_forces_are_no_gradient_is_let_through_and_it_is_said_what_that_means(
    labelled: Dataset, ask_again: Potential
) -> None:
    forces = labelled.forces * np.float32(1.2)
    data = replace(labelled, forces=forces)
    assert audited(data, ask_again)["energy_force_consistency"].severity is Severity.ERROR
    finding = audited(direct(data, conservative=False), ask_again)["energy_force_consistency"]
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.WARN)
    assert finding.observed["inexact"] == pytest.approx(1 / 6, abs=0.01)
    assert (
        "orb-v3-direct-omol predicts forces separately from its energy: they are not the gradient of any energy, so a "
        "student, whose forces are a gradient, learns them only in part, allowed at most 1"
    ) in finding.message
    jumping = audited(direct(data, smooth=False), ask_again)["energy_force_consistency"]
    assert "the energy of orb-v3-direct-omol jumps when an atom gains or loses a neighbour" in jumping.message
    # Forces unrelated to the energy fail even for such a teacher.
    finding = audited(direct(replace(data, forces=-forces), conservative=False), ask_again)["energy_force_consistency"]
    assert (finding.verdict, finding.severity) == (Verdict.FAIL, Severity.ERROR)


def test_it_is_said_also_where_nobody_asks_the_teacher(labelled: Dataset) -> None:
    found = {f.check: f for f in check(direct(labelled, conservative=False), "labels").findings}
    message = found["energy_force_consistency"].message
    assert (
        "no teacher was given for relabelling (--audit); orb-v3-direct-omol predicts forces separately from its energy"
        in message
    )


@pytest.mark.parametrize("failing", [0, 5, 39])
def test_no_answer_is_no_pass(failing: int, labelled: Dataset, ask_again: Potential) -> None:
    def ask(structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        answers = list(ask_again(structures))
        if failing < len(answers):
            answers[failing] = (float("nan"), np.full_like(answers[failing][1], np.nan))
        return answers

    finding = audited(labelled, ask)["label_audit"]
    assert finding.verdict is Verdict.UNDECIDED
    assert "no teacher result or no stored label for 1, such as structure" in finding.message
    if failing < 16:
        finding = audited(labelled, ask)["energy_force_consistency"]
        assert finding.verdict is Verdict.UNDECIDED
        assert "no teacher result or no stored label for 1, such as structure" in finding.message


def test_a_structure_without_a_label_is_the_strangest_and_hides_no_other(
    labelled: Dataset, ask_again: Potential
) -> None:
    forces, energy = labelled.forces.copy(), labelled.energy.copy()
    forces[labelled.atoms_of(70)] *= 40
    energy[33] = np.nan
    spoiled = replace(labelled, forces=forces, energy=energy)
    assert [one.row for one in sampled(spoiled, 2).outliers] == [33, 70]
    assert audited(spoiled, ask_again)["label_audit"].verdict is Verdict.UNDECIDED
