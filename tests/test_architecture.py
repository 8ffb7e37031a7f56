"""The house against its picture: imports run one way, each heavy library has one home, stages do not meet."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hydrogate.pipeline.code_graph import code_of_stage, judging_code
from hydrogate.pipeline.reports.git_base import BESIDE

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("checks", "models", "pipeline", "studies")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# The modules that stages run, and the decision outside the graph; those of several stages judge what others made.
RUN_BY = [stage["cmd"].split()[2].removeprefix("hydrogate.pipeline.stages.") for stage in GRAPH.values()]
JUDGES_OF_SEVERAL = {module for module in RUN_BY if RUN_BY.count(module) > 1}
STAGES = {name: f"hydrogate.pipeline.stages.{name}" for name in RUN_BY} | {
    "decide": "hydrogate.pipeline.decision.decide"
}
FORBIDDEN = {
    "checks": {"torch", "h5py", "dvc", "hydrogate.models", "hydrogate.pipeline", "studies"},
    "models": {"hydrogate.checks", "hydrogate.pipeline", "studies", "dvc"},
    "pipeline": {"studies"},
    "studies": set(),
}
HOMES = {
    "great_expectations": {
        "checks/contracts/great_expectations.py",
        "studies/benchmarks/contracts.py",
        "studies/validators/great_expectations_ranges.py",
    },
    "orb_models": {"models/teachers/orb.py", "studies/peer_models/orb.py"},
    "tblite": {"models/teachers/xtb.py", "studies/benchmarks/labelling.py"},
    "numba": {"checks/geometry/compiled_passes.py"},
    "vesin": {"checks/geometry/distances.py", "models/neighbours.py"},
    "rdkit": {
        "checks/geometry/chemistry.py",
        "pipeline/molecules/geometry_faults.py",
        "pipeline/molecules/hydrogens.py",
        "pipeline/molecules/valences.py",
        "pipeline/molecules/sdf.py",
        "pipeline/molecules/sample.py",
        "pipeline/stages/regenerate.py",
        "pipeline/molecules/split.py",
        "studies/validators/openff_submission.py",
        "studies/validators/rdkit_reading.py",
    },
}
# The rooms of a package from the ground up: a room imports rooms of earlier lines alone.
FLOORS = {
    "checks": (
        ("errors", "findings"),
        ("data", "declarations"),
        ("geometry",),
        ("engine", "metrics"),
        ("rules", "gates"),
        ("contracts", "diff"),
        ("accidents",),
        ("render",),
    ),
    "models": (
        ("names", "neighbours", "harmonics", "pair_potentials", "loss", "threads"),
        ("batch", "kernels", "teachers"),
        ("potential",),
        ("students", "compiled", "objective", "calculator", "dynamics"),
        ("student_file",),
    ),
    "pipeline": (
        ("code_graph", "params", "program"),
        ("storage", "workers"),
        ("dynamics", "molecules", "outputs", "training"),
        ("commands", "formats", "stages"),
        ("decision",),
        ("reports",),
        ("cli",),
        ("entry",),
    ),
    "studies": (
        ("peer_models", "study", "teacher_study", "validators"),
        ("atlas", "benchmarks", "results", "sampling_study"),
        ("render_pages",),
    ),
}
MOST_FILES = 14


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


def room_of(path: Path) -> str:
    """The folder of a package that ``path`` lies in, or a file of its own beside the folders."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def rooms_imported(path: Path) -> set[str]:
    """The other rooms of the same package that ``path`` imports; a package's own face is none."""
    package = path.relative_to(ROOT).parts[0]
    prefix = "studies." if package == "studies" else f"hydrogate.{package}."
    rooms = {name.removeprefix(prefix).split(".")[0] for name in imports_of(path) if name.startswith(prefix)}
    known = {room for floor in FLOORS[package] for room in floor}
    return (rooms & known) - {room_of(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_stand_on_floors_and_imports_run_down(package: str) -> None:
    floor_of = {room: level for level, floor in enumerate(FLOORS[package]) for room in floor}
    files = [path for path in SOURCES if path.is_relative_to(ROOT / package) and room_of(path) != "__init__"]
    assert {room_of(path) for path in files} == set(floor_of)
    for path in files:
        for room in rooms_imported(path):
            place = path.relative_to(ROOT)
            assert floor_of[room] < floor_of[room_of(path)], f"{place} imports {package}/{room}, which is not below it"


def test_the_picture_of_checks_stays_readable() -> None:
    files = [path for path in SOURCES if path.is_relative_to(ROOT / "checks") and room_of(path) != "__init__"]
    arrows = {(room_of(path), room) for path in files for room in rooms_imported(path)}
    assert len(FLOORS["checks"]) <= 8 and 20 < len(arrows) <= 60


def test_no_room_is_crowded() -> None:
    for folder in {path.parent for path in SOURCES}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in JUDGES_OF_SEVERAL])
