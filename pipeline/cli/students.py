"""Commands on students: ``evaluate``, ``predict``, ``md``, ``visualize``, ``dimers``, ``distorted``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import ContractViolation
from hydrogate.pipeline.cli.app import (
    Force,
    Format,
    InputFormat,
    Keys,
    OutputFormat,
    Units,
    app,
    print_as,
    print_report,
)
from hydrogate.pipeline.program import REFUSED
from hydrogate.pipeline.reports.visualize import Choose

if TYPE_CHECKING:
    from hydrogate.checks.data.dataset import Dataset
    from hydrogate.pipeline.formats import Declared

Student: TypeAlias = Annotated[Path, typer.Option(help="Trained student.")]
STUDENT = Path("data/student.safetensors")


@app.command(epilog="Example: hydrogate evaluate --reference labels.extxyz --predicted student.extxyz --format json")
def evaluate(
    reference: Annotated[Path, typer.Option(help="Labels, in any format that `hydrogate check` reads.")],
    predicted: Annotated[Path, typer.Option(help="Predictions for the same structures in the same order.")],
    split: Annotated[str | None, typer.Option(help="Use only this split of the reference.")] = None,
    floor: Annotated[float, typer.Option(help="Smallest reference force for angular errors, eV/Å.")] = 0.5,
    where: Annotated[
        bool, typer.Option("--where", help="Also show which atoms and structures contribute the error.")
    ] = False,
    training: Annotated[
        Path | None,
        typer.Option(help="Training data; its molecules are excluded, except those of split test."),
    ] = None,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    predicted_units: Annotated[
        str | None, typer.Option(help="Units of the predictions, if not those of --units.")
    ] = None,
    predicted_input_format: Annotated[
        str | None, typer.Option(help="Format of the predictions, if not that of --input-format.")
    ] = None,
    predicted_keys: Annotated[
        str | None, typer.Option(help="Label names in the predictions, if not those of --keys.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Evaluate predictions against labels.

    Prints every metric with its confidence interval.

    Exit status: 0 evaluated, whatever the values; 2 invalid input or options.
    """
    from hydrogate.checks.render.metric_tables import metrics_dict, metrics_markdown, metrics_text
    from hydrogate.pipeline.commands import evaluate as evaluation
    from hydrogate.pipeline.formats import Declared, declared_for, parse_keys, read, told_by_suffix

    given = Declared(input_format, units, parse_keys(keys))
    sides = [([reference], given), ([predicted], given._replace(input_format=predicted_input_format or input_format))]
    if training:
        sides.append(([training], given._replace(input_format=None if told_by_suffix(training) else input_format)))
    declared = declared_for(*sides)
    for_both = declared[1]
    declared[1] = Declared(
        predicted_input_format or for_both.input_format,
        predicted_units or for_both.units,
        parse_keys(predicted_keys) or for_both.keys,
    )
    labels, predictions = (read(path, *of) for path, of in zip((reference, predicted), declared, strict=False))
    learned = _learned(training, declared[2]) if training else None
    found = evaluation.run(evaluation.of_split(labels, split), predictions, floor=floor, where=where, training=learned)
    title = f"{predicted} against {reference}, angles for forces ≥ {floor:g} eV/Å"
    taught = {"training": found.taught._asdict()} if found.taught else {}
    for note in found.notes if output_format is OutputFormat.JSON else ():
        print(note, file=sys.stderr)
    print_as(
        output_format,
        lambda: metrics_dict(found.metrics, found.where) | taught,
        lambda: metrics_markdown(found.metrics, title, found.notes, found.where),
        lambda: metrics_text(found.metrics, title, found.notes, found.where),
    )


def _learned(path: Path, declared: "Declared") -> "Dataset":
    """Read the structures of ``path``. Only their molecules are needed, so the file may lack labels."""
    from hydrogate.checks.data.label_keys import NONE
    from hydrogate.pipeline.formats import FORMATS, format_of, read

    if not FORMATS[format_of(path, declared.input_format)].says_itself:
        unread = dict.fromkeys(("energy", "forces", "charge", "spin"), NONE)
        declared = declared._replace(keys={**declared.keys, **unread})
    return read(path, *declared)


