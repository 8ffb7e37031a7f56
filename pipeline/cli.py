"""The command ``hydrogate``. Exit status 0 (holds), 1 (a contract or gate refuses), 2 (input or call unusable)."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hydrogate.checks.bounds import CONTRACTS, Override, profile_names
from hydrogate.checks.declared import BadParams, did_you_mean, load_yaml
from hydrogate.checks.findings import Report
from hydrogate.checks.parts import Whole
from hydrogate.pipeline.audit import AUDITING, COMPARING, Audit, asked_again, ready_teacher, sample_of, switched_on
from hydrogate.pipeline.stage import REFUSED, progress_bar, stage_exit_status

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


class OutputFormat(StrEnum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hydrogate {version('hydrogate')}")
        raise typer.Exit


@app.callback()
def hydrogate(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Data contracts and quality gates for machine-learned force field distillation."""


@app.command(epilog="Example: hydrogate check my.extxyz --contract labels")
def check(
    paths: Annotated[list[Path], typer.Argument(help="Data files or a folder of them; several are one data set.")],
    contract: Annotated[str, typer.Option(help=f"One of {', '.join(CONTRACTS)}.")] = "structures",
    profile: Annotated[str | None, typer.Option(help=f"Shipped bounds: {', '.join(profile_names())}.")] = None,
    params: Annotated[Path | None, typer.Option(help="A YAML file whose `contracts` override the bounds.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A check that could not run refuses too.")] = False,
    units: Annotated[str | None, typer.Option(help="Units of the file's numbers, such as kcal/mol,angstrom.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A trusted data set to compare with; of predictions, the held-out structures.")
    ] = None,
    audit: Annotated[
        str | None, typer.Option(help="Have this teacher (xtb, orb) label a sample again: contract labels.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="With --audit: so many random structures, and as many outliers.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="With --audit: the teacher's level of theory.")] = None,
    weights: Annotated[Path | None, typer.Option(help="With --audit: the teacher's local weight file.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Judge over the workers of this Dask scheduler, such as tcp://HOST:8786.")
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
    junit: Annotated[Path | None, typer.Option(help="Write the findings to this file as JUnit XML too.")] = None,
    data_docs: Annotated[
        Path | None, typer.Option(help="Write Great Expectations' Data Docs below this folder (extra gx).")
    ] = None,
) -> None:
    """Hold data against a contract: 0 it holds, 1 it does not, 2 the input or the call cannot be used."""
    asked = _audit(contract, audit, method, weights, sample)
    report, judged_with = _judge(
        paths, contract, profile, params, units, input_format, keys, reference, asked, scheduler
    )
    _print_report(report, output_format, strict)
    if junit or data_docs:
        from hydrogate.pipeline.artifacts import write_data_docs, write_junit

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
    audit: Audit | None,
    scheduler: str | None,
) -> tuple[Report, list[Override]]:
    """The report, and the bounds over the shipped ones that it was judged with."""
    from hydrogate.checks import check as judge
    from hydrogate.checks.parts import over_threads
    from hydrogate.pipeline.cluster import cluster
    from hydrogate.pipeline.formats import parse_keys
    from hydrogate.pipeline.shards import parts_of

    if contract not in CONTRACTS:
        raise BadParams(f"--contract {contract!r} is unknown{did_you_mean(contract, CONTRACTS)}")
    if contract == "input" and (reference or scheduler):
        given = "--reference: contract 'input' compares with nothing"
        raise BadParams(given if reference else "--scheduler: contract 'input' counts the records in this process")
    overrides = _overrides(params)
    if contract == "input":
        from hydrogate.pipeline.sdf import read_input

        data, counts = read_input(paths)
        return judge(data, contract, profile=profile, overrides=overrides, counts=counts), overrides
    declared = (input_format, units, parse_keys(keys))
    with cluster(scheduler) if scheduler else nullcontext(over_threads) as gather:
        parts = parts_of(paths, *declared, gather=gather)
        overrides, inputs = _asked_for(parts.whole, contract, profile, overrides, declared, reference, audit)
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
    whole: Whole,
    contract: str,
    profile: str | None,
    overrides: list[Override],
    declared: tuple[str | None, str | None, dict[str, str]],
    reference: Path | None,
    audit: Audit | None,
    quiet: bool = False,
) -> tuple[list[Override], dict[str, Any]]:
    """What ``--reference`` and ``--audit`` add to the bounds and to the inputs of a contract."""
    from hydrogate.pipeline.formats import format_of, read

    inputs: dict[str, Any] = {}
    if reference:
        # A format that says its keys and units itself is left to, whatever those of the data are.
        itself = format_of(reference) in ("hdf5", "sdf")
        compared = read(reference, *(() if itself else declared))
        inputs["held_out" if contract == "predictions" else "compared_with"] = compared
        overrides = switched_on(COMPARING.get(contract, ()), "--reference", contract, profile, overrides)
    if audit:
        overrides = switched_on(AUDITING, "--audit", contract, profile, overrides)
        if audit.sample:
            overrides = sample_of(audit.sample, whole.structures, profile, overrides)
        inputs["relabel"] = asked_again(ready_teacher(audit, whole.teacher or {}), quiet)
    return overrides, inputs