def test_stages_meet_through_files(stage: str) -> None:
    others = {module for name, module in STAGES.items() if name not in (stage, *JUDGES_OF_SEVERAL)}
    path = ROOT.joinpath(*STAGES[stage].split(".")[1:]).with_suffix(".py")
    assert not others & imports_of(path)


def test_the_stages_are_those_of_dvc_yaml() -> None:
    assert {"check", "guard"} == JUDGES_OF_SEVERAL
    assert {"regenerate", "label", "train", "validate", "dynamics", "decide"} <= set(STAGES)


def code_deps(stage: str) -> list[str]:
    """The code among the dependencies of a stage in dvc.yaml: folders, and files."""
    return [dep for dep in GRAPH[stage]["deps"] if dep.split("/")[0] in PACKAGES]


def holds(dep: str, place: str) -> bool:
    return place == dep or place.startswith(f"{dep}/")


# A stage that always runs needs no dependencies.
@pytest.mark.parametrize("name", [name for name, stage in GRAPH.items() if "always_changed" not in stage])
def test_dvc_yaml_names_the_code_that_a_stage_runs(name: str) -> None:
    """Each file that the stage runs, and no folder of which it runs nothing."""
    module = GRAPH[name]["cmd"].split()[2]
    assert f"{'/'.join(module.split('.')[1:])}.py" in code_deps(name)
    code = code_of_stage(module.split(".")[-1])
    for place in code:
        assert any(holds(dep, place) for dep in code_deps(name)), f"{name} runs {place}"
    for dep in code_deps(name):
        assert any(holds(dep, place) for place in code), f"{name} runs nothing of {dep}"


def test_training_continues_by_the_code_that_its_stage_depends_on() -> None:
    """The files of models/ agree: more would train again for nothing, less would miss a change."""
    deps = [ROOT / dep for dep in code_deps("train") if dep.startswith("models")]
    sources = {file for dep in deps for file in (dep.rglob("*") if dep.is_dir() else [dep])}
    of_models = {file.relative_to(ROOT).as_posix() for file in sources if file.suffix in (".py", ".cpp")}
    assert of_models == {place for place in code_of_stage("train") if place.startswith("models")}


def test_a_changed_file_that_judges_or_measures_is_called_out() -> None:
    """Code of the stages and the decision is derived from the imports; the files of BESIDE exist."""
    judges = set(judging_code())
    for stage in dict.fromkeys(RUN_BY):
        assert set(code_of_stage(stage)) <= judges
    assert {"pipeline/decision/benchmark_identity.py", "pipeline/decision/committed_metrics.py"} <= judges
    assert all(list(ROOT.glob(pattern)) for pattern in BESIDE if pattern != ".gitlab-ci.yml")


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
    peers = {path for path in (ROOT / "studies" / "peer_models").glob("*.py") if not path.name.startswith("_")}
    for path in set(SOURCES) - peers:
        for module in (
            {name.split(".")[0] for name in imports_of(path)} - sys.stdlib_module_names - {"hydrogate", "studies"}
        ):
            names = {canonicalize_name(name) for name in distributions[module]}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module}, declared by none of {names}"