def _whole_molecules(path: Path, input_format: str | None, units: str | None, keys: str | None) -> "Dataset":
    """Read the structures of ``path``; reject an SDF file with implicit hydrogens, which no potential sees.

    Raises
    ------
    BadParams
        A structure lacks hydrogens; the message names the first one.
    """
    import numpy as np

    from hydrogate.pipeline.formats import format_of, parse_keys, read

    data = read(path, input_format, units, parse_keys(keys))
    if format_of(path, input_format) == "sdf":
        explicit = np.bincount(data.structure_of_atom, data.numbers == 1, len(data)).astype(int)
        lacking = np.flatnonzero(explicit < data.expected_hydrogens)
        if len(lacking):
            row = int(lacking[0])
            raise BadParams(
                f"{path}: {data.name(row)} has {explicit[row]} explicit H, its valences imply "
                f"{data.expected_hydrogens[row]}; {len(lacking)} of {len(data)} lack hydrogens and would be "
                "treated as another substance. Make them explicit with RDKit's AddHs(mol, addCoords=True)"
            )
    return data


@app.command(epilog="Example: hydrogate predict new.sdf -o predicted.extxyz --student data/student.safetensors")
def predict(
    path: Annotated[Path, typer.Argument(help="Structures, in any format that `hydrogate check` reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .h5 or .extxyz.")],
    student: Student = STUDENT,
    batch_size: Annotated[int, typer.Option(min=1, help="Structures per batch.")] = 32,
    force: Force = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
) -> None:
    """Predict energies and forces.

    Writes the energies (eV) and forces (eV/Å) of a trained student.

    Exit status: 0 all finite, 1 not all finite, 2 invalid input or options.
    """
    import numpy as np

    from hydrogate.pipeline.outputs import refuse_unwritable
    from hydrogate.pipeline.training import predict as stage

    refuse_unwritable(output, path, force=force, suffixes=stage.SUFFIXES)
    predicted = stage.run(_whole_molecules(path, input_format, units, keys), student, batch_size)
    stage.write_predictions(predicted, output)
    print(f"{output}: {predicted!r}")
    assert predicted.energy is not None
    assert predicted.forces is not None
    lost = predicted.structure_of_atom[~np.isfinite(predicted.forces).all(axis=1)]
    lost = np.union1d(lost, np.flatnonzero(~np.isfinite(predicted.energy)))
    if len(lost):
        raise ContractViolation(
            f"{output}: energy or forces of {len(lost)} of {len(predicted)} structures are not finite, the first "
            f"{predicted.name(int(lost[0]))}: inspect the structures or the student {student}"
        )


