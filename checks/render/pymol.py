"""PyMOL script of a structure: atoms coloured by the student's error, teacher and student forces as arrows.

The script contains only numbers and element symbols, so that PyMOL never executes names from a molecule file.
"""

from collections.abc import Iterator

import numpy as np

from hydrogate.checks.metrics.bootstrap import Floats

# Red, green, blue from 0 to 1: dark blue inside orange stays visible where the two forces agree.
TEACHER, STUDENT = (0.10, 0.30, 0.75), (0.95, 0.55, 0.10)
TEACHER_RADIUS, STUDENT_RADIUS = 0.05, 0.09  # Å
HEAD = 0.3  # Å, or two fifths of a short arrow
# PyMOL's compiled graphics objects. Source: pymol/cgo.py.
_CYLINDER, _CONE, _ALPHA = 9.0, 27.0, 25.0


def pymol_script(file: str, positions: Floats, teacher: Floats, student: Floats, scale: float, worst: float) -> str:
    """Return the ``.pml`` script that shows the structure in ``file``, in the same folder.

    Parameters
    ----------
    file : str
        A file name without a folder.
    positions : (n, 3) Å
        As in the file, in the same order.
    teacher, student : (n, 3) eV/Å
        A force that is not finite has no arrow, and its atom has the colour of the largest error.
    scale : float, Å per eV/Å
        Length of the arrows.
    worst : float, eV/Å
        |ΔF| at and above which an atom is fully red; white is no error.
    """
    error = np.nan_to_num(np.linalg.norm(student - teacher, axis=1), nan=np.inf)
    shown = ", ".join(f"{value:.4f}" for value in np.minimum(error, worst))
    lines = [
        # No semicolons: PyMOL runs the text after one as a command, even in a comment.
        f"# Force arrows, {scale:g} A per eV/A: blue is the teacher, orange the student.",
        f"# Atom colour: length of the force error, from white at 0 to red at {worst:g} eV/A.",
        f"load {file}, molecule",
        "hide everything",
        "show sticks, molecule",
        "show spheres, molecule",
        "set stick_radius, 0.06, molecule",
        "set stick_color, grey70, molecule",
        "set sphere_scale, 0.13, molecule",
        "set sphere_scale, 0.16, molecule and elem H",
        f"/stored.error = [{shown}]",
        "alter molecule, b = stored.error[rank]",
        f"spectrum b, white_red, molecule, minimum=0, maximum={worst:g}",
        "label molecule and not elem C+H, elem",
        "set label_size, 18",
        *_arrows("student", positions, student * scale, STUDENT, STUDENT_RADIUS, 0.55),
        *_arrows("teacher", positions, teacher * scale, TEACHER, TEACHER_RADIUS, 1.0),
        "bg_color white",
        "set ray_opaque_background, on",
        "set ray_shadows, off",
        "set orthoscopic, on",
        "orient molecule",
        "zoom all, 0.5",
    ]
    return "\n".join(lines) + "\n"


def _arrows(
    name: str, starts: Floats, vectors: Floats, colour: tuple[float, float, float], radius: float, alpha: float
) -> Iterator[str]:
    content = [_ALPHA, alpha]
    for start, vector in zip(starts, vectors, strict=True):
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length < 0.02:
            continue
        end, neck = start + vector, start + vector * (1 - min(HEAD / length, 0.4))
        content += [_CYLINDER, *start, *neck, radius, *colour, *colour]
        content += [_CONE, *neck, *end, 2.2 * radius, 0.0, *colour, *colour, 1.0, 0.0]
    # PyMOL draws nothing if the list contains an integer literal.
    numbers = ", ".join(f"{value:.4f}" for value in content)
    yield f'/cmd.load_cgo([{numbers}], "{name}")'
