"""docs/contracts.md agrees with the code: its tables are rendered, its declarations are valid, its commands run."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hydrogate.checks import Dataset, Severity, Verdict, check
from hydrogate.checks.engine.bounds import CONTRACTS, Bounds, profile_names, resolve_bounds
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.engine.waiver import read_waivers
from hydrogate.checks.render.contract_tables import BEGIN, END, contract_tables, with_tables
from hydrogate.pipeline import cli
from hydrogate.pipeline.storage.hdf5 import write_dataset
from studies import render_pages as pages

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
DECLARATIONS = {
    block.split("\n", 1)[0].removeprefix("# "): block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
}
COMMANDS = [line.removeprefix("$ ").split(" #")[0].strip() for line in re.findall(r"^\$ hydrogate .*", PAGE, re.M)]


def test_the_tables_are_those_of_the_code() -> None:
    assert with_tables(PAGE) == PAGE, "run `python -m studies.render_pages` in the project's root and commit the page"


def test_every_check_has_a_row_with_its_rule_bound_reason_origin_and_remedy() -> None:
    rows = [line.split(" | ") for line in contract_tables().splitlines() if line.startswith("| `")]
    assert len(rows) == len(RULES)
    for row in rows:
        assert len(row) == 4, row[0]
        assert all(cell.strip("| <br>*") for cell in row)
        assert row[1].count("<br>") == row[3].count("<br>") == 1
        assert not row[3].endswith("<br>** |")


def declared(bounds: Bounds) -> tuple[object, ...]:
    return bounds.limits, bounds.settings, bounds.enabled, bounds.severity


def test_every_bound_that_a_profile_changes_is_shown() -> None:
    tables = contract_tables()
    for contract in CONTRACTS:
        _, shipped = resolve_bounds(contract)
        for name in profile_names():
            _, bounds = resolve_bounds(contract, profile=name)
            changed = [check for check in shipped if declared(shipped[check]) != declared(bounds[check])]
            section = tables.split(f"### Contract `{contract}`")[1].split("###")[0]
            shown = [line.split("`")[1] for line in section.splitlines() if f"**{name}**" in line]
            assert shown == changed


@pytest.mark.parametrize("page", ["", BEGIN, END + BEGIN, BEGIN + END + END, BEGIN + BEGIN + END])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="each once"):
        with_tables(page)


def test_the_command_renders_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    pages.PAGE.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert pages.main([]) == 0
    assert pages.PAGE.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\n{contract_tables()}\n{END}\nafter\n"


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_says_every_verdict_and_profile() -> None:
    for name in (*Verdict, *profile_names()):
        assert f"| `{name}` | " in PAGE


def test_the_shares_that_an_audit_misses() -> None:
    (said,) = re.findall(r"(\d+) % for 20, (\d+) % for 59, (\d+) % for 300", PAGE)
    assert [round(100 * (1 - 0.05 ** (1 / n))) for n in (20, 59, 300)] == list(map(int, said))


@pytest.mark.parametrize("name", DECLARATIONS)
def test_the_declarations_are_read(name: str) -> None:
    section = yaml.safe_load(DECLARATIONS[name])["contracts"]
    for contract in CONTRACTS:
        resolve_bounds(contract, overrides=[(name, section)])
    assert len(read_waivers([(name, section)])) == len(section.get("waivers", ()))


def structures_of(data: Dataset) -> list[Atoms]:
    """Return Atoms with SMILES and labels, as written by a typical program."""
    frames = []
    for row in range(len(data)):
        atoms = data.to_atoms(row)
        atoms.info["smiles"] = data.smiles[row]
        atoms.calc = SinglePointCalculator(atoms, energy=data.energy[row], forces=data.forces[data.atoms_of(row)])
        frames.append(atoms)
    return frames


@pytest.fixture
def workplace(tmp_path: Path, labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with the files used in the page; record 3 of my.extxyz has lost its hydrogens."""
    frames = structures_of(labelled)
    write(tmp_path / "trusted.extxyz", frames)
    frames[3] = frames[3][frames[3].numbers != 1]
    for atoms in frames[3:4]:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=0 * atoms.positions)
    write(tmp_path / "my.extxyz", frames)
    (tmp_path / "my.sdf").write_bytes((ROOT / "tests" / "pipeline" / "data" / "sample-40.sdf.gz").read_bytes())
    (tmp_path / "data").mkdir()
    write_dataset(labelled, tmp_path / "data" / "labelled.h5")
    write_dataset(labelled.subset(np.flatnonzero(labelled.split == "test")), tmp_path / "data" / "predictions.h5")
    for name, block in DECLARATIONS.items():
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    holds = any(word in command for word in ("predictions.h5", "my.sdf", "legacy.yaml"))
    assert ended.value.code == (0 if holds else 1)


def test_the_waiver_takes_its_finding_for_a_warning(workplace: Path) -> None:
    from hydrogate.pipeline.formats import read

    section = yaml.safe_load(DECLARATIONS["legacy.yaml"])["contracts"]
    before, after = (
        next(
            finding
            for finding in check(read(workplace / "my.extxyz"), "structures", overrides=overrides).findings
            if finding.check == "explicit_hydrogens"
        )
        for overrides in ([], [("legacy.yaml", section)])
    )
    assert (before.verdict, before.severity) == (Verdict.FAIL, Severity.ERROR)
    assert "my.extxyz record 3" in before.message
    assert (after.verdict, after.severity) == (Verdict.FAIL, Severity.WARN)
    assert "J. Doe until 2099-01-31" in after.message
