"""``hydrogate visualize``: PyMOL scripts of chosen structures with the forces of teacher and student."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.errors import BadParams
from hydrogate.checks.geometry.chemistry import most_diverse
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.render.pymol import pymol_script
from hydrogate.pipeline.outputs import write_text
from hydrogate.pipeline.program import progress_bar

PICTURE = (1200, 900)  # pixels
PATIENCE = 300  # timeout of PyMOL for one picture, seconds


class Choose(StrEnum):
    """Selection of structures: the most diverse molecules, or the largest force errors."""

    DIVERSE = "diverse"
    WORST = "worst"


def chosen(reference: Dataset, comparison: Comparison, how: Choose, count: int, seed: int = 0) -> list[int]:
    """Return the rows of at most ``count`` structures, one per molecule, in order.

    Takes the last geometry of the most diverse molecules (the first may be relaxed, with no visible forces), or the
    geometries with the largest force RMSE.

    Raises
    ------
    BadParams
        The most diverse molecules are requested, but a molecule has no SMILES.
    """
    if how is Choose.DIVERSE:
        _, from_last = np.unique(comparison.molecule[::-1], return_index=True)
        rows = len(reference) - 1 - from_last
        smiles = [str(one) for one in reference.smiles[rows]]
        if not all(smiles):
            raise BadParams(
                f"{smiles.count('')} of {len(smiles)} molecules have no SMILES, so their diversity is unknown: "
                "name rows with --rows, or use --choose worst"
            )
        return sorted(rows[most_diverse(smiles, count, seed)].tolist())
    squares = np.nan_to_num((comparison.error**2).sum(axis=1), nan=np.inf)
    mean = np.add.reduceat(squares, comparison.offset[:-1]) / np.diff(comparison.offset)
    order = np.argsort(-mean, kind="stable")
    _, first = np.unique(comparison.molecule[order], return_index=True)
    return sorted(order[np.sort(first)[:count]].tolist())


def named(rows: str, structures: int) -> list[int]:
    """Return the numbers in ``rows``, such as ``3,17``, sorted and without duplicates.

    Raises
    ------
    BadParams
        A number is invalid or out of range.
    """
    try:
        found = sorted({int(one) for one in rows.split(",")})
    except ValueError as error:
        raise BadParams(f"--rows {rows}: expected integers separated by commas, such as 3,17") from error
    if found[0] < 0 or found[-1] >= structures:
        raise BadParams(f"--rows {rows}: the predictions have rows 0 to {structures - 1}")
    return found


def run(
    reference: Dataset, comparison: Comparison, rows: Sequence[int], folder: Path, *, scale: float, worst: float
) -> list[Path]:
    """Write ``structure-N.xyz`` and ``structure-N.pml`` for each of ``rows``, and ``index.json``; return the scripts.

    Parameters
    ----------
    reference : Dataset
        Labelled structures.
    comparison : Comparison
        Comparison of the reference with the predictions.
    rows : sequence of int
    folder : Path
    scale : float, Å per eV/Å
        Length of the arrows.
    worst : float, eV/Å
        Force error |ΔF| from which an atom is shown in full red.
    """
    from ase.io import write

    folder.mkdir(parents=True, exist_ok=True)
    entries, scripts = [], []
    for row in rows:
        own, atoms = reference.atoms_of(row), reference.to_atoms(row)
        name = f"structure-{row:05d}"
        write(folder / f"{name}.xyz", atoms, format="xyz", comment=reference.formula(row), fmt="%15.8f")
        teacher, student = comparison.forces[own], comparison.forces_predicted[own]
        script = folder / f"{name}.pml"
        script.write_text(pymol_script(f"{name}.xyz", atoms.positions, teacher, student, scale, worst), "ascii")
        scripts.append(script)
        entries.append({"script": script.name, **_facts(reference, row, student - teacher)})
    write_text(folder / "index.json", json.dumps(entries, indent=2, allow_nan=False) + "\n")
    return scripts


def _facts(reference: Dataset, row: int, error: Any) -> dict[str, Any]:
    """Return the entry of a structure in the index; a non-finite error is null."""
    numbers = reference.numbers[reference.atoms_of(row)]
    length = np.linalg.norm(error, axis=1)
    atom = int(np.nan_to_num(length, nan=np.inf).argmax())
    rmse, largest = float(np.sqrt((error**2).mean())), float(length[atom])
    return {
        "structure": reference.name(row),
        "smiles": str(reference.smiles[row]),
        "atoms": len(numbers),
        "hydrogens": int((numbers == 1).sum()),
        "force_rmse": rmse if np.isfinite(rmse) else None,
        "worst_atom": f"{chemical_symbols[numbers[atom]]} {atom}",
        "worst_error": largest if np.isfinite(largest) else None,
    }


def pictures(scripts: Sequence[Path], pymol: str | None = None) -> list[Path]:
    """Render each script to a PNG next to it; return no files if PyMOL is not installed.

    Raises
    ------
    RuntimeError
        PyMOL rendered no picture; the message quotes the end of its output.
    """
    program = pymol or shutil.which("pymol")
    if program is None:
        return []
    # Debian's pymol runs the first python3 in PATH; in a virtual environment that Python does not have PyMOL.
    environment = os.environ | {"PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    made = []
    with progress_bar("pymol", total=len(scripts), unit="pictures") as advance:
        for script in scripts:
            picture = script.with_suffix(".png")
            picture.unlink(missing_ok=True)
            wanted = f"ray {PICTURE[0]}, {PICTURE[1]}; png {picture.name}"
            # PyMOL's exit status does not indicate errors.
            done = subprocess.run(
                [program, "-ckq", script.name, "-d", wanted],
                cwd=script.parent,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
            if not picture.exists():
                raise RuntimeError(
                    f"{program} rendered no picture of {script}: {(done.stdout + done.stderr)[-500:].strip()}"
                )
            made.append(picture)
            advance(1)
    return made
