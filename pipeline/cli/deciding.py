"""Commands on gates and milestones: ``plan``, ``decide``, ``report``, ``review``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.cli.app import Format, OutputFormat, app, print_as
from hydrogate.pipeline.program import REFUSED


@app.command(epilog="Example: hydrogate plan")
def plan(
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """How many held-out molecules would decide each gate, from the metrics in git."""
    from hydrogate.checks.render.plan_tables import plan_dict, plan_markdown, plan_text
    from hydrogate.pipeline.decision.plan import run

    found = run()
    print_as(output_format, lambda: plan_dict(found), lambda: plan_markdown(found), lambda: plan_text(found))


@app.command(epilog="Example: hydrogate decide --require m4_cuda_optimization")
def decide(
    require: Annotated[str | None, typer.Option(help="Exit 1 unless this milestone is reached.")] = None,
) -> None:
    """Judge the gates, name the next milestone, write metrics/decision.json."""
    from hydrogate.pipeline.decision import decide as stage

    arguments = [] if require is None else [f"--require={require}"]
    if status := stage.main(arguments):
        raise typer.Exit(status)


@app.command(epilog="Example: hydrogate report --base origin/main --output reports/report.md")
def report(
    base: Annotated[str | None, typer.Option(help="The revision that this branch goes to, to compare with.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; default: print.")] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Print GitHub annotations too.")] = False,
    post: Annotated[
        Path | None, typer.Option(help="In GitHub Actions: post this report, written before, as the sticky comment.")
    ] = None,
) -> None:
    """Say in Markdown what a branch changes, from what is committed; judges no data, and exits 0 whatever it finds."""
    if post is not None:
        from hydrogate.pipeline.reports.github_comment import post as post_comment

        if base or output or annotations:
            raise BadParams("--post FILE posts a report that is there; write one first, without --post")
        print(post_comment(post, os.environ))
        return
    from hydrogate.pipeline.outputs import refuse_unwritable, write_text
    from hydrogate.pipeline.reports.report import run

    if output is not None:
        refuse_unwritable(output)
    text, marks = run(base=base)
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
    for mark in marks if annotations else ():
        print(mark)


@app.command(epilog="Example: hydrogate review --output reports --base origin/main")
def review(
    output: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("reports"),
    base: Annotated[str | None, typer.Option(help="Compare report.md with this revision.")] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Print GitHub annotations too.")] = False,
) -> None:
    """Judge the data that are here and write all reports, also `hydrogate report`'s; exits 1 where one refuses."""
    from hydrogate.checks.render.decision_text import decision_text
    from hydrogate.pipeline.reports.review import run

    found = run(Path(), output, base)
    for line in found.told:
        print(line)
    Console().print(decision_text(found.decision))
    for mark in found.annotations if annotations else ():
        print(mark)
    refusals = list(found.refusals())
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    print(f"{output}: report.md, report.html, junit.xml, data-docs")
    if refusals:
        raise typer.Exit(REFUSED)
