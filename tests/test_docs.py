"""Each command in README.md and docs/ is one, and has these options; none is run. CITATION.cff names this version."""

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
import typer
import yaml

from hydrogate.pipeline import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SESSIONS = {
    node.name
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(line) for line in node.decorator_list)
}


def blocks_and_prose(text: str) -> tuple[list[tuple[str, str]], str]:
    """The fenced blocks of a page with their language, and the rest of it; a fence left open is asserted against."""
    blocks, prose, lines = [], [], iter(text.splitlines())
    for line in lines:
        if not (opening := re.match(r"\s*(```+)(.*)", line)):
            prose.append(line)
            continue
        inside = list(takewhile(lambda line, fence=opening[1]: line.strip() != fence, lines))
        blocks.append((opening[2].strip(), "\n".join(inside)))
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(blocks), "a fence is not closed"
    return blocks, "\n".join(prose)


def commands(text: str) -> Iterator[str]:
    """The commands in a page: lines of its blocks without a language, those behind a prompt where there is one, and
    `hydrogate …`, `nox -s …` and the like within a sentence."""
    blocks, prose = blocks_and_prose(text)
    for block in (block for language, block in blocks if not language):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            yield from re.split(r" && |; ", line)
    yield from re.findall(r"`((?:hydrogate|(?:python3? -m )?nox -s|dvc exp run|torchrun) [^`]+)`", prose)


def known(words: list[str]) -> bool:
    """Tell if these words call something of this project; the call is asserted to be a right one."""
    for index, word in enumerate(words[:-1]):
        if word == "-m" and words[index + 1].startswith(("hydrogate.", "studies.")):
            assert importlib.util.find_spec(words[index + 1]), words
    match words:
        case ["hydrogate", *arguments]:
            check_hydrogate(arguments)
        case ["python" | "python3", "-m", "nox", "-s", *arguments] | ["nox", "-s", *arguments]:
            check_nox(arguments)
        case ["dvc", "exp", "run", *arguments]:
            check_parameters(arguments)
        case ["python" | "python3" | "torchrun", *options] if any(
            word.startswith(("hydrogate.", "studies.")) for word in options
        ):
            check_parameters(options)
        case _:
            return False
    return True


def check_hydrogate(arguments: list[str]) -> None:
    """The command exists and has these options."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    assert arguments[0] in group.commands, arguments
    command = group.commands[arguments[0]]
    context = typer.Context(command, info_name=arguments[0])
    try:
        command.make_parser(context).parse_args(args=arguments[1:])
    except Exception as error:
        raise AssertionError(f"hydrogate {shlex.join(arguments)}: {error}") from error


def check_nox(arguments: list[str]) -> None:
    """The sessions exist; so do the parameters that -S sets, and the command of `nox -s hydrogate -- …`."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    sessions, rest = arguments[:split], arguments[split + 1 :]
    assert sessions and set(sessions) <= SESSIONS, f"{sessions} are not all sessions; these are: {sorted(SESSIONS)}"
    check_parameters(rest)
    if sessions == ["hydrogate"]:
        check_hydrogate(rest)


def check_parameters(arguments: list[str]) -> None:
    """What -S sets stands in params.yaml."""
    for option, change in pairwise(arguments):
        if option in ("-S", "--set-param"):
            section = PARAMS
            for key in change.partition("=")[0].lstrip("+").split("."):
                assert key in section, f"{change}: params.yaml has no {key!r} there, but {sorted(section)}"
                section = section[key]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        if re.search(r"hydrogate|nox|dvc exp run", command):
            known(shlex.split(command, comments=True))


# What a page shows on lines of their own is counted again, without a look at its fences: where those are misread, the
# test above has nothing to say.
STARTS = re.compile(
    r"^ *(?:\$ )?(?:hydrogate [a-z]|python3? -m (?:nox|hydrogate|studies)|nox -s|torchrun|dvc exp run)", re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_of_a_page_is_passed_over(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [known(shlex.split(line, comments=True)) for line in commands(text) if STARTS.match(line)]
    assert sum(found) >= len(STARTS.findall(text))


def test_the_count_of_commands_sees_them() -> None:
    found = {page.name: len(STARTS.findall(page.read_text(encoding="utf-8"))) for page in PAGES}
    least = {"README.md": 8, "contracts.md": 8, "extending.md": 8, "formats.md": 5, "pipeline.md": 2, "results.md": 8}
    assert {name: found[name] for name in least if found[name] < least[name]} == {}, found


@pytest.mark.parametrize("language", ["", "python", "yaml"])
def test_a_command_after_any_block_is_seen(language: str) -> None:
    page = f"text\n\n```{language}\nwords: here\n```\n\n`hydrogate show a` is prose\n\n```\n$ hydrogate diff a b\n```\n"
    seen = [line for line in commands(page) if line.startswith("hydrogate")]
    assert sorted(seen) == ["hydrogate diff a b", "hydrogate show a"]


@pytest.mark.parametrize(
    "line",
    [
        "hydrogate chekc my.extxyz",
        "hydrogate check my.extxyz --contracts labels",
        "hydrogate check my.extxyz --contract",
        "nox -s repro nothing",
        "python -m nox -s repro -- -S train.epoch=3",
        "python -m nox -s hydrogate -- chekc",
        "dvc exp run -S trian.epochs=3",
        "python -m hydrogate.pipeline.nothing",
        "torchrun -m hydrogate.pipeline.nothing",
    ],
)
def test_a_wrong_command_is_seen(line: str) -> None:
    with pytest.raises(AssertionError):
        known(shlex.split(line))


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
