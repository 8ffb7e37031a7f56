"""The house against its picture: imports run one way, each heavy library has one home, stages do not meet."""

import ast
import fnmatch
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hydrogate.pipeline.revision import JUDGES
from hydrogate.pipeline.train import CODE

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("checks", "models", "pipeline")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# The modules that stages run, and the decision outside the graph; those of several stages judge what others made.
RUN_BY = [stage["cmd"].split()[2].removeprefix("hydrogate.pipeline.") for stage in GRAPH.values()]
JUDGES_OF_SEVERAL = {module for module in RUN_BY if RUN_BY.count(module) > 1}
STAGES = [*dict.fromkeys(RUN_BY), "decide"]
FORBIDDEN = {
    "checks": {"torch", "h5py", "dvc", "hydrogate.models", "hydrogate.pipeline"},
    "models": {"hydrogate.checks", "hydrogate.pipeline", "dvc"},
    "pipeline": set(),
}
HOMES = {
    "great_expectations": {
        "checks/distributions.py",
        "pipeline/bench_contracts.py",
        "pipeline/validators/great_expectations_ranges.py",
    },
    "orb_models": {"models/teachers/orb.py", "models/peers/orb.py"},
    "tblite": {"models/teachers/xtb.py", "pipeline/bench_labelling.py"},
    "numba": {"checks/kernels.py"},
    "vesin": {"checks/pairs.py", "models/neighbours.py"},
    "rdkit": {
        "checks/chemistry.py",
        "pipeline/hydrogens.py",
        "pipeline/sdf.py",
        "pipeline/sample.py",
        "pipeline/regenerate.py",
        "pipeline/split.py",
        "pipeline/validators/openff_submission.py",
        "pipeline/validators/rdkit_reading.py",
    },
}


def imports_of(path: Path) -> set[str]:
    """Every module that ``path`` imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way_and_heavy_libraries_have_one_home(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    imported = imports_of(path)
    for module in FORBIDDEN[place.split("/")[0]]:
        assert not [name for name in imported if f"{name}.".startswith(f"{module}.")], f"{place} imports {module}"
    for library, homes in HOMES.items():
        if any(f"{name}.".startswith(f"{library}.") for name in imported):
            assert place in homes, f"{place} imports {library}"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in JUDGES_OF_SEVERAL])
def test_stages_meet_through_files(stage: str) -> None:
    others = {f"hydrogate.pipeline.{name}" for name in STAGES if name not in (stage, *JUDGES_OF_SEVERAL)}
    assert not others & imports_of(ROOT / "pipeline" / f"{stage}.py")


def test_the_stages_are_those_of_dvc_yaml() -> None:
    assert {"check", "guard"} == JUDGES_OF_SEVERAL
    assert {"regenerate", "label", "train", "validate", "md", "decide"} <= set(STAGES)


# What a stage says and shows, how it is called, which parameters exist and how a file is put in place changes no result
# of it; metrics and rules that only a check needs come with `checks` as a whole.
NO_RESULT = {f"pipeline/{name}.py" for name in ("stage", "params", "artifacts", "whole")}
NO_RESULT |= {f"checks/{name}.py" for name in ("bounds", "declared", "findings", "rules")}


def code_of(path: Path) -> set[str]:
    """The project's files that ``path`` runs, itself included; another stage's judgement is that stage's own."""
    seen: set[str] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        place = current.relative_to(ROOT).as_posix()
        another = place in ("pipeline/guard.py", "pipeline/check.py") and current != path
        if place in seen or place in NO_RESULT or another:
            continue
        seen.add(place)
        modules = [ROOT.joinpath(*name.split(".")[1:]) for name in imports_of(current) if name.startswith("hydrogate.")]
        todo += [file for module in modules if (file := module.with_suffix(".py")).exists()]
    return seen


@pytest.mark.parametrize(
    "name", ["regenerate", "label", "train", "validate", "dynamics", "check_labels", "guard_labels"]
)
def test_dvc_yaml_names_the_code_that_a_stage_runs(name: str) -> None:
    stage = GRAPH[name]
    module = ROOT.joinpath(*stage["cmd"].split()[2].split(".")[1:]).with_suffix(".py")
    assert module.relative_to(ROOT).as_posix() in stage["deps"]
    for place in code_of(module):
        if name.startswith("check_") and place.startswith("models/"):
            continue  # the student and the teacher, which one module loads for three stages
        assert any(place == dep or place.startswith(f"{dep}/") for dep in stage["deps"]), f"{name} runs {place}"


def test_training_continues_by_the_code_that_its_stage_depends_on() -> None:
    """Neither more, which would discard half of a training for nothing, nor less."""
    deps = [ROOT / dep for dep in GRAPH["train"]["deps"]]
    code = {
        file for dep in deps for file in (dep.rglob("*") if dep.is_dir() else [dep]) if file.suffix in (".py", ".cpp")
    }
    assert {file for pattern in CODE for file in ROOT.glob(pattern)} == code


# What a verdict comes from runs these too; they make or carry what is judged and say nothing of it.
MAKES_OR_CARRIES = {
    f"pipeline/{name}.py"
    for name in (
        *("compute", "hdf5", "mapped", "plots", "progress", "records"),  # files, processes, pictures
        *("hydrogens", "sampling", "sdf", "split"),  # data, which contracts judge
        *("fit", "training", "training_state"),  # a student, which validate measures
        "plan",  # how many molecules would decide
    )
}


def test_a_changed_file_that_judges_or_measures_is_called_out() -> None:
    modules = [
        *(stage["cmd"].split()[2].split(".")[2] for stage in GRAPH.values() if "metrics" in stage),
        *("guard", "decide", "report", "bench_student"),  # the last writes metrics/benchmarks.json, outside the graph
    ]
    run = {place for module in modules for place in code_of(ROOT / "pipeline" / f"{module}.py")}
    run = {place for place in run if place.startswith(("checks/", "pipeline/"))}
    judges = {place for place in run if any(fnmatch.fnmatch(place, pattern) for pattern in JUDGES)}
    assert {"pipeline/speed.py", "pipeline/measured.py", "pipeline/predict.py"} <= run
    assert run - judges == MAKES_OR_CARRIES  # a file that neither names belongs in JUDGES or there
    assert all(list(ROOT.glob(pattern)) for pattern in JUDGES if pattern.startswith(("checks/", "pipeline/")))


def test_dvc_yaml_and_params_agree() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, stage in GRAPH.items():
        for key in stage.get("params", []):
            value = params
            for part in key.split("."):
                assert part in value, f"{name}: params.yaml has no {key}"
                value = value[part]


def test_metrics_are_in_git_and_data_is_not() -> None:
    for stage in GRAPH.values():
        for metric in stage.get("metrics", []):
            assert all(options == {"cache": False} for options in metric.values())
    assert "/data/" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_ignore_rule_can_swallow_a_package() -> None:
    for line in (ROOT / ".gitignore").read_text().splitlines():
        assert line.startswith(("/", "*", "__pycache__", ".")), f"anchor {line!r}"


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines)
    declared = {canonicalize_name(Requirement(line).name) for line in (*project["dependencies"], *extras)}
    distributions = packages_distributions()
    # Each peer declares what it imports itself, for an environment of its own.
    peers = {path for path in (ROOT / "models" / "peers").glob("*.py") if not path.name.startswith("_")}
    for path in set(SOURCES) - peers:
        for module in {name.split(".")[0] for name in imports_of(path)} - sys.stdlib_module_names - {"hydrogate"}:
            names = {canonicalize_name(name) for name in distributions[module]}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module}, declared by none of {names}"
