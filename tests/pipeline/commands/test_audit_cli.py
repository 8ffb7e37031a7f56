"""`hydrogate check --audit` and `--reference`, end to end: exit status 0 passed, 1 failed, 2 invalid options."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks import Dataset
from hydrogate.models.teachers import xtb

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
Command = Callable[..., int]
LABELS = ("--contract", "labels")
# A structure that the shipped seed and sample size draw from the valid data set.
SAMPLED = int(np.random.default_rng(0).choice(108, 20, replace=False)[3])


def test_labels_of_the_teacher_hold_and_the_report_says_what_it_can_have_missed(
    labelled: Dataset, written: Written, hydrogate: Command
) -> None:
    path = written(labelled, ".extxyz")
    assert hydrogate("check", path, *LABELS, "--audit", "xtb", "--sample", 15) == 0, hydrogate.output
    assert (
        "15 random structures and 15 outliers of the other checks agree with the teacher; "
        "at 95 % confidence up to 18 % wrong labels would have been missed."
    ) in hydrogate.output
    assert hydrogate("check", path, *LABELS, "--audit", "xtb", "--format", "json") == 0
    assert '"n": 20, "n_bad": 0, "unit": "eV, eV/Å"' in hydrogate.output


def test_one_wrong_label_in_the_sample_is_refused(labelled: Dataset, written: Written, hydrogate: Command) -> None:
    row = SAMPLED
    forces = labelled.forces.copy()
    forces[labelled.atoms_of(row)] *= -1
    path = written(replace(labelled, forces=forces), ".extxyz")
    assert hydrogate("check", path, *LABELS) == 0, hydrogate.output
    assert hydrogate("check", path, *LABELS, "--audit", "xtb") == 1
    assert f"worst: structure {row} (" in hydrogate.output


def test_the_sample_has_its_source(labelled: Dataset, written: Written, hydrogate: Command) -> None:
    path = written(labelled, ".extxyz")
    assert hydrogate("check", path, *LABELS, "--audit", "xtb", "--sample", 30, "--format", "json") == 0
    assert hydrogate.output.count('"source": "profile druglike, --sample"') == 1
    assert '"n": 30' in hydrogate.output


@pytest.mark.parametrize(
    ("teacher", "arguments", "words"),
    [
        ({"name": "orb"}, ("--audit", "xtb"), "the data set names teacher orb; use --audit orb"),
        ({"name": "wB97M-V"}, ("--audit", "xtb"), "the data set names teacher wB97M-V"),
        (
            {"name": "several", "several": []},
            ("--audit", "xtb"),
            "the data set names several teachers: audit each one separately",
        ),
        (
            {"name": "xtb", "method": "GFN2-xTB"},
            ("--audit", "xtb", "--method", "GFN1-xTB"),
            "names method GFN2-xTB, but",
        ),
        ({"name": "xtb", "settings": {"accuracy": 30.0}}, ("--audit", "xtb"), "names settings {'accuracy': 30.0}"),
        (None, ("--audit", "xbt"), "unknown teacher 'xbt'; did you mean 'xtb'?"),
        (None, ("--audit", "xtb", "--method", "GFN2"), "did you mean 'GFN2-xTB'"),
        (None, ("--audit", "xtb", "--weights", "w.ckpt"), "has no weights"),
        (None, ("--audit", "orb"), "no weight file is given"),
        (None, ("--audit", "orb", "--weights", "gone.ckpt"), "gone.ckpt: no such file"),
        (
            {"name": "ase_calculator", "method": "os.system", "settings": {"arguments": {"command": "true"}}},
            ("--audit", "ase_calculator"),
            "it imports and runs code that its parameters name, which a data set must not choose; declare label in",
        ),
        (None, ("--audit", "xtb", "--sample", "4"), "may miss 53 % wrong labels, and the bound missed_share"),
        (None, ("--sample", "20"), "--sample, --method and --weights are options of --audit"),
        (
            None,
            ("--audit", "xtb", "--contract", "structures"),
            "--audit relabels with a teacher: use --contract labels",
        ),
        (None, ("--reference", "gone.h5"), "gone.h5: no such file"),
        (
            None,
            ("--reference", "data.h5", "--contract", "input"),
            "contract 'input' has no check that compares with a reference",
        ),
    ],
)
def test_calls_that_mean_nothing(
    teacher: dict[str, object] | None,
    arguments: tuple[str, ...],
    words: str,
    labelled: Dataset,
    written: Written,
    hydrogate: Command,
) -> None:
    path = written(replace(labelled, teacher=teacher), ".h5")
    assert hydrogate("check", path, *LABELS, *arguments) == 2
    assert words in hydrogate.output
    assert "Traceback" not in hydrogate.output


def test_the_method_is_the_one_that_the_data_set_names(labelled: Dataset, written: Written, hydrogate: Command) -> None:
    stated = {"name": "xtb", "method": "GFN1-xTB"}
    path = written(replace(labelled, teacher=stated), ".h5")
    assert hydrogate("check", path, *LABELS, "--audit", "xtb") == 1
    assert "check label_audit: forces_random" in hydrogate.output


def test_settings_are_those_that_the_data_set_names(labelled: Dataset, written: Written, hydrogate: Command) -> None:
    settings = {"accuracy": 1000.0, "temperature": 9.5e-4, "max-iter": 250}
    path = written(replace(labelled, teacher={"name": "xtb", "settings": settings}), ".h5")
    assert hydrogate("check", path, *LABELS, "--audit", "xtb") == 1
    assert "check label_audit: forces_random" in hydrogate.output


def test_the_extra_is_named_before_the_weights(
    labelled: Dataset, written: Written, hydrogate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orb_models", None)
    assert hydrogate("check", written(labelled, ".extxyz"), *LABELS, "--audit", "orb") == 2
    assert "--audit orb needs orb_models: pip install 'hydrogate[orb]'" in hydrogate.output


def test_without_the_extra_it_is_named(
    labelled: Dataset, written: Written, hydrogate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(xtb, "version", absent)
    assert hydrogate("check", written(labelled, ".extxyz"), *LABELS, "--audit", "xtb") == 2
    assert "--audit xtb needs tblite: pip install 'hydrogate[pipeline]'" in hydrogate.output


def test_a_structure_that_the_teacher_cannot_label_is_no_pass(
    labelled: Dataset, written: Written, hydrogate: Command
) -> None:
    row = SAMPLED
    spin = labelled.spin_multiplicity.copy()
    spin[row] = 2
    path = written(replace(labelled, spin_multiplicity=spin), ".extxyz")
    assert hydrogate("check", path, *LABELS, "--audit", "xtb") == 1
    assert f"no label for {labelled.formula(row)}: " in hydrogate.output
    assert f"no teacher result or no stored label for 1, such as structure {row} (" in hydrogate.output


def test_what_is_switched_off_runs_where_the_call_asks_for_it(
    labelled: Dataset, written: Written, hydrogate: Command, tmp_path: Path
) -> None:
    off = ("label_audit", "energy_force_consistency", "distribution_drift", "force_scale_by_element")
    blocks = "".join(f"    {check}: {{enabled: false}}\n" for check in off)
    (tmp_path / "params.yaml").write_text(f"contracts:\n  labels:\n{blocks}")
    path = written(labelled, ".h5")
    assert hydrogate("check", path, *LABELS) == 0
    assert "switched off: force_scale_by_element, distribution_drift" in hydrogate.output
    assert hydrogate("check", path, *LABELS, "--audit", "xtb", "--reference", path) == 0, hydrogate.output
    assert "switched off" not in hydrogate.output
    assert "20 random structures" in hydrogate.output


@pytest.mark.parametrize(
    ("contract", "checks"),
    [("labels", ("force_scale_by_element", "distribution_drift")), ("structures", ("element_drift",))],
)
def test_a_reference_is_compared_with(
    contract: str, checks: tuple[str, ...], labelled: Dataset, written: Written, hydrogate: Command, tmp_path: Path
) -> None:
    reference = written(labelled, ".h5").rename(tmp_path / "reference.h5")
    other = replace(labelled, forces=labelled.forces * np.float32(4.0))
    if contract == "structures":
        other = labelled.subset(np.flatnonzero(labelled.smiles == "FC(F)(F)CO"))
    path = written(other, ".h5")
    hydrogate("check", path, "--contract", contract)
    assert all(f"check {check}: not run: no reference data set was given" in hydrogate.output for check in checks)
    assert hydrogate("check", path, "--contract", contract, "--reference", reference) == 1
    for check in checks:
        assert f"check {check}: not run" not in hydrogate.output
        assert f"● contract {contract}, check {check}: " in hydrogate.output


def test_a_probe_asks_the_teacher_too(labelled: Dataset, written: Written, hydrogate: Command) -> None:
    path = written(labelled.subset(range(6)), ".extxyz")
    assert hydrogate("probe", path, "--audit", "xtb", "--reference", path, "--format", "json") == 0
    not_run = hydrogate.output.partition('"not_run": ')[2].partition("}")[0]
    assert "teacher_identity" in not_run
    assert not {"label_audit", "force_scale_by_element"} & set(not_run.split('"'))
    assert hydrogate("probe", path, "--method", "GFN1-xTB") == 2
    assert hydrogate("probe", path, "--audit", "xtb", "--contract", "structures") == 2
