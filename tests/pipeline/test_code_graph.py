"""Code graph of a module, from its imports: direct, inside functions, by name; and the modules excluded from it."""

from pathlib import Path

import pytest

from hydrogate.pipeline.code_graph import NO_RESULT, PACKAGE, code_of, code_of_stage, judging_code


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Create a package: ``a`` imports ``b`` in a function, ``b`` a package that imports by name, nothing ``alone``."""
    root = tmp_path / "hydrogate"
    (root / "found").mkdir(parents=True)
    (root / "a.py").write_text("import os\n\ndef run():\n    from hydrogate import b\n")
    (root / "b.py").write_text("from hydrogate.found import names\nimport hydrogate.a\n")
    (root / "found" / "__init__.py").write_text("from importlib import import_module\n")
    (root / "found" / "c.py").write_text("")
    (root / "found" / "c.cpp").write_text("")
    (root / "found" / "c.txt").write_text("")
    (root / "alone.py").write_text("from hydrogate import a\n")
    return root


def test_imports_are_followed_into_functions_and_packages_that_import_by_name(package: Path) -> None:
    everything = ["a.py", "b.py", "found/__init__.py", "found/c.cpp", "found/c.py"]
    assert code_of("hydrogate.a", package=package) == everything
    assert code_of("hydrogate.a", apart=["b.py"], package=package) == ["a.py"]
    assert code_of("hydrogate.alone", package=package) == ["a.py", "alone.py", *everything[1:]]
    assert code_of("hydrogate.unheard_of", "numpy", package=package) == []


def test_a_changed_import_is_seen(package: Path) -> None:
    assert "b.py" in code_of("hydrogate.a", package=package)
    (package / "a.py").write_text("import os, sys\n")
    assert code_of("hydrogate.a", package=package) == ["a.py"]


def test_training_depends_on_its_students_and_not_on_teachers_or_reports() -> None:
    code = code_of_stage("train")
    assert {"models/students/painn.py", "models/kernels/painn.cpp", "pipeline/training/loop.py"} <= set(code)
    assert not [name for name in code if name.startswith(("models/teachers", "pipeline/reports", "checks/rules"))]
    assert not set(NO_RESULT) & set(code)


def test_what_is_held_apart_exists() -> None:
    assert all((PACKAGE / name).is_file() for name in NO_RESULT)


def test_everything_that_a_verdict_comes_from_judges() -> None:
    """Includes the code that creates the data and the student: it affects a verdict as much as the metrics do."""
    code = set(judging_code())
    for name in ("molecules/split", "storage/hdf5", "stages/label", "decision/decide", "reports/git_base"):
        assert f"pipeline/{name}.py" in code
    assert {"checks/rules/splits.py", "models/teachers/xtb.py", "studies/benchmarks/student.py"} <= code
    assert not [name for name in code if name.startswith("pipeline/commands/")]
