"""Fixtures: files of labels and predictions as other programs write them, and ``hydrogate evaluate`` on two files."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from hydrogate.checks.data.dataset import concatenate
from hydrogate.pipeline.storage.hdf5 import write_dataset


@pytest.fixture
def call(call):
    """Run ``hydrogate evaluate`` on two files."""
    return lambda reference, *predicted: call("evaluate", "--reference", reference, "--predicted", *predicted)


@pytest.fixture
def metrics(call):
    """Return the metrics of two files, from the JSON."""

    def read(reference, predicted, *arguments):
        status, out, err = call(reference, predicted, "--format", "json", *arguments)
        assert status == 0, err
        content = json.loads(out)
        assert set(content) == {"metrics", *(["training"] if "--training" in arguments else [])}
        for metric in content["metrics"].values():
            assert set(metric) == {"value", "unit", "n", "low", "high"}
        return content["metrics"]

    return read


@pytest.fixture(scope="session")
def structures():
    """Four molecules, built again at each call."""
    return lambda: [molecule(name) for name in ("CH3OH", "H2O", "CH4", "CH3CH2OH")]


@pytest.fixture(scope="session")
def smiles():
    """SMILES of ``structures``."""
    return ("CO", "O", "C", "CCO")


@pytest.fixture(scope="session")
def forces_of():
    """Forces of frames, reproducible by seed."""

    def make(frames, seed=0):
        rng = np.random.default_rng(seed)
        return [rng.normal(scale=2.0, size=(len(atoms), 3)) for atoms in frames]

    return make


@pytest.fixture(scope="session")
def write_extxyz():
    """Write frames with their labels as extxyz."""

    def make(path, frames, forces, energies=None, **info):
        labelled = []
        for row, (atoms, force) in enumerate(zip(frames, forces, strict=True)):
            copy = atoms.copy()
            energy = None if energies is None else energies[row]
            copy.calc = SinglePointCalculator(copy, energy=energy, forces=np.asarray(force, float))
            copy.info.update({key: values[row] for key, values in info.items()})
            labelled.append(copy)
        write(path, labelled, format="extxyz")

    return make


@pytest.fixture(scope="session")
def write_own():
    """Write frames with their labels as hydrogate's HDF5."""

    def make(path, frames, forces, energies=None, **columns):
        write_dataset(concatenate(frames, forces=forces, energy=energies, **columns), Path(path))

    return make
