"""Reasons of quarantined records: in the report of contract ``input``, in ``hydrogate show``, in the CSV file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hydrogate.pipeline.params import Regenerate, load_params
from hydrogate.pipeline.stages import regenerate
from hydrogate.pipeline.storage.hdf5 import write_dataset

ROOT = Path(__file__).resolve().parents[3]
CASES = ROOT / "tests/pipeline/data/sdf"
GOOD = (CASES / "32_hhh.sdf").read_text()
BAD = {"36_amide.sdf": "is written single", "13_dummy.sdf": "a dummy atom", "06c_2Dflag3D_chain.sdf": "a 2-D drawing"}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three good records and three bad ones."""
    path = tmp_path / "mixed.sdf"
    path.write_text("".join([GOOD, *((CASES / name).read_text() for name in BAD), GOOD, GOOD]))
    return path


@pytest.fixture
def params() -> Regenerate:
    return load_params(ROOT / "params.yaml").regenerate


def test_the_command_prints_the_reasons(mixed: Path, call: Callable[..., "object"]) -> None:
    for form in ("text", "json"):
        done = call("check", mixed, "--contract", "input", "--format", form)
        assert all(words in done.out for words in BAD.values()), done.out  # type: ignore[attr-defined]
    examples = [line for finding in json.loads(done.out)["findings"] for line in finding.get("examples", [])]  # type: ignore[attr-defined]
    assert len(examples) == len(BAD) and all(line.startswith("mixed.sdf record ") for line in examples)


def test_the_data_set_and_the_csv_file_hold_all(
    mixed: Path, params: Regenerate, tmp_path: Path, call: Callable[..., "object"]
) -> None:
    data, counts = regenerate.run([mixed], params, processes=1)
    regenerate._write_quarantine(counts, tmp_path / "quarantine.csv")
    with (tmp_path / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["file"], row["record"]) for row in rows} == {
        ("mixed.sdf", "1"),
        ("mixed.sdf", "2"),
        ("mixed.sdf", "3"),
    }
    assert {row["check"] for row in rows} == {"sanitizes", "known_elements", "has_3d"}
    write_dataset(data, tmp_path / "made.h5")
    shown = call("show", tmp_path / "made.h5")
    assert all(words in shown.out for words in BAD.values())  # type: ignore[attr-defined]
