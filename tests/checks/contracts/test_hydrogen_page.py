"""docs/hydrogen.md: each way to lose hydrogens, run on the sample, is caught by the checks named in the page."""

import re
from pathlib import Path

import pytest
from rdkit import rdBase

from hydrogate.checks import check
from hydrogate.pipeline.molecules.records import raw_records

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "hydrogen.md").read_text(encoding="utf-8")
WAYS = re.findall(r"^## (.+?)\n\n```python\n(.*?)```\n.*?^Caught by (.*?)\.$", PAGE, re.DOTALL | re.MULTILINE)
MOLECULES = 55  # checks on populations need 50


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdf")
    for index, record in zip(range(MOLECULES), raw_records(ROOT / "samples" / "sample-1000-0.sdf.gz"), strict=False):
        (folder / f"{index}.sdf").write_text(f"{record}$$$$\n")
    return sorted(map(str, folder.iterdir()))


def test_the_page_has_its_ways():
    assert len(WAYS) == 5
    assert PAGE.count("```python") == 5


@pytest.mark.parametrize(("block", "named"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
def test_the_named_checks_fire(block, named, paths):
    structures = []
    with rdBase.BlockLogs():
        for path in paths:
            scope = {"path": path}
            exec(block, scope)
            structures.append(scope["atoms"])
    report = check(structures, "structures")
    assert {finding.check for finding in report.refusals()} == set(re.findall(r"`(\w+)`", named))


def test_ase_reads_the_first_record_alone(paths, tmp_path):
    from ase.io import read

    both = tmp_path / "both.sdf"
    both.write_text("".join(Path(path).read_text() for path in paths[:2]))
    assert len(read(both, index=":")) == 1
