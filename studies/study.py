"""``nox -s study -- NAME``: settings of the pipeline compared, each as a DVC experiment of the present commit.

In:  ``studies/NAME.yaml``: what differs, from what it starts, with which seeds, and what is looked at.
Out: ``reports/studies/NAME.json``: of each setting and seed the metrics files that the columns are of; a table too.

The experiments run one after the other in a clone under ``.studies/``, so that neither the parameters nor the data here
change; it shares DVC's cache. Labels and half-finished trainings survive there in ``.progress/``: a study that was
interrupted goes on where it was, and what is in the report is not run again.
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
SAMPLER = ("sample.py", "known_drugs.smi")  # what a sample depends on beside its count and seed
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Changes = dict[str, str | bool | int | float]


class Sample(Section):
    """Molecules to be made first, as ``hydrogate sample`` makes them, into ``samples/``."""

    count: PositiveInt
    seed: NonNegativeInt


class Study(Section):
    """Settings to compare.

    Parameters
    ----------
    reason : str
        What is asked.
    params : mapping
        What every run changes in ``params.yaml``, by dotted key.
    settings : mapping of str to mapping
        What each setting changes beside that.
    seeds : sequence of int
        Each setting is run once with each, as ``train.seed``.
    stage : str
        Every run ends with it; the whole pipeline where none is named.
    then : mapping of str to sequence of str
        Commands of ``hydrogate`` by the name of what the last of them prints, JSON, which the report keeps. They run
        in a folder that holds ``data/`` of each run as ``SETTING-SEED/``.
    columns : mapping of str to str
        Heading to a metric, such as ``validation.force_rmse``, or to what a check observed.
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
    """The study that ``studies/<name>.yaml`` declares.

    Raises
    ------
    BadParams
        There is none, or it is not declared as it should be.
    """
    known = [path.stem for path in STUDIES.glob("*.yaml")]
    if name not in known:
        raise BadParams(f"no study {name!r} in studies/{did_you_mean(name, known)}")
    try:
        return Study.model_validate(load_yaml(STUDIES / f"{name}.yaml"))
    except ValidationError as error:
        raise BadParams(f"studies/{name}.yaml: {explain(error, Study)}") from error


def refuse_unknown(study: Study, seeds: Sequence[int], changes: Changes, root: Path = Path()) -> None:
    """Say before hours of work what would end them: each run's parameters, the stage, the columns, what is asked then.

    Raises
    ------
    BadParams
        ``params.yaml`` has no such key or takes no such value; ``dvc.yaml`` has no such stage or metrics; or what is
        asked at the end names a folder of no setting.
    """
    stages = load_yaml(root / "dvc.yaml")["stages"]
    if study.stage not in {None, *stages}:
        raise BadParams(f"dvc.yaml has no stage {study.stage!r}{did_you_mean(study.stage, stages)}")
    entries = [entry for stage in stages.values() for entry in stage.get("metrics", ())]  # a path, or that and options
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
        params_of(content, f"params.yaml with what setting {setting!r} changes")


