"""What a data set holds, for ``hydrogate show``."""

import numpy as np
from rich.table import Table
from rich.text import Text

from hydrogate.checks.dataset import Dataset
from hydrogate.checks.difference import teacher_name
from hydrogate.checks.observables import force_norms
from hydrogate.checks.render.text import printable


def description(data: Dataset, name: str) -> Table:
    """A table of structures, atoms, species, hydrogen, forces, teacher and units."""
    table = Table(title=Text(printable(name)), title_justify="left", show_header=False)
    for fact, value in _facts(data).items():
        table.add_row(fact, Text(printable(value)))
    return table


def _facts(data: Dataset) -> dict[str, str]:
    sizes = data.sizes
    hydrogens = np.bincount(data.structure_of_atom[data.numbers == 1], minlength=len(data))
    fraction = hydrogens / np.maximum(sizes, 1)
    facts = {
        "structures": f"{len(data)} ({len(set(data.parent.tolist()))} roots)",
        "atoms": f"{len(data.numbers)}" + (f" ({sizes.min()} to {sizes.max()} a structure)" if len(data) else ""),
        "species": ", ".join(f"{symbol} {share:.1f} %" for symbol, share in data.species_percentages().items()),
    }
    if len(data):
        facts["hydrogen fraction"] = (
            f"{(data.numbers == 1).mean():.3f} over all atoms, {fraction.min():.2f} to {fraction.max():.2f} a structure"
        )
        facts["charge"] = ", ".join(
            f"{q:+d}: {n}" for q, n in zip(*np.unique(data.charge, return_counts=True), strict=True)
        )
        facts["spin multiplicity"] = ", ".join(
            f"{m}: {n}" for m, n in zip(*np.unique(data.spin_multiplicity, return_counts=True), strict=True)
        )
        splits = zip(*np.unique(data.split.astype(str), return_counts=True), strict=True)
        facts["split"] = ", ".join(f"{name or 'none'}: {n}" for name, n in splits)
    facts["quarantined"] = f"{len(data.quarantine)} of {data.n_read}" if data.n_read else "nobody counted"
    if data.forces is not None and len(data.forces):
        norms = force_norms(data)
        rms = float(np.sqrt(np.mean(data.forces.astype(np.float64) ** 2)))
        facts["forces"] = f"RMS component {rms:.3f}, |F| median {np.median(norms):.3f}, largest {norms.max():.3f} eV/Å"
    facts["teacher"] = teacher_name(data)
    facts["units"] = "positions Å, energy eV, forces eV/Å, charge e"
    facts["fingerprint"] = data.fingerprint()
    return facts
