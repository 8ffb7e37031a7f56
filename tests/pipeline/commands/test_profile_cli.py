"""``hydrogate diff`` and ``hydrogate profile`` on the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.storage.hdf5 import write_dataset


@pytest.fixture(autouse=True)
def files(labelled: Dataset, tmp_path: Path) -> None:
    write_dataset(labelled, tmp_path / "good.h5")
    write_dataset(replace(labelled, forces=labelled.forces * 3), tmp_path / "spoiled.h5")
    write_dataset(replace(labelled, forces=-labelled.forces), tmp_path / "gradients.h5")
    (tmp_path / "text.h5").write_text("this is no data set\n")


def test_diff_says_what_differs_and_exits_0(call) -> None:
    result = call("diff", "good.h5", "spoiled.h5")
    assert result.status == 0
    assert "|F|, Kolmogorov-Smirnov" in result.out
    content = json.loads(call("diff", "good.h5", "spoiled.h5", "--format", "json").out)
    assert content["force_distance"] > 0.3
    assert (content["same"], content["new"], content["element_distance"]) == (False, {}, 0.0)
    assert content["other"]["name"] == "spoiled.h5"
    assert call("diff", "good.h5", "good.h5", "--format", "markdown").out.startswith("## good.h5 and good.h5")


def test_diff_of_two_formats_converts_the_units_of_the_one_that_does_not_say_them(
    call, few: Dataset, written, tmp_path: Path
) -> None:
    write_dataset(few, tmp_path / "few.h5")
    written(few, ".extxyz")
    same = json.loads(call("diff", "few.h5", "data.extxyz", "--format", "json").out)
    assert same["told_by"] == "formula"
    assert same["one"]["force"]["quantiles"] == pytest.approx(same["other"]["force"]["quantiles"], rel=1e-4)
    taken = call("diff", "few.h5", "data.extxyz", "--units", "kcal/mol,angstrom", "--format", "json")
    other = json.loads(taken.out)["other"]
    assert "kcal/mol" in other["units"]
    ratio = same["other"]["force"]["quantiles"]["median"] / other["force"]["quantiles"]["median"]
    assert ratio == pytest.approx(23.06, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diff", "good.h5", "gone.h5"], "gone.h5: no such file"),
        (["diff", "text.h5", "good.h5"], "text.h5"),
        (["diff", "good.h5", "good.h5", "--units", "kcal/mol,angstrom"], "omit --keys and --units"),
        (["diff", "good.h5"], "Missing argument"),
        (["profile", "gone.h5", "-o", "c.yaml"], "gone.h5: no such file"),
        (["profile", "text.h5", "-o", "c.yaml"], "text.h5"),
        (["profile", "good.h5", "-o", "c.yaml", "--margin", "2"], "from 0 to 1"),
        (["profile", "good.h5", "-o", "c.yaml", "--profile", "smal"], "did you mean 'small'"),
        (["profile", "good.h5", "-o", "good.h5"], "already exists"),
        (["profile", "good.h5"], "Missing option"),
    ],
)
def test_what_cannot_be_used_exits_2_and_says_why(call, arguments: list[str], words: str) -> None:
    result = call(*arguments)
    assert result.status == 2
    said = " ".join((result.err + result.out).split())
    assert words in said
    assert "Traceback" not in said
    assert not Path("c.yaml").exists()


def test_a_profile_is_accepted_by_check_and_tells_the_spoiled_copy(call) -> None:
    result = call("profile", "good.h5", "-o", "contract.yaml")
    assert result.status == 0, result.err
    assert "next: hydrogate check DATA --params contract.yaml" in result.out
    for contract in ("structures", "labels"):
        assert call("check", "good.h5", "--contract", contract, "--params", "contract.yaml").status == 0
    assert call("check", "spoiled.h5", "--contract", "labels", "--params", "contract.yaml").status == 1


def test_a_profile_of_one_contract_and_force(call) -> None:
    Path("c.yaml").write_text("mine\n")
    assert call("profile", "good.h5", "-o", "c.yaml", "--contract", "labels").status == 2
    assert Path("c.yaml").read_text() == "mine\n"
    assert call("profile", "good.h5", "-o", "c.yaml", "--contract", "labels", "--force").status == 0
    text = Path("c.yaml").read_text()
    assert "  labels:" in text
    assert "  structures:" not in text


def test_data_that_break_a_law_are_refused_and_nothing_is_written(call) -> None:
    result = call("profile", "gradients.h5", "-o", "c.yaml")
    assert result.status == 1
    assert "check restoring_forces" in result.err
    assert result.err.endswith("--contract structures proposes bounds for that contract only\n")
    assert not Path("c.yaml").exists()
