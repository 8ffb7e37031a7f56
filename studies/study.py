"""``nox -s study -- NAME``: compare settings of the pipeline, each as a DVC experiment of the current commit.

In:  ``studies/NAME.yaml``: common parameters, settings, seeds, and the columns of the table.
Out: ``reports/studies/NAME.json``: the metrics files used by the columns, for each setting and seed; prints a table.

The experiments run one after the other in a clone under ``.studies/``, which shares DVC's cache. Parameters and data of
the working copy do not change. Labels and unfinished trainings are kept in the clone's ``.progress/``: an interrupted
study resumes, and runs that are already in the report are not repeated.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from yaml import YAMLError

from hydrogate.checks.declarations import Section, explain, load_yaml, parse_yaml
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.pipeline.molecules import sample as sampler
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import params_of
from hydrogate.pipeline.program import stage_exit_status

STUDIES = Path(__file__).parent
REPORTS = Path("reports/studies")
CLONES = Path(".studies")
SAMPLER = ("sample.py", "known_drugs.smi")  # a sample depends on these files, its count and its seed
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Changes = dict[str, str | bool | int | float]


class Sample(Section):
    """Sample of molecules to write into ``samples/`` first, as ``hydrogate sample`` does."""

    count: PositiveInt
    seed: NonNegativeInt


class Study(Section):
    """Settings to compare.

    Parameters
    ----------
    reason : str
        Question that the study answers.
    params : mapping
        Changes to ``params.yaml`` common to all runs, by dotted key.
    settings : mapping of str to mapping
        Further changes of each setting.
    seeds : sequence of int
        Values of ``train.seed``; each setting runs once with each.
    stage : str
        Last stage of every run; the whole pipeline if None.
    then : mapping of str to sequence of str
        Commands of ``hydrogate`` to run after the experiments, by a name. The report stores the JSON that the last
        command prints under that name. They run in a folder that contains ``data/`` of each run as ``SETTING-SEED/``.
    columns : mapping of str to str
        Heading and source of each column: a metric, such as ``validation.force_rmse``, or a value observed by a check.
    """

    reason: Annotated[str, Field(min_length=1)]
    sample: Sample | None = None
    params: Changes = Field(default_factory=dict)
    settings: Annotated[dict[Name, Changes], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    stage: str | None = None
    then: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    columns: Annotated[dict[str, str], Field(min_length=1)]


def load_study(name: str) -> Study:
    """Read the study declared in ``studies/<name>.yaml``.

    Raises
    ------
    BadParams
        The file does not exist or its content is invalid.
    """
    known = [path.stem for path in STUDIES.glob("*.yaml")]
    if name not in known:
        raise BadParams(f"no study {name!r} in studies/{did_you_mean(name, known)}")
    try:
        return Study.model_validate(load_yaml(STUDIES / f"{name}.yaml"))
    except ValidationError as error:
        raise BadParams(f"studies/{name}.yaml: {explain(error, Study)}") from error


def refuse_unknown(study: Study, seeds: Sequence[int], changes: Changes, root: Path = Path()) -> None:
    """Check parameters, stage, columns and the commands of ``then`` before hours of computation start.

    Raises
    ------
    BadParams
        ``params.yaml`` has no such key or rejects the value; ``dvc.yaml`` has no such stage or metrics file; or a
        command of ``then`` names a folder that belongs to no setting.
    """
    stages = load_yaml(root / "dvc.yaml")["stages"]
    if study.stage not in {None, *stages}:
        raise BadParams(f"dvc.yaml has no stage {study.stage!r}{did_you_mean(study.stage, stages)}")
    entries = [entry for stage in stages.values() for entry in stage.get("metrics", ())]  # a path or {path: options}
    metrics = {Path(path).stem for entry in entries for path in ([entry] if isinstance(entry, str) else entry)}
    for column in study.columns.values():
        file = column.partition(".")[0]
        if file not in metrics:
            raise BadParams(f"column {column}: no stage writes metrics/{file}.json{did_you_mean(file, metrics)}")
    for lines in study.then.values():
        list(_asked(study, map(shlex.split, lines)))
    for (setting, own), seed in product(study.settings.items(), seeds):
        content = load_yaml(root / "params.yaml")
        for key, value in {**study.params, **own, **changes, "train.seed": seed}.items():
            _change(content, key, value)
        params_of(content, f"params.yaml with the changes of setting {setting!r}")


def _change(content: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    above = ""
    for part in (*folders, last):
        if not isinstance(content, dict) or part not in content:
            known = [f"{above}{name}" for name in content] if isinstance(content, dict) else []
            raise BadParams(f"params.yaml has no key {key}{did_you_mean(key, known)}")
        if above.count(".") < len(folders):
            content, above = content[part], f"{above}{part}."
    with suppress(YAMLError):  # kept as a plain string; DVC may parse it differently
        value = parse_yaml(value) if isinstance(value, str) else value
    content[last] = value


def run(
    name: str,
    study: Study,
    seeds: Sequence[int],
    changes: Changes,
    root: Path = Path(),
    settings: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run the experiments missing in ``reports/studies/<name>.json`` and add each result to that file immediately.

    Parameters
    ----------
    name : str
    study : Study
    seeds : sequence of int
        Replaces the seeds of the study.
    changes : mapping
        Further changes of parameters, for all runs.
    root : Path
        Root of the project.
    settings : sequence of str
        Settings to run; all if None.

    Raises
    ------
    BadParams
        A tracked file has uncommitted changes (a study belongs to a commit), or the study has no such setting.
    RuntimeError
        An experiment failed; earlier results are kept.
    """
    for unknown in set(settings or ()) - set(study.settings):
        raise BadParams(f"study {name} has no setting {unknown!r}{did_you_mean(unknown, list(study.settings))}")
    changed = _said(root, "git", "status", "--porcelain", "--untracked-files=no")
    if changed:
        raise BadParams(f"a study runs on a commit, but tracked files have changed; commit them first:\n{changed}")
    path = root / REPORTS / f"{name}.json"
    commit = _said(root, "git", "rev-parse", "HEAD").strip()
    head = {"study": name, "commit": commit, "params": study.params | changes}
    report = _begun(path, head)
    clone = root / CLONES / name
    for seed in seeds:  # seeds in the outer loop: an interrupted study can still compare all settings
        for setting, own in study.settings.items():
            if (setting, seed) in _done(report) or (settings and setting not in settings):
                continue
            _prepare(clone, root, commit, study.sample)
            of_run = {**study.params, **own, **changes, "train.seed": seed}
            metrics = _measured(clone, study, f"{name}-{setting}-{seed}", of_run)
            if study.then:
                shutil.copytree(clone / "data", _kept(root, name) / f"{setting}-{seed}", dirs_exist_ok=True)
            report["runs"].append({"setting": setting, "seed": seed, "params": own, "metrics": metrics})
            write_json(path, report, indent=1)
    for question, lines in study.then.items():
        commands = [shlex.split(line) for line in lines]
        if question not in report["then"] and _done(report).issuperset(_asked(study, commands)):
            report["then"][question] = _answer(_kept(root, name), commands)
            write_json(path, report, indent=1)
    return report


