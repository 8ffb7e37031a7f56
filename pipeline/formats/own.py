"""The project's own HDF5 format, and SDF: formats that define their own units."""

from pathlib import Path

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import ReadOptions
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.formats.options import reader
from hydrogate.pipeline.storage.hdf5 import read_dataset

UNITS = "eV,angstrom"


@reader(".h5", ".hdf5", units=UNITS, convention="as the file says", says_itself=True)
def read_hdf5(path: Path, options: ReadOptions) -> Dataset:
    """Read the project's own layout."""
    _refuse_options(path, options, "the project's own HDF5")
    return read_dataset(path)


@reader(".sdf", ".sdf.gz", units=UNITS, convention="SDF is in Å", says_itself=True)
def read_sdf(path: Path, options: ReadOptions) -> Dataset:
    """Read SDF, also gzipped: the atoms in the file, and the hydrogen count implied by the valences."""
    from hydrogate.pipeline.molecules.sdf import read_records

    _refuse_options(path, options, "SDF")
    return read_records(path)


def _refuse_options(path: Path, options: ReadOptions, what: str) -> None:
    if options.keys or options.units not in (None, UNITS):
        raise BadParams(f"{path}: {what} has its own keys and units; omit --keys and --units")
