"""Fixtures: twenty records of the sample, and the parameters of stage regenerate."""

import gzip
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.molecules.records import raw_records
from hydrogate.pipeline.molecules.sdf import Molecule, read_record
from hydrogate.pipeline.params import Regenerate
from hydrogate.pipeline.stages import regenerate

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="session")
def records() -> list[str]:
    return list(islice(raw_records(ROOT / "samples" / "sample-1000-0.sdf.gz"), 20))


@pytest.fixture(scope="session")
def molecules(records: Sequence[str]) -> list[Molecule]:
    read = [read_record(text, "twenty.sdf.gz", index) for index, text in enumerate(records)]
    return [record for record in read if isinstance(record, Molecule)]


@pytest.fixture(scope="session")
def shipped() -> dict[str, Any]:
    """Content of ``params.yaml``."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def parameters(shipped: dict[str, Any]) -> Callable[..., Regenerate]:
    """Parameters of the stage from ``params.yaml``, with changes."""
    return lambda **changes: Regenerate.model_validate(shipped["regenerate"] | changes)


@pytest.fixture(scope="session")
def sampling(shipped: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Sampling parameters from ``params.yaml``, with another method and changes."""
    return lambda method, **changes: {"sampling": shipped["regenerate"]["sampling"] | {"method": method} | changes}


@pytest.fixture(scope="session")
def write() -> Callable[[Path, Sequence[str]], Path]:
    """Function that writes records as a gzipped SDF file."""

    def make(path: Path, records: Sequence[str]) -> Path:
        path.write_bytes(gzip.compress("".join(f"{record}$$$$\n" for record in records).encode()))
        return path

    return make


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, records: Sequence[str], write: Callable[..., Path]) -> Path:
    return write(tmp_path_factory.mktemp("in") / "twenty.sdf.gz", records)


@pytest.fixture(scope="session")
def data(source: Path, parameters: Callable[..., Regenerate]) -> Dataset:
    return regenerate.run([source], parameters())[0]
