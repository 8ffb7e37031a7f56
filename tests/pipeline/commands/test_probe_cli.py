"""`hydrogate probe` from a user's view: exit status 0 when completed, whatever it finds; 2 if it cannot run."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hydrogate.checks import Dataset
from hydrogate.pipeline.storage.hdf5 import write_dataset


@pytest.fixture
def call(call):
    """Run ``hydrogate probe``."""
    return partial(call, "probe")


def test_the_matrix_is_printed_and_the_file_stays(call, labelled: Dataset, tmp_path: Path) -> None:
    write_dataset(labelled, tmp_path / "good.h5")
    before = (tmp_path / "good.h5").read_bytes()
    status, out, _ = call("good.h5", "--sample", "60")
    assert status == 0
    assert "detection matrix: contract labels, profile druglike" in out
    assert "gradients_for_forces" in out
    assert (tmp_path / "good.h5").read_bytes() == before


def test_json_is_the_whole_matrix_and_data_that_do_not_hold_are_no_refusal(
    call, labelled: Dataset, tmp_path: Path
) -> None:
    write_dataset(replace(labelled, forces=-labelled.forces), tmp_path / "bad.h5")
    status, out, err = call("bad.h5", "--format", "json", "--seed", "3")
    content = json.loads(out)
    assert (status, content["holds_before"], content["seed"]) == (0, False, 3)
    assert content["accidents"]["nan_in_one_atom"]["weakest_caught"] == "one"
    assert "corrupted copies" in err
    assert call("bad.h5", "--format", "markdown")[1].startswith("## Detection matrix of contract labels")


def test_what_cannot_be_probed_exits_2(call, structures: Dataset, tmp_path: Path) -> None:
    write_dataset(structures, tmp_path / "s.h5")
    for arguments, words in (
        (["s.h5"], "has no energies and forces"),
        (["gone.h5"], "gone.h5: no such file"),
        (["s.h5", "--contract", "structure"], "did you mean 'structures'"),
        (["s.h5", "--contract", "input"], "cannot be probed"),
    ):
        status, _, err = call(*arguments)
        assert status == 2
        assert words in " ".join(err.split())
        assert "Traceback" not in err
