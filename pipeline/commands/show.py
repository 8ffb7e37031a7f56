"""``hydrogate show``: summary of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.diff.datasets_diff import teacher_name
from hydrogate.checks.geometry.observables import force_norms
from hydrogate.checks.render.markdown import escape_markdown
from hydrogate.checks.render.text import printable

MOST_QUARANTINED, MOST_SENTENCES = 100, 20  # reasons in JSON, and in text and Markdown


def content(data: Dataset, name: str, taken: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return plain values in eV, Å and e, None if undefined; ``taken`` lists the formats read, with their units."""
    hydrogens = np.bincount(data.structure_of_atom[data.numbers == 1], minlength=len(data))
    force = None
    if data.forces is not None and len(data.forces):
        norms = force_norms(data)
        rms = np.sqrt(np.mean(data.forces.astype(np.float64) ** 2))
        figures = {"rms_component": rms, "median": np.median(norms), "max": norms.max()}
        force = {key: float(value) if np.isfinite(value) else None for key, value in figures.items()}
    return {
        "name": name,
        "read_as": [{"format": of, "units": units} for of, units in taken],
        "structures": len(data),
        "roots": len(set(data.parent.tolist())),
        "atoms": len(data.numbers),
        "sizes": _extremes(data.sizes),
        "species_percent": data.species_percentages(),
        "hydrogen_fraction": float((data.numbers == 1).mean()) if len(data.numbers) else None,
        "hydrogen_fractions": _extremes(hydrogens / np.maximum(data.sizes, 1)),
        "charge": _counted(data.charge),
        "spin_multiplicity": _counted(data.spin_multiplicity),
        "split": _counted(data.split.astype(str)),
        "quarantined": len(data.quarantine),
        "quarantine": [record._asdict() for record in data.quarantine[:MOST_QUARANTINED]],
        "n_read": data.n_read or None,
        "force": force,
        "teacher": teacher_name(data),
        "fingerprint": data.fingerprint(),
    }


def _extremes(values: NDArray[Any]) -> dict[str, int | float] | None:
    return {"min": values.min().item(), "max": values.max().item()} if len(values) else None


def _counted(values: NDArray[Any]) -> dict[str, int]:
    found, counts = np.unique(values, return_counts=True)
    return {str(value): int(count) for value, count in zip(found.tolist(), counts, strict=True)}


def text(held: Mapping[str, Any]) -> RenderableType:
    """Render a table of structures, atoms, species, hydrogen, forces, teacher and units, and how files were read."""
    table = Table(title=Text(printable(held["name"])), title_justify="left", show_header=False)
    for fact, value in _facts(held).items():
        table.add_row(fact, Text(printable(value)))
    return Group(table, *(Text(printable(sentence)) for sentence in _sentences(held)))


def markdown(held: Mapping[str, Any]) -> str:
    """Render the same as a Markdown table, with all names escaped."""
    lines = [f"## {escape_markdown(held['name'])}", "", "| | |", "| --- | --- |"]
    lines += [f"| {fact} | {escape_markdown(value)} |" for fact, value in _facts(held).items()]
    return "\n".join([*lines, "", *(f"- {escape_markdown(sentence)}" for sentence in _sentences(held))]) + "\n"


def _sentences(held: Mapping[str, Any]) -> list[str]:
    read = [f"Read as {taken['format']}; units: {taken['units']}." for taken in held["read_as"]]
    reasons = [f"{one['source']} record {one['source_index']}: {one['reason']}" for one in held["quarantine"]]
    return [*read, *(f"Quarantined: {reason}" for reason in reasons[:MOST_SENTENCES])]


def _facts(held: Mapping[str, Any]) -> dict[str, str]:
    sizes, fractions, force = held["sizes"], held["hydrogen_fractions"], held["force"]
    facts = {
        "structures": f"{held['structures']} ({held['roots']} roots)",
        "atoms": f"{held['atoms']}" + (f" ({sizes['min']} to {sizes['max']} per structure)" if sizes else ""),
        "species": ", ".join(f"{symbol} {share:.1f} %" for symbol, share in held["species_percent"].items()),
    }
    if held["structures"]:
        facts["hydrogen fraction"] = (
            f"{_figure(held['hydrogen_fraction'])} over all atoms, {fractions['min']:.2f} to {fractions['max']:.2f} "
            "per structure"
        )
        facts["charge"] = ", ".join(f"{int(charge):+d}: {n}" for charge, n in held["charge"].items())
        facts["spin multiplicity"] = ", ".join(f"{spin}: {n}" for spin, n in held["spin_multiplicity"].items())
        facts["split"] = ", ".join(f"{name or 'none'}: {n}" for name, n in held["split"].items())
    facts["quarantined"] = f"{held['quarantined']} of {held['n_read']}" if held["n_read"] else "not counted"
    if force:
        rms, median, largest = (_figure(force[key]) for key in ("rms_component", "median", "max"))
        facts["forces"] = f"RMS component {rms}, |F| median {median}, largest {largest} eV/Å"
    facts["teacher"] = held["teacher"]
    facts["units"] = "positions Å, energy eV, forces eV/Å, charge e"
    facts["fingerprint"] = held["fingerprint"]
    return facts


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
