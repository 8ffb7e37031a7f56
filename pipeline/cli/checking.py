"""Commands ``hydrogate check`` and ``hydrogate probe``: check data, and test a contract with data corruption."""

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

Method: TypeAlias = Annotated[str | None, typer.Option(help="With --audit: level of theory of the teacher.")]
Weights: TypeAlias = Annotated[Path | None, typer.Option(help="With --audit: local weight file of the teacher.")]


@app.command(epilog="Example: hydrogate check my.extxyz --contract labels")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Data files, or a folder of them; several form one data set.")],
    contract: Annotated[
        str, typer.Option(help=f"Contract to check: {', '.join(CONTRACTS)}.", autocompletion=lambda: CONTRACTS)
    ] = "structures",
    profile: Profile = None,
    params: ParamsFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail also if a check could not run.")] = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    reference: Annotated[
        Path | None, typer.Option(help="Trusted data set to compare with; for predictions, the held-out structures.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Use only this split of the reference.")] = None,
    audit: Annotated[
        str | None, typer.Option(help="Relabel a sample with this teacher (xtb, orb); needs --contract labels.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="With --audit: number of random structures; as many outliers are added.")
    ] = None,
    method: Method = None,
    weights: Weights = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on the workers of this Dask scheduler, e.g. tcp://HOST:8786.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    junit: Annotated[Path | None, typer.Option(help="Also write the findings to this file as JUnit XML.")] = None,
    data_docs: Annotated[
        Path | None, typer.Option(help="Also write Great Expectations Data Docs below this folder (extra gx).")
    ] = None,
) -> None:
    """Check data against a contract.

    Exit status: 0 passed, 1 failed, 2 invalid input or options.
    """
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
    """Return the report, and the overrides of the shipped bounds that were used."""
    from hydrogate.checks import check as judge
    from hydrogate.checks.engine.partition import over_threads
    from hydrogate.pipeline.formats import Declared, parse_keys
    from hydrogate.pipeline.formats.shards import parts_of
    from hydrogate.pipeline.workers.dask_parts import cluster

    if contract not in CONTRACTS:
        raise BadParams(f"--contract: unknown contract {contract!r}{did_you_mean(contract, CONTRACTS)}")
    if contract == "input" and (reference or scheduler):
        given = "--reference: contract 'input' has no check that compares with a reference"
        raise BadParams(
            given if reference else "--scheduler: contract 'input' counts the records in this process, not on workers"
        )
    if split and not reference:
        raise BadParams(f"--split {split}: selects a split of the reference and needs --reference")
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
        raise BadParams("--sample, --method and --weights are options of --audit: name a teacher with --audit")
    if teacher and contract != "labels":
        raise BadParams(f"--audit relabels with a teacher: use --contract labels, contract {contract!r} has no labels")
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
    """Return the bounds and the inputs of a contract, extended by ``--reference`` and ``--audit``."""
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
    paths: Annotated[list[Path], typer.Argument(help="Data files, as for `hydrogate check`; not modified.")],
    contract: Annotated[str, typer.Option(help="Contract to test: structures or labels.")] = "labels",
    size: Annotated[int, typer.Option("--sample", min=1, help="Maximum number of structures to corrupt.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    profile: Profile = None,
    params: ParamsFile = None,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    reference: Annotated[Path | None, typer.Option(help="Trusted data set to compare each copy with.")] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="Relabel samples with this teacher (xtb, orb); takes minutes, needs --contract labels."),
    ] = None,
    method: Method = None,
    weights: Weights = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Test a contract with corrupted data.

    Applies every known kind of data corruption to copies of the data and reports what passes the contract.

    Exit status: 0 completed, whatever passes; 2 invalid input or options.
    """
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
    with progress_bar("probe", total=count_trials(contract), unit="corrupted copies") as advance:
        found = spoil(
            data, contract, sample=size, seed=seed, profile=profile, overrides=overrides, on_trial=advance, **inputs
        )
    print_as(output_format, lambda: found.to_dict(), lambda: probe_markdown(found), lambda: probe_text(found))