def _overrides(params: Path | None) -> list[Override]:
    """``./params.yaml`` where it declares contracts, then ``--params``."""
    named = [Path("params.yaml")] if Path("params.yaml").exists() else []
    declared = [(path, load_yaml(path)) for path in [*named, *([params] if params else [])]]
    if params and "contracts" not in declared[-1][1]:
        raise BadParams(f"{params}: has no section `contracts`")
    return [(str(path), content["contracts"]) for path, content in declared if content.get("contracts")]


def _print_report(report: Report, output_format: OutputFormat, strict: bool) -> None:
    from hydrogate.checks.render.markdown import report_markdown
    from hydrogate.checks.render.text import report_text

    match output_format:
        case OutputFormat.JSON:
            print(json.dumps(report.to_dict(strict), indent=2, ensure_ascii=False, allow_nan=False))
        case OutputFormat.MARKDOWN:
            print(report_markdown(report, strict), end="")
        case OutputFormat.TEXT:
            Console().print(report_text(report, strict))


@app.command(epilog="Example: hydrogate probe labelled.h5 --contract labels --sample 200")
def probe(
    paths: Annotated[list[Path], typer.Argument(help="Data files as for `hydrogate check`; they stay as they are.")],
    contract: Annotated[str, typer.Option(help="structures or labels.")] = "labels",
    size: Annotated[int, typer.Option("--sample", min=1, help="Spoil at most so many structures.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Equal seed, equal accidents.")] = 0,
    profile: Annotated[str | None, typer.Option(help=f"Shipped bounds: {', '.join(profile_names())}.")] = None,
    params: Annotated[Path | None, typer.Option(help="A YAML file whose `contracts` override the bounds.")] = None,
    units: Annotated[str | None, typer.Option(help="Units of the file's numbers, such as kcal/mol,angstrom.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
    reference: Annotated[Path | None, typer.Option(help="A trusted data set to compare each copy with.")] = None,
    audit: Annotated[
        str | None, typer.Option(help="Have this teacher (xtb, orb) label samples again: minutes, contract labels.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="With --audit: the teacher's level of theory.")] = None,
    weights: Annotated[Path | None, typer.Option(help="With --audit: the teacher's local weight file.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
) -> None:
    """Would the contract have caught it? Spoil copies of the data in every known way and say what passes."""
    from hydrogate.checks.probe import count_trials
    from hydrogate.checks.probe import probe as spoil
    from hydrogate.checks.render.probe import probe_markdown, probe_text
    from hydrogate.pipeline.formats import parse_keys, read_all

    declared = (input_format, units, parse_keys(keys))
    data = read_all(paths, *declared)
    asked = _audit(contract, audit, method, weights, None)
    overrides, inputs = _asked_for(
        Whole.of(data), contract, profile, _overrides(params), declared, reference, asked, quiet=True
    )
    with progress_bar("probe", total=count_trials(contract), unit="spoiled copies") as advance:
        found = spoil(
            data, contract, sample=size, seed=seed, profile=profile, overrides=overrides, on_trial=advance, **inputs
        )
    match output_format:
        case OutputFormat.JSON:
            print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        case OutputFormat.MARKDOWN:
            print(probe_markdown(found), end="")
        case OutputFormat.TEXT:
            Console().print(probe_text(found))


@app.command(epilog="Example: hydrogate sample --count 100 --seed 1 --output samples/mine.sdf.gz")
def sample(
    count: Annotated[int, typer.Option(min=1, help="Molecules to make.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seed, equal file.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Default: samples/sample-COUNT-SEED.sdf.gz.")] = None,
) -> None:
    """Write drug-like molecules as a generative model does: 3-D heavy atoms, hydrogen implicit, gzipped SDF."""
    from hydrogate.pipeline.sample import write_sample

    path = output or Path("samples") / f"sample-{count}-{seed}.sdf.gz"
    write_sample(path, count, seed)
    print(path)


@app.command(epilog="Example: hydrogate show data/labelled.h5")
def show(
    paths: Annotated[list[Path], typer.Argument(help="Data files as for `hydrogate check`; several are one data set.")],
    units: Annotated[str | None, typer.Option(help="What the files' numbers are in.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
) -> None:
    """Say what a data set holds: structures, species, hydrogen, forces, teacher, units."""
    from hydrogate.pipeline.formats import files_of, format_of, parse_keys, read_all, units_of
    from hydrogate.pipeline.show import description

    files = files_of(paths, input_format)
    name = str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    console = Console()
    console.print(description(read_all(files, input_format, units, parse_keys(keys)), name))
    for taken in dict.fromkeys((format_of(file, input_format), units_of(file, input_format, units)) for file in files):
        console.print(f"Read as {taken[0]}; its numbers taken in {taken[1]}.", markup=False)


@app.command(epilog="Example: hydrogate diff data/labelled.h5 new.extxyz --format markdown")
def diff(
    one: Annotated[Path, typer.Argument(help="A file, folder or quoted pattern as for `hydrogate check`.")],
    other: Annotated[Path, typer.Argument(help="The data set to compare with it.")],
    units: Annotated[str | None, typer.Option(help="Units of the numbers of files that do not say them.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
) -> None:
    """Compare two data sets: species, sizes, labels, molecules. Exits 0 whatever differs, 2 where one is unusable."""
    from hydrogate.checks.difference import compare
    from hydrogate.checks.render.difference import difference_dict, difference_markdown, difference_text
    from hydrogate.pipeline.formats import files_of, format_of, parse_keys, read_all, units_of

    named = parse_keys(keys)
    sides = [files_of([path], input_format) for path in (one, other)]
    says = [all(format_of(file, input_format) in ("hdf5", "sdf") for file in files) for files in sides]
    # A format that says its keys and units itself is left to, beside one that does not.
    declared = [(None, {}) if itself and not all(says) else (units, named) for itself in says]
    data = [read_all(files, input_format, *given) for files, given in zip(sides, declared, strict=True)]
    taken = [
        ", ".join(dict.fromkeys(units_of(file, input_format, given) for file in files))
        for files, (given, _) in zip(sides, declared, strict=True)
    ]
    difference = compare(*data, names=(str(one), str(other)), units=(taken[0], taken[1]))
    match output_format:
        case OutputFormat.JSON:
            print(json.dumps(difference_dict(difference), indent=2, ensure_ascii=False, allow_nan=False))
        case OutputFormat.MARKDOWN:
            print(difference_markdown(difference), end="")
        case OutputFormat.TEXT:
            Console().print(difference_text(difference))


class Proposed(StrEnum):
    """The contracts that bounds are proposed for."""

    STRUCTURES = "structures"
    LABELS = "labels"
    BOTH = "both"


@app.command(epilog="Example: hydrogate profile trusted.extxyz -o contract.yaml --contract both")
def profile(
    paths: Annotated[list[Path], typer.Argument(help="Trusted data; several files are taken as one data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of bounds to write.")],
    contract: Annotated[Proposed, typer.Option(help="Whose bounds to propose.")] = Proposed.BOTH,
    margin: Annotated[float, typer.Option(help="From 0, the observed values, to 1, the shipped bounds.")] = 0.5,
    shipped: Annotated[
        str | None, typer.Option("--profile", help=f"Shipped bounds to start from: {', '.join(profile_names())}.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    units: Annotated[str | None, typer.Option(help="Units of the file's numbers, such as kcal/mol,angstrom.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
) -> None:
    """Propose bounds from trusted data for `hydrogate check --params`: 0 written, 1 the data break what no data may."""
    from hydrogate.pipeline.formats import parse_keys, read_all
    from hydrogate.pipeline.profile import write_profile

    contracts = ("structures", "labels") if contract is Proposed.BOTH else (contract.value,)
    if output.exists() and not force:
        raise BadParams(f"{output}: exists already; name another file with -o, or overwrite it with --force")
    overrides = _overrides(None)
    data = read_all(paths, input_format, units, parse_keys(keys))
    for line in write_profile(data, output, contracts, ", ".join(map(str, paths)), shipped, overrides, margin):
        print(line)


@app.command(epilog="Example: hydrogate evaluate --reference labels.extxyz --predicted student.extxyz --format json")
def evaluate(
    reference: Annotated[Path, typer.Option(help="Labels, in any format that `hydrogate check` reads.")],
    predicted: Annotated[Path, typer.Option(help="Predictions for the same structures in the same order.")],
    split: Annotated[str | None, typer.Option(help="Take the reference's structures of this split alone.")] = None,
    floor: Annotated[float, typer.Option(help="Angles count from this reference force on, eV/Å.")] = 0.5,
    units: Annotated[str | None, typer.Option(help="Units of the numbers of files that do not say them.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The files' format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The files' own keys: energy=E,forces=-gradient,charge=Q.")] = None,
    predicted_units: Annotated[str | None, typer.Option(help="Of the predictions, where they differ.")] = None,
    predicted_input_format: Annotated[str | None, typer.Option(help="Of the predictions, where it differs.")] = None,
    predicted_keys: Annotated[str | None, typer.Option(help="Of the predictions, where they differ.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
) -> None:
    """Measure anybody's student: every metric with its interval. Exits 0 whatever they are, 2 for an unusable file."""
    from hydrogate.checks.render.metrics import metrics_dict, metrics_markdown, metrics_text
    from hydrogate.pipeline import evaluate as evaluation
    from hydrogate.pipeline.formats import format_of, parse_keys, read

    formats = (input_format, predicted_input_format or input_format)
    says = [format_of(path, given) == "hdf5" for path, given in zip((reference, predicted), formats, strict=True)]
    # The project's own file says its keys and units itself, whatever those of the other are.
    declared = [
        (own_units, parse_keys(own_keys))
        if itself and not all(says)
        else (own_units or units, parse_keys(own_keys or keys))
        for itself, own_units, own_keys in zip(says, (None, predicted_units), (None, predicted_keys), strict=True)
    ]
    data = [read(path, form, *own) for path, form, own in zip((reference, predicted), formats, declared, strict=True)]
    found = evaluation.run(evaluation.of_split(data[0], split), data[1], floor=floor)
    title = f"{predicted} against {reference}, angles from {floor:g} eV/Å"
    match output_format:
        case OutputFormat.JSON:
            print(json.dumps(metrics_dict(found.metrics), indent=2, ensure_ascii=False, allow_nan=False))
            for note in found.notes:
                print(note, file=sys.stderr)
        case OutputFormat.MARKDOWN:
            print(metrics_markdown(found.metrics, title, found.notes), end="")
        case OutputFormat.TEXT:
            Console().print(metrics_text(found.metrics, title, found.notes))


@app.command(epilog="Example: hydrogate plan")
def plan(
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
) -> None:
    """How many held-out molecules would decide each gate, from the metrics in git."""
    from hydrogate.checks.render.plan import plan_dict, plan_markdown, plan_text
    from hydrogate.pipeline.plan import run

    found = run()
    match output_format:
        case OutputFormat.JSON:
            print(json.dumps(plan_dict(found), indent=2, ensure_ascii=False, allow_nan=False))
        case OutputFormat.MARKDOWN:
            print(plan_markdown(found), end="")
        case OutputFormat.TEXT:
            Console().print(plan_text(found))


@app.command(epilog="Example: hydrogate predict new.sdf -o predicted.extxyz --student data/student.safetensors")
def predict(
    path: Annotated[Path, typer.Argument(help="Structures in any format that `hydrogate check` reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write: .h5 or .extxyz.")],
    student: Annotated[Path, typer.Option(help="The trained student.")] = Path("data/student.safetensors"),
    batch_size: Annotated[int, typer.Option(min=1, help="Structures at a time.")] = 32,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    units: Annotated[str | None, typer.Option(help="Units of the file's numbers, such as kcal/mol,angstrom.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The file's format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The file's own keys: charge=Q,spin=mult.")] = None,
) -> None:
    """Write energies (eV) and forces (eV/Å) of structures as a trained student predicts them."""
    from hydrogate.pipeline import predict as stage
    from hydrogate.pipeline.formats import parse_keys, read

    stage.refuse_output(output, force)
    predicted = stage.run(read(path, input_format, units, parse_keys(keys)), student, batch_size)
    stage.write_predictions(predicted, output)
    print(f"{output}: {predicted!r}")


@app.command(epilog="Example: hydrogate md new.sdf -o new.traj --count 5 --nve-ps 1")
def md(
    path: Annotated[
        Path, typer.Argument(help="Structures as for `hydrogate check`; with --judge, a trajectory that ASE reads.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Frames to write: .traj or .extxyz.")] = None,
    judge: Annotated[bool, typer.Option("--judge", help="Run nothing: judge anybody's trajectory.")] = False,
    student: Annotated[Path, typer.Option(help="The trained student.")] = Path("data/student.safetensors"),
    teacher: Annotated[str | None, typer.Option(help="Run a teacher (xtb, orb) in the student's place.")] = None,
    split: Annotated[str, typer.Option(help="Take the molecules of this split alone.")] = "",
    count: Annotated[int | None, typer.Option(help="Molecules, drawn at random; 20.")] = None,
    temperature: Annotated[float | None, typer.Option(help="K; 300.")] = None,
    time_step: Annotated[float | None, typer.Option(help="fs; 0.5. With --judge: what the file was made with.")] = None,
    interval: Annotated[int | None, typer.Option(help="Steps between two frames; 10, with --judge 1.")] = None,
    warm_up_ps: Annotated[float | None, typer.Option(help="Langevin dynamics before, ps; 2.")] = None,
    nve_ps: Annotated[float | None, typer.Option(help="Dynamics at constant energy, ps; 10.")] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seed, equal run; 0.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    units: Annotated[str | None, typer.Option(help="Units of the file's numbers, such as kcal/mol,angstrom.")] = None,
    input_format: Annotated[str | None, typer.Option(help="The file's format, where the suffix does not tell.")] = None,
    keys: Annotated[str | None, typer.Option(help="The file's own keys: charge=Q,spin=mult.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.TEXT,
) -> None:
    """Molecular dynamics of many molecules at once, or anybody's, judged: 0 it holds together, 1 not, 2 unusable."""
    from hydrogate.pipeline import md as stage
    from hydrogate.pipeline import trajectories

    if judge == (output is not None):
        raise BadParams("name a file for the frames with -o, or have those of a trajectory judged with --judge")
    given = {"count": count, "temperature": temperature, "time_step_fs": time_step, "interval": interval}
    given |= {"warm_up_ps": warm_up_ps, "nve_ps": nve_ps, "seed": seed}
    protocol = stage.declared({name: value for name, value in given.items() if value is not None})
    if output is None:
        frame_fs = None if time_step is None else time_step * (interval or 1)
        found = stage.judged(trajectories.read_trajectories(path, frame_fs), protocol, str(path))
    else:
        from hydrogate.pipeline.formats import parse_keys, read

        trajectories.refuse_output(output, force)
        data = read(path, input_format, units, parse_keys(keys))
        rows = stage.chosen(data, protocol.count, protocol.seed, split)
        potential = stage.teacher_potential(teacher, data, rows) if teacher else None
        potential = potential or stage.student_potential(student, data, rows)
        recordings = stage.run(data, rows, potential, protocol)
        trajectories.write_recordings(recordings, output)
        found = stage.judged([one.trajectory() for one in recordings], protocol, data.fingerprint())
    # A trajectory that lacks what stability is judged by is not stable for that.
    _print_report(found.report, output_format, strict=True)
    for line in found.lines() if output_format is not OutputFormat.JSON else ():
        print(line)
    if not found.report.holds(strict=True):
        raise typer.Exit(REFUSED)


@app.command(epilog="Example: hydrogate decide --require m4_cuda_optimization")
def decide(
    require: Annotated[str | None, typer.Option(help="Exit 1 unless this milestone is reached.")] = None,
) -> None:
    """Judge the gates, name the next milestone, write metrics/decision.json."""
    from hydrogate.pipeline import decide as stage

    arguments = ["--require", require] if require else []
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
        from hydrogate.pipeline.comment import post as post_comment

        if base or output or annotations:
            raise BadParams("--post FILE posts a report that is there; write one first, without --post")
        print(post_comment(post, os.environ))
        return
    from hydrogate.pipeline.hdf5 import written_whole
    from hydrogate.pipeline.report import run

    text, marks = run(base=base)
    if output is None:
        print(text, end="")
    else:
        with written_whole(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for mark in marks if annotations else ():
        print(mark)


@app.command(epilog="Example: hydrogate review --output reports --base origin/main")
def review(
    output: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("reports"),
    base: Annotated[str | None, typer.Option(help="Compare report.md with this revision.")] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Print GitHub annotations too.")] = False,
) -> None:
    """Judge the data that are here and write all reports, also `hydrogate report`'s; exits 1 where one refuses."""
    from hydrogate.checks.render.decision import decision_text
    from hydrogate.pipeline.review import run

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


def main() -> None:
    """The console command's entry point."""

    def call() -> int:
        app()  # ends the process itself, also with 2 for a call that it cannot read
        return 0

    sys.exit(stage_exit_status(call))
