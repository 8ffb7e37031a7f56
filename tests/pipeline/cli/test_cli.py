"""The command line from a user's view: exit status 0 passed, 1 failed, 2 invalid input, and no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import kcal, mol
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from hydrogate.checks import Dataset
from hydrogate.pipeline.storage.hdf5 import write_dataset


@pytest.fixture
def good(labelled: Dataset, tmp_path: Path) -> Path:
    write_dataset(labelled, tmp_path / "good.h5")
    return tmp_path / "good.h5"


@pytest.fixture
def bad(labelled: Dataset, tmp_path: Path) -> Path:
    write_dataset(replace(labelled, forces=-labelled.forces), tmp_path / "bad.h5")
    return tmp_path / "bad.h5"


@pytest.fixture
def implicit(tmp_path: Path) -> Path:
    """Three molecules as a generative model writes them: 3-D coordinates, no hydrogens."""
    path = tmp_path / "implicit.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for smiles in ("CCO", "c1ccccc1C(=O)O", "CC(N)=O"):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            writer.write(Chem.RemoveHs(mol))
    return path


def test_a_contract_that_holds_exits_0(call, good: Path) -> None:
    result = call("check", str(good), "--contract", "labels")
    assert result.status == 0
    assert "contract labels passed" in result.out
    assert "not checked" not in result.out


@pytest.mark.parametrize("output_format", ["text", "markdown"])
def test_labels_that_the_contract_does_not_look_at_are_named(call, bad: Path, output_format: str) -> None:
    result = call("check", str(bad), "--format", output_format)
    assert result.status == 0
    said = " ".join(result.out.split()).replace("\\", "").lower()
    assert "energies and forces not checked: use --contract labels" in said


def test_of_structures_without_labels_nothing_is_left(call, labelled: Dataset, tmp_path: Path) -> None:
    write_dataset(replace(labelled, energy=None, forces=None, teacher=None), tmp_path / "x.h5")
    assert "not checked" not in call("check", "x.h5").out


def test_a_contract_that_does_not_exits_1_and_says_what_where_and_what_to_do(call, bad: Path) -> None:
    result = call("check", str(bad), "--contract", "labels")
    assert result.status == 1
    said = " ".join(result.out.split())
    assert "contract labels, check restoring_forces" in said
    assert "allowed at most -0.3" in said
    assert "FAILED: restoring_forces, sibling_work" in said


def test_strict_refuses_what_could_not_run(call, labelled: Dataset, tmp_path: Path) -> None:
    write_dataset(replace(labelled, teacher=None), tmp_path / "x.h5")
    assert call("check", "x.h5", "--contract", "labels").status == 0
    assert call("check", "x.h5", "--contract", "labels", "--strict").status == 1


@pytest.mark.parametrize(
    ("declared", "profile", "most"), [("druglike", "small", 200), ("small", "small", 3), (None, "small", 3)]
)
def test_bounds_of_another_profile_than_the_one_asked_for_are_left_out(
    call, labelled: Dataset, tmp_path: Path, declared: str | None, profile: str, most: int
) -> None:
    write_dataset(labelled, tmp_path / "x.h5")
    of = f"profile: {declared}, " if declared else ""
    Path("params.yaml").write_text(f"contracts: {{{of}structures: {{size: {{max: 3}}}}}}", encoding="utf-8")
    result = call("check", "x.h5", "--profile", profile, "--format", "json")
    (size,) = [finding for finding in json.loads(result.out)["findings"] if finding["check"] == "size"]
    assert f"{most}" in str(size["allowed"])
    assert ("which are for profile druglike" in result.err) is (declared == "druglike")


def test_json_is_the_whole_report_and_markdown_leads_with_the_verdict(call, bad: Path) -> None:
    result = call("check", str(bad), "--contract", "labels", "--format", "json")
    content = json.loads(result.out)
    assert (content["holds"], content["checks"]["restoring_forces"]["verdict"]) == (False, "fail")
    assert call("check", str(bad), "--contract", "labels", "--format", "markdown").out.startswith(
        "## Contract labels **failed**"
    )


@pytest.mark.parametrize("contract", ["structures", "input"])
def test_an_sdf_file_with_implicit_hydrogens(call, implicit: Path, contract: str) -> None:
    result = call("check", str(implicit), "--contract", contract)
    said = " ".join(result.out.split())
    if contract == "structures":
        assert result.status == 1
        assert "has 0 explicit H, its valences imply 6" in said
        assert "implicit.sdf record 0" in said
    else:
        assert result.status == 0
        assert "implicit_hydrogens: implicit 17 hydrogens over 3 molecules" in said


def test_extxyz_of_small_molecules_under_the_profile_that_fits(call, tmp_path: Path) -> None:
    write(tmp_path / "m.extxyz", [molecule(name) for name in ("H2O", "CH4", "CH3CH2OH", "C6H6")])
    assert call("check", "m.extxyz", "--profile", "small").status == 0
    write(tmp_path / "bug.extxyz", [molecule("C6H6")[:6], molecule("CH3CH2OH")[:3]])
    assert call("check", "bug.extxyz", "--profile", "small").status == 1


def test_params_in_the_folder_override_and_the_named_file_overrides_them(call, good: Path, tmp_path: Path) -> None:
    loose = "contracts: {structures: {xh_spread: {min: 0.9}}}"
    (tmp_path / "params.yaml").write_text(loose)
    result = call("check", str(good), "--format", "json")
    assert result.status == 1
    sources = {finding["check"]: finding["source"] for finding in json.loads(result.out)["findings"]}
    assert sources["xh_spread"] == "profile druglike, params.yaml"
    (tmp_path / "mine.yaml").write_text(loose.replace("0.9", "0.001"))
    assert call("check", str(good), "--params", "mine.yaml").status == 0


def test_the_refusal_names_the_profile_that_fits(call, tmp_path: Path) -> None:
    other = molecule("H2O")
    other.translate([0, 0, 3.0])
    dimer = molecule("H2O") + other
    write(tmp_path / "dimers.extxyz", [dimer])
    refused = call("check", "dimers.extxyz")
    assert refused.status == 1
    assert "this contract passes with --profile clusters" in " ".join(refused.out.split())
    assert call("check", "dimers.extxyz", "--profile", "clusters").status == 0


def test_a_waiver_lets_known_structures_pass_and_says_so(call, bad: Path, tmp_path: Path) -> None:
    content = json.loads(call("check", str(bad), "--contract", "labels", "--format", "json").out)
    refusing = [name for name, item in content["checks"].items() if item["verdict"] == "fail"]
    signed = f"fingerprint: {content['fingerprint']}, reason: known, author: A. Curator, expires: 2999-12-31"
    # A waiver of a check on the whole data set uses its fingerprint; a waiver of a check on structures uses theirs.
    named = {"sibling_residual": "pattern: '*', "}
    waivers = [f"{{contract: labels, check: {name}, {named.get(name, '')}{signed}}}" for name in refusing]
    (tmp_path / "mine.yaml").write_text(f"contracts: {{waivers: [{', '.join(waivers)}]}}")
    result = call("check", str(bad), "--contract", "labels", "--params", "mine.yaml")
    assert result.status == 0
    assert "waived: A. Curator until 2999-12-31: known" in " ".join(result.out.split())
    (tmp_path / "late.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("2999", "2001"))
    late = call("check", str(bad), "--contract", "labels", "--params", "late.yaml")
    assert late.status == 1
    assert "has expired" in " ".join(late.out.split())
    (tmp_path / "mine.yaml").write_text("contracts: {waivers: [{contract: labels, check: net_torqe}]}")
    assert call("check", str(bad), "--contract", "labels", "--params", "mine.yaml").status == 2


def test_units_are_converted(call, labelled: Dataset, tmp_path: Path) -> None:
    foreign = []
    for row in range(len(labelled)):
        atoms = labelled.to_atoms(row)
        energy, forces = labelled.energy[row] / (kcal / mol), labelled.forces[labelled.atoms_of(row)] / (kcal / mol)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        foreign.append(atoms)
    write(tmp_path / "k.extxyz", foreign)
    assert call("check", "k.extxyz", "--contract", "labels").status == 1
    assert call("check", "k.extxyz", "--contract", "labels", "--units", "kcal/mol,angstrom").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "gone.h5"], "gone.h5: no such file"),
        (["check", "good.h5", "--contract", "label"], "did you mean 'labels'"),
        (["check", "good.h5", "--profile", "smal"], "did you mean 'small'"),
        (["check", "good.h5", "--units", "ev"], "--units 'ev' is unknown"),
        (["check", "good.h5", "--input-format", "hdf"], "did you mean 'hdf5'"),
        (["check", "good.h5", "--params", "gone.yaml"], "gone.yaml: no such file"),
        (["check", "unknown.suffix"], "unknown.suffix: unknown suffix; give the format with --input-format"),
        (["check", "text.h5"], "not a readable hydrogate data set"),
        (["check", "empty.sdf"], "empty.sdf"),
        (["check", "text.sdf"], "text.sdf"),
        (["check", "text.sdf", "--contract", "input"], "text.sdf"),
        (["check", "text.extxyz"], "text.extxyz"),
        (["show", "gone.h5"], "gone.h5: no such file"),
        (["decide"], "params.yaml"),
        (["check"], "Missing argument"),
        (["chekc"], "No such command"),
    ],
)
def test_what_cannot_be_used_exits_2_and_says_why(
    call, good: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    for name in ("unknown.suffix", "text.h5", "text.sdf", "text.extxyz"):
        (tmp_path / name).write_text("this is no data set\n")
    (tmp_path / "empty.sdf").write_text("")
    result = call(*arguments)
    assert result.status == (1 if arguments == ["decide"] else 2)
    said = " ".join((result.err + result.out).split())
    assert words in said
    assert "Traceback" not in said


def test_show_prints_the_species_with_hydrogen_first(call, good: Path, implicit: Path) -> None:
    said = call("show", str(good)).out
    assert "H 5" in said
    assert "xtb GFN2-xTB" in said
    assert "RMS component" in said
    assert "H 0.0 %" in call("show", str(implicit)).out


def test_show_tells_programs_and_comments_the_same(call, labelled: Dataset, good: Path, tmp_path: Path) -> None:
    found = json.loads(call("show", str(good), "--format", "json").out)
    assert (found["structures"], found["roots"], found["atoms"]) == (len(labelled), 36, len(labelled.numbers))
    assert found["read_as"] == [{"format": "hdf5", "units": "eV,angstrom (as the file says)"}]
    assert found["species_percent"] == labelled.species_percentages()
    assert found["force"]["max"] == pytest.approx(np.linalg.norm(labelled.forces, axis=1).max())
    assert found["sizes"] == {"min": int(labelled.sizes.min()), "max": int(labelled.sizes.max())}
    assert found["split"] == {name: int((labelled.split == name).sum()) for name in ("test", "train", "valid")}
    assert found["fingerprint"] == labelled.fingerprint()
    spoilt = replace(labelled, forces=np.full_like(labelled.forces, np.nan))
    write_dataset(spoilt, tmp_path / "na[n].h5")
    assert json.loads(call("show", "na[n].h5", "--format", "json").out)["force"]["median"] is None
    assert "|F| median undefined, largest undefined" in call("show", "na[n].h5").out
    written = call("show", "na[n].h5", "--format", "markdown").out
    assert written.startswith("## na\\[n\\].h5\n\n| | |\n| --- | --- |\n| structures | 108 ")
    assert "- Read as hdf5" in written


def test_show_and_diff_take_shards(call, labelled: Dataset, good: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    middle = len(labelled) // 2
    write_dataset(labelled.part(0, middle), tmp_path / "shards" / "a.h5")
    write_dataset(labelled.part(middle, len(labelled)), tmp_path / "shards" / "b.h5")
    shown = call("show", "shards").out
    assert "a.h5 and 1 more" in shown
    assert f"{len(labelled)} (" in shown
    assert shown == call("show", "shards/*.h5").out
    difference = json.loads(call("diff", str(good), "shards", "--format", "json").out)
    assert (difference["new"], difference["lost"], difference["changed"]) == ({}, {}, {})
    assert difference["other"]["structures"] == len(labelled)


def test_data_docs_are_told_the_bounds_that_were_judged_with(call, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def write(folder: Path, report: object, overrides: Sequence[tuple[str, object]]) -> None:
        told.extend(source for source, _ in overrides)

    monkeypatch.setattr("hydrogate.pipeline.outputs.write_data_docs", write)
    Path("params.yaml").write_text("contracts: {structures: {element_drift: {enabled: false}}}", encoding="utf-8")
    call("check", str(good), "--reference", str(good), "--data-docs", "docs")
    assert told == ["params.yaml", "--reference"]


def test_version(call) -> None:
    names = ["hydrogate", "torch", "rdkit", "pandera", "great-expectations", "dvc"]
    assert call("--version").out.splitlines() == [f"{name} {version(name)}" for name in names]


def test_version_says_what_is_not_installed(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(name: str) -> str:
        if name in ("torch", "dvc"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(sys.modules["hydrogate.pipeline.cli.app"], "version", bare)
    lines = call("--version").out.splitlines()
    assert [line for line in lines if "not" in line] == ["torch is not installed", "dvc is not installed"]


def test_a_molecule_name_is_not_read_as_markup(call, labelled: Dataset, tmp_path: Path) -> None:
    source = np.full(len(labelled), "[bold]x[/bold] <img src=x onerror=alert(1)> ](javascript:1)", dtype=object)
    write_dataset(replace(labelled, forces=labelled.forces * 0, source=source), tmp_path / "n.h5")
    assert "[bold]x[/bold]" in " ".join(call("check", "n.h5", "--contract", "labels").out.split())
    markdown = call("check", "n.h5", "--contract", "labels", "--format", "markdown").out
    assert "<img" not in markdown
    assert "](javascript:" not in markdown


@pytest.mark.parametrize("command", [["check"], ["show"], ["diff", "good.h5"]])
def test_a_name_obeys_nobody(call, good: Path, labelled: Dataset, tmp_path: Path, command: list[str]) -> None:
    name = "[red]x[bold]\x1b[2J\u202e.h5"
    write_dataset(replace(labelled, forces=labelled.forces * 0), tmp_path / name)
    labels = ["--contract", "labels"] if command == ["check"] else []
    said = call(*command, name, *labels).out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert labels or "[red]x[bold]\ufffd[2J\ufffd.h5" in said


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("hydrogate")
    result = subprocess.run([command, "check", "nothing.h5"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == "FileNotFoundError: nothing.h5: no such file"


def test_an_interrupt_exits_130_and_says_how_to_go_on(call, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hydrogate.pipeline.formats.shards.parts_of", interrupted)
    result = call("check", str(good))
    assert (result.status, result.out) == (130, "")
    assert result.err.startswith("interrupted; run the same command again")


def test_a_reader_that_goes_away_is_no_fault(good: Path) -> None:
    """Simulate `hydrogate show data.h5 | head -1`."""
    command = Path(sys.executable).with_name("hydrogate")
    with subprocess.Popen(
        [command, "show", good], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_an_encoding_that_lacks_a_letter_changes_no_verdict(bad: Path, output_format: str) -> None:
    command = [Path(sys.executable).with_name("hydrogate"), "check", bad, "--contract", "labels"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [*command, "--format", output_format], capture_output=True, text=True, check=False, env=environment
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "eV/" in result.stdout
    assert output_format == "text" or not json.loads(result.stdout)["holds"]
