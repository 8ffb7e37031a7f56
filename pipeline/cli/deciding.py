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
    """Estimate the held-out molecules needed per gate.

    Shows how many held-out molecules would decide each gate. Reads the metrics in git.

    Exit status: 0 estimated, 2 invalid metrics or options.
    """
    from hydrogate.checks.render.plan_tables import plan_dict, plan_markdown, plan_text
    from hydrogate.pipeline.decision.plan import run

    found = run()
    print_as(output_format, lambda: plan_dict(found), lambda: plan_markdown(found), lambda: plan_text(found))


@app.command(epilog="Example: hydrogate decide --require m4_cuda_optimization")
def decide(
    require: Annotated[str | None, typer.Option(help="Milestone that must be reached; exit with 1 otherwise.")] = None,
) -> None:
    """Decide the next milestone.

    Evaluates the gates and writes metrics/decision.json.

    Exit status: 0 decided, 1 blocked or milestone of --require not reached, 2 invalid input or options.
    """
    from hydrogate.pipeline.decision import decide as stage

    arguments = [] if require is None else [f"--require={require}"]
    if status := stage.main(arguments):
        raise typer.Exit(status)


@app.command(epilog="Example: hydrogate report --base origin/main --output reports/report.md")
def report(
    base: Annotated[str | None, typer.Option(help="Target revision of this branch, to compare with.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write; printed if omitted.")] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Also print GitHub annotations.")] = False,
    post: Annotated[
        Path | None, typer.Option(help="In GitHub Actions: post this existing report as the sticky comment.")
    ] = None,
) -> None:
    """Summarise a branch in Markdown.

    Shows how it changes bounds, gates and metrics. Reads committed files only.

    Exit status: 0 whatever the report shows, 2 invalid options or a post that failed.
    """
    if post is not None:
        from hydrogate.pipeline.reports.github_comment import post as post_comment

        if base or output or annotations:
            raise BadParams(
                "--post FILE posts an existing report and takes no other option; write the report first, without --post"
            )
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
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("reports"),
    base: Annotated[str | None, typer.Option(help="Revision to compare with in report.md.")] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Also print GitHub annotations.")] = False,
) -> None:
    """Run all contracts and gates.

    Checks the local data and writes all reports, including that of `hydrogate report`.

    Exit status: 0 passed, 1 failed, 2 invalid input or options.
    """
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