def _measured(clone: Path, study: Study, experiment: str, changes: Changes) -> dict[str, Any]:
    """Run one experiment and return the metrics files that the columns use."""
    words = [word for key, value in changes.items() for word in ("-S", f"{key}={_yaml(value)}")]
    dvc = (sys.executable, "-m", "dvc", "exp")
    if experiment in _said(clone, *dvc, "list", "--names-only").split():
        _run(clone, *dvc, "remove", experiment)  # it had other parameters, or its result was lost
    _run(clone, *dvc, "run", "--name", experiment, *words, *([study.stage] if study.stage else []))
    # Read only the files that a column uses: for a stage that did not run, the file of the commit is still there.
    files = sorted({key.partition(".")[0] for key in study.columns.values()})
    return {name: json.loads((clone / f"metrics/{name}.json").read_text("utf-8")) for name in files}


def _kept(root: Path, name: str) -> Path:
    return root / CLONES / f"{name}-kept"


def _done(report: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(entry["setting"], entry["seed"]) for entry in report["runs"]}


def _asked(study: Study, commands: Iterable[Sequence[str]]) -> Iterator[tuple[str, int]]:
    """Yield setting and seed of each run whose files ``commands`` use."""
    for folder, slash, _ in (word.partition("/") for command in commands for word in command):
        setting, _, seed = folder.rpartition("-")
        if slash and (setting not in study.settings or not seed.isdecimal()):
            known = [f"{name}-0" for name in study.settings]
            raise BadParams(f"then: {folder}/ is not the SETTING-SEED/ folder of a run{did_you_mean(folder, known)}")
        if slash:
            yield setting, int(seed)


