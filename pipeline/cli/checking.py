"""``hydrogate check`` and ``hydrogate probe``: data against a contract, and the contract against accidents."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from hydrogate.checks.engine.bounds import CONTRACTS, Override
from hydrogate.checks.engine.partition import Whole
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Report
from hydrogate.pipeline.cli.app import (
    Format,
    InputFormat,
    Keys,
    OutputFormat,
    ParamsFile,
    Profile,
    Units,
    app,
    declared_overrides,
    print_as,
    print_report,
)
from hydrogate.pipeline.commands.audit import (
    AUDITING,
    COMPARING,
    Audit,
    asked_again,
    ready_teacher,
    sample_of,
    switched_on,
)
from hydrogate.pipeline.program import REFUSED, progress_bar

if TYPE_CHECKING:
    from hydrogate.pipeline.formats import Declared

Method: TypeAlias = Annotated[str | None, typer.Option(help="With --audit: the teacher's level of theory.")]
Weights: TypeAlias = Annotated[Path | None, typer.Option(help="With --audit: the teacher's local weight file.")]


@app.command(epilog="Example: hydrogate check my.extxyz --contract labels")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Data files or a folder of them; several are one data set.")],
    contract: Annotated[
        str, typer.Option(help=f"One of {', '.join(CONTRACTS)}.", autocompletion=lambda: CONTRACTS)
    ] = "structures",
    profile: Profile = None,
    params: ParamsFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="A check that could not run refuses too.")] = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    reference: Annotated[
        Path | None, typer.Option(help="A trusted data set to compare with; of predictions, the held-out structures.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Take the reference's structures of this split alone.")] = None,
    audit: Annotated[
        str | None, typer.Option(help="Have this teacher (xtb, orb) label a sample again: contract labels.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="With --audit: so many random structures, and as many outliers.")
    ] = None,
    method: Method = None,
    weights: Weights = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Judge over the workers of this Dask scheduler, such as tcp://HOST:8786.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    junit: Annotated[Path | None, typer.Option(help="Write the findings to this file as JUnit XML too.")] = None,
    data_docs: Annotated[
        Path | None, typer.Option(help="Write Great Expectations' Data Docs below this folder (extra gx).")
    ] = None,
) -> None:
    """Hold data against a contract: 0 it holds, 1 it does not, 2 the input or the call cannot be used."""
    asked = _audit(contract, audit, method, weights, sample)
    if junit or data_docs:
        from hydrogate.pipeline.outputs import refuse_unwritable

        for made in ([junit] if junit else []) + ([data_docs / contract / "index.html"] if data_docs else []):
            refuse_unwritable(made, *paths)
    report, judged_with = _judge(
        paths, contract, profile, params, units, input_format, keys, reference, split, asked, scheduler
    )
    print_report(report, output_format, strict)
    if junit or data_docs:
        from hydrogate.pipeline.outputs import write_data_docs, write_junit

        if junit:
            write_junit(junit, [report], strict=strict)
        if data_docs:
            write_data_docs(data_docs, report, judged_with)
    if not report.holds(strict):
        raise typer.Exit(REFUSED)


def _judge(
    paths: Sequence[Path],
    contract: str,
    profile: str | None,
    params: Path | None,
    units: str | None,
    input_format: str | None,
    keys: str | None,
    reference: Path | None,
    split: str | None,
    audit: Audit | None,
    scheduler: str | None,
) -> tuple[Report, list[Override]]:
    """The report, and the bounds over the shipped ones that it was judged with."""
    from hydrogate.checks import check as judge
    from hydrogate.checks.engine.partition import over_threads
    from hydrogate.pipeline.formats import Declared, parse_keys
    from hydrogate.pipeline.formats.shards import parts_of
    from hydrogate.pipeline.workers.dask_parts import cluster

    if contract not in CONTRACTS:
        raise BadParams(f"--contract {contract!r} is unknown{did_you_mean(contract, CONTRACTS)}")
    if contract == "input" and (reference or scheduler):
        given = "--reference: contract 'input' compares with nothing"
        raise BadParams(given if reference else "--scheduler: contract 'input' counts the records in this process")
    if split and not reference:
        raise BadParams(f"--split {split}: the split of a --reference; name one with it")
    overrides = declared_overrides(params, profile)
    if contract == "input":
        from hydrogate.pipeline.molecules.sdf import read_input

        data, counts = read_input(paths)
        return judge(data, contract, profile=profile, overrides=overrides, counts=counts), overrides
    declared = Declared(input_format, units, parse_keys(keys))
    with cluster(scheduler) if scheduler else nullcontext(over_threads) as gather:
        parts = parts_of(paths, *declared, gather=gather)
        overrides, inputs = _asked_for(
            paths, parts.whole, contract, profile, overrides, declared, reference, audit, split
        )
        return judge(parts, contract, profile=profile, overrides=overrides, **inputs), overrides


def _audit(
    contract: str, teacher: str | None, method: str | None, weights: Path | None, sample: int | None
) -> Audit | None:
    if teacher is None and (sample or method or weights):
        raise BadParams("--sample, --method and --weights say how to --audit: name a teacher with it")
    if teacher and contract != "labels":
        raise BadParams(f"--audit asks a teacher about labels, and contract {contract!r} has none: --contract labels")
    return Audit(teacher, method, weights, sample) if teacher else None


def _asked_for(
    paths: Sequence[Path],
    whole: Whole,
    contract: str,
    profile: str | None,
    overrides: list[Override],
    declared: "Declared",
    reference: Path | None,
    audit: Audit | None,
    split: str | None = None,
    quiet: bool = False,
) -> tuple[list[Override], dict[str, Any]]:
    """What ``--reference`` and ``--audit`` add to the bounds and to the inputs of a contract."""
    from hydrogate.pipeline.formats import declared_for, read

    inputs: dict[str, Any] = {}
    if reference:
        compared = read(reference, *declared_for((paths, declared), ([reference], declared))[1])
        if split:
            from hydrogate.pipeline.commands.evaluate import of_split

            compared = of_split(compared, split)
        inputs["held_out" if contract == "predictions" else "compared_with"] = compared
        overrides = switched_on(COMPARING.get(contract, ()), "--reference", contract, profile, overrides)
    if audit:
        overrides = switched_on(AUDITING, "--audit", contract, profile, overrides)
        if audit.sample:
            overrides = sample_of(audit.sample, whole.structures, profile, overrides)
        inputs["relabel"] = asked_again(ready_teacher(audit, whole.teacher or {}), quiet)
    return overrides, inputs


@app.command(epilog="Example: hydrogate probe labelled.h5 --contract labels --sample 200")
def probe(
    paths: Annotated[list[Path], typer.Argument(help="Data files as for `hydrogate check`; they stay as they are.")],
    contract: Annotated[str, typer.Option(help="structures or labels.")] = "labels",
    size: Annotated[int, typer.Option("--sample", min=1, help="Spoil at most so many structures.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Equal seed, equal accidents.")] = 0,
    profile: Profile = None,
    params: ParamsFile = None,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    reference: Annotated[Path | None, typer.Option(help="A trusted data set to compare each copy with.")] = None,
    audit: Annotated[
        str | None, typer.Option(help="Have this teacher (xtb, orb) label samples again: minutes, contract labels.")
    ] = None,
    method: Method = None,
    weights: Weights = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Would the contract have caught it? Spoil copies of the data in every known way and say what passes."""
    from hydrogate.checks.accidents.probe import count_trials
    from hydrogate.checks.accidents.probe import probe as spoil
    from hydrogate.checks.render.detection_matrix import probe_markdown, probe_text
    from hydrogate.pipeline.formats import Declared, parse_keys, read_all

    declared = Declared(input_format, units, parse_keys(keys))
    data = read_all(paths, *declared)
    asked = _audit(contract, audit, method, weights, None)
    overrides, inputs = _asked_for(
        paths,
        Whole.of(data),
        contract,
        profile,
        declared_overrides(params, profile),
        declared,
        reference,
        asked,
        quiet=True,
    )
    with progress_bar("probe", total=count_trials(contract), unit="spoiled copies") as advance:
        found = spoil(
            data, contract, sample=size, seed=seed, profile=profile, overrides=overrides, on_trial=advance, **inputs
        )
    print_as(output_format, lambda: found.to_dict(), lambda: probe_markdown(found), lambda: probe_text(found))
