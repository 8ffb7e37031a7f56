"""Commands on data sets: ``sample``, ``show``, ``diff``, ``profile``, ``spoil``."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hydrogate.checks.engine.bounds import profile_names
from hydrogate.pipeline.cli.app import (
    Force,
    Format,
    InputFormat,
    Keys,
    OutputFormat,
    Units,
    app,
    declared_overrides,
    print_as,
)


@app.command(epilog="Example: hydrogate sample --count 100 --seed 1 --output samples/mine.sdf.gz")
def sample(
    count: Annotated[int, typer.Option(min=1, help="Number of molecules.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Default: samples/sample-COUNT-SEED.sdf.gz, kept if it already holds the sample."),
    ] = None,
    force: Force = False,
) -> None:
    """Write a sample of drug-like molecules.

    Gzipped SDF in the form that a generative model writes: 3-D heavy atoms, implicit hydrogens.

    Exit status: 0 written or kept, 2 invalid options.
    """
    from hydrogate.pipeline.molecules.sample import write_sample
    from hydrogate.pipeline.outputs import refuse_unwritable

    path = output or Path("samples") / f"sample-{count}-{seed}.sdf.gz"
    if output is None and not force and path.is_file() and _holds_sample(path, count, seed):
        left = f"{path}: already has the {count} molecules of seed {seed}; not changed, --force writes it again"
        print(left, file=sys.stderr)
    else:
        refuse_unwritable(path, force=force)
        write_sample(path, count, seed)
    print(path)


def _holds_sample(path: Path, count: int, seed: int) -> bool:
    """Return True if ``path`` has ``count`` records, all named as in a sample of ``seed``."""
    from hydrogate.pipeline.molecules.records import raw_records
    from hydrogate.pipeline.storage.hdf5 import UnreadableFile

    try:
        names = [record.partition("\n")[0] for record in raw_records(path)]
    except UnreadableFile:
        return False
    return len(names) == count and all(name.startswith(f"sample-{seed}-") for name in names)


@app.command(epilog="Example: hydrogate show data/labelled.h5")
def show(
    paths: Annotated[
        list[Path], typer.Argument(help="Data files, as for `hydrogate check`; several form one data set.")
    ],
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Summarise a data set.

    Shows structures, species, hydrogen, forces, teacher and units.

    Exit status: 0 shown, 2 invalid input or options.
    """
    from hydrogate.pipeline.commands import show as shown
    from hydrogate.pipeline.formats import files_of, format_of, parse_keys, read_all, units_of

    files = files_of(paths, input_format)
    name = str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    data = read_all(files, input_format, units, parse_keys(keys))
    taken = dict.fromkeys((format_of(file, input_format), units_of(file, input_format, units)) for file in files)
    held = shown.content(data, name, list(taken))
    print_as(output_format, lambda: held, lambda: shown.markdown(held), lambda: shown.text(held))


@app.command(epilog="Example: hydrogate diff data/labelled.h5 new.extxyz --format markdown")
def diff(
    one: Annotated[Path, typer.Argument(help="File, folder or quoted pattern, as for `hydrogate check`.")],
    other: Annotated[Path, typer.Argument(help="Data set to compare with it.")],
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Compare two data sets.

    Compares species, sizes, labels and molecules.

    Exit status: 0 compared, whatever differs; 2 invalid input or options.
    """
    from hydrogate.checks.diff.datasets_diff import compare
    from hydrogate.checks.render.difference_tables import difference_dict, difference_markdown, difference_text
    from hydrogate.pipeline.formats import Declared, declared_for, files_of, parse_keys, read_all, units_of

    given = Declared(input_format, units, parse_keys(keys))
    sides = [files_of([path], input_format) for path in (one, other)]
    declared = declared_for(*((files, given) for files in sides))
    data = [read_all(files, *of) for files, of in zip(sides, declared, strict=True)]
    taken = [
        ", ".join(dict.fromkeys(units_of(file, of.input_format, of.units) for file in files))
        for files, of in zip(sides, declared, strict=True)
    ]
    difference = compare(*data, names=(str(one), str(other)), units=(taken[0], taken[1]))
    print_as(
        output_format,
        lambda: difference_dict(difference),
        lambda: difference_markdown(difference),
        lambda: difference_text(difference),
    )


class Proposed(StrEnum):
    """Contracts whose bounds can be proposed."""

    STRUCTURES = "structures"
    LABELS = "labels"
    BOTH = "both"


@app.command(epilog="Example: hydrogate profile trusted.extxyz -o contract.yaml --contract both")
def profile(
    paths: Annotated[list[Path], typer.Argument(help="Trusted data files; several form one data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of bounds to write.")],
    contract: Annotated[Proposed, typer.Option(help="Contract whose bounds to propose.")] = Proposed.BOTH,
    margin: Annotated[float, typer.Option(help="Margin from 0 (observed values) to 1 (shipped bounds).")] = 0.5,
    shipped: Annotated[
        str | None,
        typer.Option("--profile", help=f"Profile of shipped bounds to start from: {', '.join(profile_names())}."),
    ] = None,
    force: Force = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
) -> None:
    """Propose bounds from trusted data.

    Writes a file for `hydrogate check --params`.

    Exit status: 0 written, 1 data violate a fixed physical bound, 2 invalid input or options.
    """
    from hydrogate.pipeline.commands.profile import write_profile
    from hydrogate.pipeline.formats import parse_keys, read_all
    from hydrogate.pipeline.outputs import refuse_unwritable

    contracts = ("structures", "labels") if contract is Proposed.BOTH else (contract.value,)
    refuse_unwritable(output, *paths, force=force)
    overrides = declared_overrides(None)
    data = read_all(paths, input_format, units, parse_keys(keys))
    for line in write_profile(data, output, contracts, ", ".join(map(str, paths)), shipped, overrides, margin):
        print(line)


@app.command(epilog="Example: hydrogate spoil data/labelled.h5 -o spoilt.h5 --accident forces_in_kcal --share 0.05")
def spoil(
    path: Annotated[Path, typer.Argument(help="Data file, as for `hydrogate check`; not modified.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .h5 or, for labelled data, .extxyz.")],
    accident: Annotated[str, typer.Option(help="Kind of data corruption, as listed by `hydrogate probe`.")],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fraction of structures to corrupt; 0 means one structure.")
    ] = 1.0,
    split: Annotated[str | None, typer.Option(help="Use only the structures of this split.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    force: Force = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
) -> None:
    """Write a corrupted copy of a data set.

    Applies one kind of data corruption, to test a contract, a reader or a training run.

    Exit status: 0 written, 2 invalid input or options.
    """
    from hydrogate.pipeline.commands.evaluate import of_split
    from hydrogate.pipeline.commands.spoil import spoilt
    from hydrogate.pipeline.formats import parse_keys, read
    from hydrogate.pipeline.outputs import refuse_unwritable
    from hydrogate.pipeline.training import predict

    refuse_unwritable(output, path, force=force, suffixes=predict.SUFFIXES)
    found, count = spoilt(of_split(read(path, input_format, units, parse_keys(keys)), split), accident, share, seed)
    predict.write_predictions(found, output)
    print(f"{output}: {found!r}; {accident} applied to {count} structures")
