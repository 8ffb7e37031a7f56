"""docs/extending.md: its code blocks are inserted in a copy of the project, and its commands are run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from ase.build import molecule
from ase.io import write

from hydrogate.checks import Dataset
from hydrogate.pipeline.storage.hdf5 import write_dataset

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = {
    (place, where): body
    for place, where, body in re.findall(
        r"```(?:python|yaml|markdown)\n(?:# |<!-- )(\S+), (.*?)(?: -->)?\n(.*?)```", PAGE, re.DOTALL
    )
}
COMMANDS = re.findall(r"^((?:python -m|hydrogate) .*)$", PAGE, re.MULTILINE)
# Line after which a block is inserted, and its indentation; other blocks go to the end of the file.
BEHIND = {
    ("checks/defaults.yaml", "profiles: druglike: structures:"): ("    structures:\n", 6),
    ("params.yaml", "contracts: structures:"): ("  structures:\n", 4),
    ("params.yaml", "gates:"): ("gates:\n", 2),
    ("tests/checks/accidents/test_mutants.py", "in MUTANTS"): ("MUTANTS: dict[tuple[str, str], Mutant] = {\n", 4),
    ("tests/studies/test_validators.py", "in SEES"): ("SEES: dict[str, tuple[str, str]] = {\n", 4),
    ("tests/models/teachers/test_teachers.py", "in MADE_BY"): ("MADE_BY: dict[str, dict[str, object]] = {\n", 4),
    ("tests/models/kernels/test_kernels.py", "in FAST"): ("FAST = {\n", 4),
    ("tests/models/kernels/test_kernels.py", "in arguments"): (
        "    distance = (0.8 + 4.2 * torch.rand(e, 1, dtype=torch.float64)).requires_grad_()\n",
        4,
    ),
    ("studies/benchmarks/kernels.py", "in _arguments"): (
        "    distance = (1.0 + 4.0 * torch.rand(e, 1, device=device)).requires_grad_()\n",
        4,
    ),
    ("docs/formats.md", "in the table"): ("| --- | --- | --- | --- | --- |\n", 0),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project and insert the code blocks of the page."""
    root = tmp_path_factory.mktemp("project")
    folders = ("hydrogate", "checks", "pipeline", "models", "studies", "tests", "docs", "metrics")
    for name in (*folders, "pyproject.toml", "params.yaml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    for (place, where), body in BLOCKS.items():
        path = root / place
        if where == "a new file":
            path.write_text(body, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        if where == "at its end":
            path.write_text(f"{text}\n\n{body}", encoding="utf-8")
        else:
            line, depth = BEHIND[place, where]
            assert line in text, f"{place} has no {line!r}"
            path.write_text(text.replace(line, line + indent(body, depth * " "), 1), encoding="utf-8")
    return root


def called(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python …`` in the copy, with the copy's packages."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def hydrogate(copy: Path, *commands: str) -> tuple[str, list[int]]:
    """Return the output and exit statuses of ``commands``, run in one process because its start takes longest."""
    start = (
        "import sys\nfrom hydrogate.pipeline.cli import main\nfor command in sys.argv[1:]:\n"
        "    sys.argv = command.split()\n    try:\n        main()\n"
        "    except SystemExit as ended:\n        print('status', ended.code or 0)"
    )
    done = called(copy, "-c", start, *commands)
    statuses = [int(status) for status in re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE)]
    assert len(statuses) == len(commands), done.stderr
    return " ".join(done.stdout.split()), statuses


def test_every_block_has_its_place() -> None:
    assert len(BLOCKS) == PAGE.count("\n```python") + PAGE.count("\n```yaml") + PAGE.count("\n```markdown")
    assert {key for key in BLOCKS if key[1] not in ("at its end", "a new file")} == set(BEHIND)
    assert len(COMMANDS) == 13


def test_the_tests_take_up_what_is_new(copy: Path) -> None:
    rendered = called(copy, *COMMANDS[0].split()[1:])
    assert rendered.returncode == 0, rendered.stderr
    assert "| `distance_from_origin`<br>Å |" in (copy / "docs" / "contracts.md").read_text(encoding="utf-8")
    files = [word for word in COMMANDS[1].split() if word.endswith(".py")]
    files += [
        "tests/checks/accidents/test_accidents.py",
        "tests/pipeline/formats/test_formats.py",
        "tests/studies/test_validators.py",
    ]
    named = (
        "distance_from_origin",
        "positions_in_nanometres",
        "spice_filter",
        "a_mutant",
        "strictly",
        "reason",
        "tables_are",
        "lists_every",
    )
    tested = called(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", " or ".join(named))
    assert tested.returncode == 0, tested.stdout
    assert int(re.findall(r"(\d+) passed", tested.stdout)[0]) >= len(named)


def test_the_new_check_judges_the_new_reader_reads_and_the_new_accident_is_probed(copy: Path) -> None:
    near, far = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    far.translate(400.0)
    write(copy / "my.gen", near, format="gen")
    write(copy / "far.gen", far, format="gen")
    (copy / "damaged.gen").write_text("no geometry\n")
    write(copy / "my.extxyz", [near, far])
    check, probe = COMMANDS[4], f"{COMMANDS[2]} --profile small --format markdown"
    others = [check.replace("my.gen", name) for name in ("far.gen", "damaged.gen")]
    said, statuses = hydrogate(copy, check, *others, probe)
    assert statuses == [0, 1, 2, 0]
    assert "check distance_from_origin: structure 0 (C2H6O, far.gen record 0) has an atom 69" in said
    assert "Move each structure to the origin before it is stored." in said
    assert re.search(r"\| positions\\_in\\_nanometres \| caught", said)


def test_the_atlas_asks_the_new_validator_about_the_new_accident(copy: Path, labelled: Dataset) -> None:
    (copy / "data").mkdir()
    write_dataset(labelled, copy / "data" / "labelled.h5")
    small = ["--molecules", "20", "--held-out", "4", "--clean-sets", "2", "--strengths", "5 %", "--accidents"]
    asked = called(copy, *COMMANDS[3].split()[1:], *small, "positions_in_nanometres", "forces_in_kcal")
    assert asked.returncode == 0, asked.stderr
    assert "(https://github.com/openmm/spice-dataset/pull/41)" in asked.stdout
    rows = {line.partition("`]")[0].removeprefix("| [`"): line for line in asked.stdout.splitlines()}
    assert rows["forces_in_kcal"].endswith("| `spice_filter` 5 % |")
    assert rows["positions_in_nanometres"].endswith("| none |")


def test_the_new_metric_is_measured_and_its_gate_is_read(copy: Path, labelled: Dataset) -> None:
    write_dataset(labelled, copy / "held-out.h5")
    evaluate = COMMANDS[5].replace("my.extxyz", "held-out.h5").replace("theirs.extxyz", "held-out.h5")
    said, statuses = hydrogate(copy, evaluate, "hydrogate plan")
    assert statuses == [0, 0]
    assert "heavy_force_error 0 0 to 0" in said
    assert re.search(r"heavy_force_error \* +not_run", said)


def test_the_new_teacher_student_and_kernel_are_what_such_must_be(copy: Path) -> None:
    files = [word for command in COMMANDS for word in command.split() if word.startswith("tests/models/")]
    # Only a few tests of each kind; the commands of the page run all.
    chosen = "(xtb_water and gradient) or the_teachers or (schnet and fresh and (rotation or slope)) or test_names"
    tested = called(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", f"{chosen} or (envelope and exact)"
    )
    assert tested.returncode == 0, tested.stdout
    assert int(re.findall(r"(\d+) passed", tested.stdout)[0]) >= 7
