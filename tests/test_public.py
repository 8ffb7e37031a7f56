"""The public face of the package: its names, that its import is quick, and what a wheel holds."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write
from setuptools import find_packages

import hydrogate
from hydrogate import checks
from hydrogate.pipeline import formats

ROOT = Path(__file__).resolve().parents[1]


def test_the_names_are_those_of_the_packages() -> None:
    for name in ("Dataset", "Finding", "Report", "check", "from_atoms"):
        assert getattr(hydrogate, name) is getattr(checks, name)
    assert hydrogate.read is formats.read
    assert hydrogate.__version__ == version("hydrogate")
    assert set(hydrogate.__all__) <= set(dir(hydrogate))
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        hydrogate.chek  # noqa: B018


def test_a_file_is_read_and_checked(tmp_path: Path) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"), format="extxyz")
    data = hydrogate.read(tmp_path / "water.xyz")
    assert hydrogate.check(data, "structures", profile="small").holds()
    write(tmp_path / "carbon.xyz", molecule("CO2"), format="extxyz")
    assert not hydrogate.check(hydrogate.read(tmp_path / "carbon.xyz"), "structures").holds()


def test_the_import_is_quick() -> None:
    code = "import sys, hydrogate; print(sorted({'numpy', 'ase', 'rdkit', 'pandera', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_the_three_folders_and_no_studies() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = set(find_packages(str(ROOT), include=settings["include"]))
    folders = {
        ".".join(("hydrogate", *path.parent.relative_to(ROOT).parts))
        for name in ("checks", "models", "pipeline")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert packages == folders | {"hydrogate"}