@app.command(epilog="Example: hydrogate md new.sdf -o new.traj --count 5 --nve-ps 1")
def md(
    path: Annotated[
        Path, typer.Argument(help="Structures, as for `hydrogate check`; with --judge, a trajectory that ASE reads.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Trajectory to write: .traj or .extxyz.")
    ] = None,
    judge: Annotated[bool, typer.Option("--judge", help="Check an existing trajectory; run nothing.")] = False,
    student: Student = STUDENT,
    teacher: Annotated[str | None, typer.Option(help="Teacher (xtb, orb) to run instead of the student.")] = None,
    split: Annotated[str, typer.Option(help="Use only the molecules of this split.")] = "",
    count: Annotated[int | None, typer.Option(help="Number of molecules, drawn at random (default: 20).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature, K (default: 300).")] = None,
    time_step: Annotated[
        float | None, typer.Option(help="Time step, fs (default: 0.5); with --judge, that of the file.")
    ] = None,
    interval: Annotated[int | None, typer.Option(help="Steps between frames (default: 20, with --judge 1).")] = None,
    warm_up_ps: Annotated[float | None, typer.Option(help="Langevin warm-up, ps (default: 2).")] = None,
    nve_ps: Annotated[float | None, typer.Option(help="Run at constant energy (NVE), ps (default: 10).")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed (default: 0).")] = None,
    force: Force = False,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Run MD for many molecules, or check an existing trajectory.

    Runs all molecules at once. With --judge, checks a trajectory and runs nothing.

    Exit status: 0 stable, 1 unstable, 2 invalid input or options.
    """
    from functools import partial

    from hydrogate.models.student_file import load_student
    from hydrogate.pipeline.dynamics import trajectories
    from hydrogate.pipeline.dynamics.simulate import student_potential, teacher_potential
    from hydrogate.pipeline.outputs import refuse_unwritable
    from hydrogate.pipeline.stages import dynamics as stage
    from hydrogate.pipeline.training.predict import refuse_crowded, student_identity

    if judge == (output is not None):
        raise BadParams("give either -o, a file for the frames, or --judge, to check an existing trajectory")
    given = {"count": count, "temperature": temperature, "time_step_fs": time_step, "interval": interval}
    given |= {"warm_up_ps": warm_up_ps, "nve_ps": nve_ps, "seed": seed}
    protocol = stage.declared({name: value for name, value in given.items() if value is not None})
    if output is None:
        _refuse_unreadable(path)
        frame_fs = None if time_step is None else time_step * (interval or 1)
        found = stage.judged(trajectories.read_trajectories(path, frame_fs), protocol, str(path))
    else:
        refuse_unwritable(output, path, force=force, suffixes=trajectories.SUFFIXES)
        data = _whole_molecules(path, input_format, units, keys)
        rows = stage.chosen(data, protocol.count, protocol.seed, split)
        if teacher is not None:
            identity, make = stage.teacher_identity(teacher), partial(teacher_potential, teacher)
        else:
            refuse_crowded(data, rows, load_student(student).cutoff)
            stage.refuse_untaught(student, data, rows)
            identity, make = student_identity(student), partial(student_potential, student.absolute())
        kept = output.with_name(f"{output.name}.progress").absolute()
        with stage.run(data, rows, make, protocol, identity=identity, root=kept) as recordings:
            trajectories.write_recordings(recordings, output)
            found = stage.judged([one.trajectory() for one in recordings], protocol, data.fingerprint())
    # Strict: a trajectory that lacks the data for a stability check does not count as stable.
    print_report(found.report, output_format, strict=True)
    for line in found.lines() if output_format is not OutputFormat.JSON else ():
        print(line)
    if not found.report.holds(strict=True):
        raise typer.Exit(REFUSED)


def _refuse_unreadable(path: Path) -> None:
    """Reject a file on which ASE's trajectory readers would hang or read past the end."""
    from hydrogate.pipeline.formats import refuse_no_file
    from hydrogate.pipeline.formats.ase_files import refuse_impossible_counts

    if path.is_dir():  # an ASE bundle trajectory
        return
    refuse_no_file(path)
    if path.suffix in (".xyz", ".extxyz"):
        refuse_impossible_counts(path)


@app.command(epilog="Example: hydrogate visualize -o reports/pymol --count 5 --choose worst")
def visualize(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created if missing.")],
    reference: Annotated[
        Path | None, typer.Option(help="Labels, as for `evaluate` (default: held-out split of data/labelled.h5).")
    ] = None,
    predicted: Annotated[Path, typer.Option(help="Predictions for the reference.")] = Path("data/predictions.h5"),
    split: Annotated[str | None, typer.Option(help="Use only this split of the reference.")] = None,
    choose: Annotated[
        Choose, typer.Option(help="Selection: most diverse molecules, or largest force errors.")
    ] = Choose.DIVERSE,
    count: Annotated[int, typer.Option(min=1, help="Number of structures, each of another molecule.")] = 50,
    rows: Annotated[
        str | None, typer.Option(help="Rows of the predictions to show instead, from 0, e.g. 3,17.")
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, max=10.0, help="Length of the force arrows, Å per eV/Å.")] = 0.3,
    worst_error: Annotated[float, typer.Option(min=0.001, max=1e3, help="Force error shown in full red, eV/Å.")] = 0.5,
    pictures: Annotated[bool, typer.Option(help="Also render PNGs, if PyMOL is installed.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the selection.")] = 0,
    units: Units = None,
    input_format: InputFormat = None,
    keys: Keys = None,
) -> None:
    """Write PyMOL scripts for chosen structures.

    Shows every hydrogen, the forces of teacher and student as arrows, and the force error as colour.

    Exit status: 0 written, 2 invalid input or options.
    """
    from hydrogate.checks.metrics.comparison import Comparison
    from hydrogate.pipeline.commands.evaluate import of_split
    from hydrogate.pipeline.formats import Declared, declared_for, parse_keys, read
    from hydrogate.pipeline.outputs import refuse_unwritable
    from hydrogate.pipeline.params import load_params
    from hydrogate.pipeline.reports import visualize as show

    refuse_unwritable(output / "index.json")
    split = load_params().validate_.split if reference is None and split is None else split
    files = (reference or Path("data/labelled.h5"), predicted)
    given = Declared(input_format, units, parse_keys(keys))
    declared = declared_for(*(([file], given) for file in files))
    labels, predictions = (read(file, *of) for file, of in zip(files, declared, strict=True))
    labels = of_split(labels, split)
    comparison = Comparison.of(labels, predictions)
    found = show.chosen(labels, comparison, choose, count, seed) if rows is None else show.named(rows, len(labels))
    scripts = show.run(labels, comparison, found, output, scale=scale, worst=worst_error)
    print(f"{output}: {len(scripts)} structures, index.json; open one with: pymol {scripts[0]}")
    if pictures:
        made = show.pictures(scripts)
        print(
            f"{len(made)} pictures" if made else "no pictures: PyMOL is not installed (Debian: apt-get install pymol)"
        )


@app.command(epilog="Example: hydrogate dimers --student data/student.safetensors")
def dimers(
    student: Student = STUDENT,
    teacher: Annotated[str, typer.Option(help="Teacher that computes the curves.")] = "xtb",
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Compare dissociation curves of dimers.

    Student against teacher on 22 dimers (S22x5), including hydrogen bonds. No gate uses the result.

    Exit status: 0 compared, 2 invalid input or options.
    """
    from functools import partial

    from hydrogate.checks.render.dimer_tables import dimers_markdown, dimers_text
    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student
    from hydrogate.models.teachers import make_teacher
    from hydrogate.pipeline.commands import dimers as curves
    from hydrogate.pipeline.stages.check import relabel

    found = curves.run(partial(predict, load_student(student)), partial(relabel, make_teacher(teacher)))
    rows = curves.summary(found)
    title = f"{student} on the dissociation curves of S22x5; differences are mean absolute differences"
    print_as(
        output_format,
        lambda: {"summary": rows, "dimers": [one._asdict() for one in found]},
        lambda: dimers_markdown(rows, title),
        lambda: dimers_text(rows, title),
    )


@app.command(epilog="Example: hydrogate distorted --sigma 0.15")
def distorted(
    sigma: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Standard deviation of the displacement along each axis, Å.")
    ] = 0.1,
    labelled: Annotated[Path, typer.Option(help="Labelled data set to draw molecules from.")] = Path(
        "data/labelled.h5"
    ),
    split: Annotated[str, typer.Option(help="Use only the molecules of this split.")] = "test",
    count: Annotated[int, typer.Option(min=1, help="Number of molecules, drawn at random.")] = 200,
    student: Student = STUDENT,
    teacher: Annotated[str, typer.Option(help="Teacher that labels the geometries.")] = "xtb",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    output_format: Format = OutputFormat.TEXT,
) -> None:
    """Evaluate a student on distorted geometries.

    Student against teacher on distorted geometries of held-out molecules. No gate uses the result.

    Exit status: 0 evaluated, 2 invalid input or options.
    """
    from functools import partial

    from hydrogate.checks.render.metric_tables import metrics_dict, metrics_markdown, metrics_text
    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student
    from hydrogate.models.teachers import make_teacher
    from hydrogate.pipeline.commands import distorted as geometries
    from hydrogate.pipeline.commands.evaluate import of_split
    from hydrogate.pipeline.formats import read
    from hydrogate.pipeline.stages.check import relabel

    potentials = partial(predict, load_student(student)), partial(relabel, make_teacher(teacher))
    found = geometries.run(of_split(read(labelled), split), *potentials, sigma, count, seed)
    title = f"{student} on the molecules of {labelled} ({split}), distorted by {sigma:g} Å"
    print_as(
        output_format,
        lambda: metrics_dict(found),
        lambda: metrics_markdown(found, title, ()),
        lambda: metrics_text(found, title, ()),
    )
