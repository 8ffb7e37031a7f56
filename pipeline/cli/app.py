"""Code shared by the commands: the application, common options, printing of results."""

import json
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console, RenderableType

from hydrogate.checks.declarations import load_yaml
from hydrogate.checks.engine.bounds import Override, profile_names
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


class OutputFormat(StrEnum):
    """Output format of a result."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


Units: TypeAlias = Annotated[
    str | None, typer.Option(help="Units of files that do not state them, e.g. kcal/mol,angstrom.")
]
InputFormat: TypeAlias = Annotated[str | None, typer.Option(help="Format of the files, if not given by the suffix.")]
Keys: TypeAlias = Annotated[
    str | None, typer.Option(help="Label names in the files, e.g. energy=E,charge=Q or forces=-gradient.")
]
Format: TypeAlias = Annotated[OutputFormat, typer.Option("--format", help="Output format.")]
Profile: TypeAlias = Annotated[
    str | None,
    typer.Option(help=f"Profile of shipped bounds: {', '.join(profile_names())}.", autocompletion=profile_names),
]
ParamsFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="YAML file whose section `contracts` overrides the bounds.")
]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hydrogate {version('hydrogate')}")
        for name in ("torch", "rdkit", "pandera", "great-expectations", "dvc"):
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} is not installed")
        raise typer.Exit


@app.callback()
def hydrogate(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of hydrogate and its main libraries.",
        ),
    ] = False,
) -> None:
    """Data contracts and quality gates for machine-learned force field distillation."""


def print_as(
    output_format: OutputFormat,
    content: Callable[[], Mapping[str, Any]],
    markdown: Callable[[], str],
    text: Callable[[], RenderableType],
) -> None:
    """Print a result in the requested format; only that format is rendered."""
    match output_format:
        case OutputFormat.JSON:
            plain = not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
            print(json.dumps(content(), indent=2, ensure_ascii=plain, allow_nan=False))
        case OutputFormat.MARKDOWN:
            print(markdown(), end="")
        case OutputFormat.TEXT:
            Console().print(text())


def print_report(report: Report, output_format: OutputFormat, strict: bool) -> None:
    """Print the findings of a contract."""
    from hydrogate.checks.render.markdown import report_markdown
    from hydrogate.checks.render.text import report_text

    print_as(
        output_format,
        lambda: report.to_dict(strict),
        lambda: report_markdown(report, strict),
        lambda: report_text(report, strict),
    )


def declared_overrides(params: Path | None, profile: str | None = None) -> list[Override]:
    """Return the contracts of ``./params.yaml``, if it declares any, then those of ``--params``.

    If ``./params.yaml`` declares its bounds for a profile other than ``--profile``, they are ignored with a message on
    stderr.
    """
    named = [Path("params.yaml")] if Path("params.yaml").exists() else []
    declared = [(path, load_yaml(path)) for path in [*named, *([params] if params else [])]]
    if params and "contracts" not in declared[-1][1]:
        raise BadParams(f"{params}: no section `contracts`")
    found = [(str(path), content["contracts"]) for path, content in declared if content.get("contracts")]
    of_another = [
        (path, theirs)
        for path, section in (found if named and profile else [])
        if path == str(named[0])
        and isinstance(section, dict)
        and (theirs := section.get("profile", profile)) != profile
    ]
    for path, theirs in of_another:
        typer.echo(f"--profile {profile}: ignoring the bounds in {path}, which are for profile {theirs}", err=True)
    return found[len(of_another) :]