def _answer(place: Path, commands: Sequence[Sequence[str]]) -> Any:
    """Run ``commands`` and return the JSON that the last one prints."""
    hydrogate = str(Path(sys.executable).with_name("hydrogate"))
    *before, last = ([hydrogate, *words] for _, *words in commands)
    for command in before:
        _run(place, *command)
    return json.loads(_said(place, *last))


def _begun(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Return the report at ``path`` if commit and parameters are the same, otherwise an empty report."""
    if path.exists():
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if all(report[key] == head[key] for key in head):
            return report
    return {**head, "runs": [], "then": {}}


def _prepare(clone: Path, root: Path, commit: str, sample: Sample | None) -> None:
    """Check out the commit in the clone, which keeps the results of earlier runs."""
    if not clone.exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        _run(root, "git", "clone", "--quiet", "--no-checkout", ".", str(clone.relative_to(root)))
        cache = (root / ".dvc/cache").resolve()
        (clone / ".dvc").mkdir(exist_ok=True)
        (clone / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    _run(clone, "git", "fetch", "--quiet", "origin")
    _run(clone, "git", "checkout", "--quiet", "--force", "--detach", commit)
    if sample is None:
        return
    file = Path("samples") / f"sample-{sample.count}-{sample.seed}.sdf.gz"
    code = b"".join(Path(sampler.__file__).with_name(name).read_bytes() for name in SAMPLER)
    made = (
        _kept(root, clone.name) / hashlib.sha256(code).hexdigest()[:16] / file
    )  # outside the clone, where a killed `dvc exp run` deletes it
    if not made.exists():
        sampler.write_sample(made, sample.count, sample.seed)
    shutil.copyfile(made, clone / file)


def _yaml(value: str | bool | int | float) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def table(study: Study, report: Mapping[str, Any]) -> str:
    """Return ``report`` as a Markdown table: the mean over seeds, with the range if there are several."""
    rows = [["setting", *study.columns], ["---"] * (1 + len(study.columns))]
    for setting in study.settings:
        runs = [entry["metrics"] for entry in report["runs"] if entry["setting"] == setting]
        rows.append([setting, *(_cell([*_values(runs, key)]) for key in study.columns.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _values(runs: Sequence[Mapping[str, Any]], key: str) -> Iterator[float | None]:
    for found in runs:
        value: Any = found
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        value = value.get("value") if isinstance(value, Mapping) else value
        yield value if isinstance(value, int | float) else None  # the files contain "undefined"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "undefined" if values else "not run"
    digits = 3 if max(map(abs, known)) < 1 else 2 if max(map(abs, known)) < 100 else 0
    mean = f"{sum(known) / len(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def _quiet() -> dict[str, str]:
    """Return the environment with DVC's analytics turned off, independent of the project's configuration."""
    return os.environ | {"DVC_NO_ANALYTICS": "1"}


def _run(place: Path, *command: str) -> None:
    status = subprocess.run(command, cwd=place, env=_quiet(), check=False).returncode
    if status:
        raise RuntimeError(f"`{' '.join(command)}` failed with exit status {status}; earlier results are kept")


def _said(place: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place, env=_quiet(), check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study. Exit status: 0 finished, 2 uncommitted changes or failed experiment."""
    parser = argparse.ArgumentParser(prog="nox -s study --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help=", ".join(sorted(path.stem for path in STUDIES.glob("*.yaml"))))
    parser.add_argument("--seeds", type=int, nargs="+", help="replace the seeds of the study")
    parser.add_argument("--settings", nargs="+", help="run only these settings")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="for all runs")
    options = parser.parse_args(argv)
    study = load_study(options.name)
    for change in options.changes:
        if "=" not in change:
            raise BadParams(f"-S {change}: expected KEY=VALUE, such as train.epochs=1")
    changes: Changes = dict(change.split("=", 1) for change in options.changes)
    seeds = options.seeds or study.seeds
    refuse_unknown(study, seeds, changes)
    report = run(options.name, study, seeds, changes, settings=options.settings)
    print(f"{study.reason}\n\n{table(study, report)}\n{REPORTS / options.name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