def _change(content: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    above = ""
    for part in (*folders, last):
        if not isinstance(content, dict) or part not in content:
            known = [f"{above}{name}" for name in content] if isinstance(content, dict) else []
            raise BadParams(f"params.yaml has no key {key}{did_you_mean(key, known)}")
        if above.count(".") < len(folders):
            content, above = content[part], f"{above}{part}."
    with suppress(YAMLError):  # a word then, of which DVC may think otherwise
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
    """Run what is missing in ``reports/studies/<name>.json``, and write each result there when it comes.

    Parameters
    ----------
    name : str
    study : Study
    seeds : sequence of int
        In place of the study's own.
    changes : mapping
        Of parameters, beside the study's own.
    root : Path
        The project's root.
    settings : sequence of str
        These alone; all where None.

    Raises
    ------
    BadParams
        A tracked file is changed: a study is of a commit. Or the study has no such setting.
    RuntimeError
        An experiment failed; what was measured before is kept.
    """
    for unknown in set(settings or ()) - set(study.settings):
        raise BadParams(f"study {name} has no setting {unknown!r}{did_you_mean(unknown, list(study.settings))}")
    changed = _said(root, "git", "status", "--porcelain", "--untracked-files=no")
    if changed:
        raise BadParams(f"a study is of a commit, but files are changed; commit them first:\n{changed}")
    path = root / REPORTS / f"{name}.json"
    commit = _said(root, "git", "rev-parse", "HEAD").strip()
    head = {"study": name, "commit": commit, "params": study.params | changes}
    report = _begun(path, head)
    clone = root / CLONES / name
    for seed in seeds:  # a seed after the other, so that a study that is cut short compares what it has
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
    """Run an experiment; the metrics files that the columns are of."""
    words = [word for key, value in changes.items() for word in ("-S", f"{key}={_yaml(value)}")]
    dvc = (sys.executable, "-m", "dvc", "exp")
    if experiment in _said(clone, *dvc, "list", "--names-only").split():
        _run(clone, *dvc, "remove", experiment)  # of other parameters, or its result was lost
    _run(clone, *dvc, "run", "--name", experiment, *words, *([study.stage] if study.stage else []))
    # Those alone that a column is of: of a stage that did not run the commit's own would still lie there.
    files = sorted({key.partition(".")[0] for key in study.columns.values()})
    return {name: json.loads((clone / f"metrics/{name}.json").read_text("utf-8")) for name in files}


def _kept(root: Path, name: str) -> Path:
    return root / CLONES / f"{name}-kept"


def _done(report: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(entry["setting"], entry["seed"]) for entry in report["runs"]}


def _asked(study: Study, commands: Iterable[Sequence[str]]) -> Iterator[tuple[str, int]]:
    """Setting and seed of each run whose files ``commands`` name."""
    for folder, slash, _ in (word.partition("/") for command in commands for word in command):
        setting, _, seed = folder.rpartition("-")
        if slash and (setting not in study.settings or not seed.isdecimal()):
            known = [f"{name}-0" for name in study.settings]
            raise BadParams(f"then: {folder}/ is no run's SETTING-SEED/{did_you_mean(folder, known)}")
        if slash:
            yield setting, int(seed)


def _answer(place: Path, commands: Sequence[Sequence[str]]) -> Any:
    """What the last of ``commands`` prints."""
    hydrogate = str(Path(sys.executable).with_name("hydrogate"))
    *before, last = ([hydrogate, *words] for _, *words in commands)
    for command in before:
        _run(place, *command)
    return json.loads(_said(place, *last))


def _begun(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """The report at ``path`` where it is of the same commit and parameters; else an empty one."""
    if path.exists():
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if all(report[key] == head[key] for key in head):
            return report
    return {**head, "runs": [], "then": {}}


def _prepare(clone: Path, root: Path, commit: str, sample: Sample | None) -> None:
    """The commit as it is in git, in a clone that keeps what earlier runs have computed."""
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
    )  # a killed `dvc exp run` takes the one in the clone away
    if not made.exists():
        sampler.write_sample(made, sample.count, sample.seed)
    shutil.copyfile(made, clone / file)


def _yaml(value: str | bool | int | float) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def table(study: Study, report: Mapping[str, Any]) -> str:
    """``report`` in Markdown: the mean over seeds, with the smallest and largest where there are several."""
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
        yield value if isinstance(value, int | float) else None  # the files say "undefined"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "undefined" if values else "not run"
    digits = 3 if max(map(abs, known)) < 1 else 2 if max(map(abs, known)) < 100 else 0
    mean = f"{sum(known) / len(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def _quiet() -> dict[str, str]:
    """The environment, in which DVC reports to nobody, whatever the configuration of the project."""
    return os.environ | {"DVC_NO_ANALYTICS": "1"}


def _run(place: Path, *command: str) -> None:
    status = subprocess.run(command, cwd=place, env=_quiet(), check=False).returncode
    if status:
        raise RuntimeError(f"`{' '.join(command)}` ended with status {status}; what was measured before is kept")


def _said(place: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place, env=_quiet(), check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    return done.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study; 0 when done, 2 where files are changed or an experiment failed."""
    parser = argparse.ArgumentParser(prog="nox -s study --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help=", ".join(sorted(path.stem for path in STUDIES.glob("*.yaml"))))
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of the study's own")
    parser.add_argument("--settings", nargs="+", help="these alone")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="for every run")
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
