"""Student files: weights as safetensors, with the student's description and training in the metadata."""

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydrogate.models.potential import Student, Support

SCHEMA_VERSION = 1


class UnreadableStudent(ValueError):
    """File that is not a student, or is of another version; the message names the file and the remedy."""


def save_student(student: Student, path: Path, training: Mapping[str, Any]) -> None:
    """Write ``student`` to ``path`` as safetensors, with its name, sizes, support and ``training`` in the metadata.

    Parameters
    ----------
    student : Student
    path : pathlib.Path
    training : mapping
        How the student was trained (parameters, fingerprint of the data); must be valid JSON.
    """
    from safetensors.torch import save_file

    about = {
        "schema_version": SCHEMA_VERSION,
        "student": student.name,
        "size": asdict(student.size),
        "support": asdict(student.support),
        "training": dict(training),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in student.state_dict().items()}
    # One entry: safetensors writes several in arbitrary order, and equal students should give equal files.
    save_file(tensors, path, metadata={"hydrogate": json.dumps(about, sort_keys=True, allow_nan=False)})


def read_about(path: Path) -> dict[str, Any]:
    """Read the metadata that `save_student` wrote: schema_version, student, size, support, training.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    UnreadableStudent
        It is not a student of this version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; `dvc repro train` trains a student")
    if not path.is_file():
        raise UnreadableStudent(f"{path}: a folder, a pipe or a device; expected a student file")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["hydrogate"])
        version = about["schema_version"]
        missing = {"student", "size", "support", "training"} - set(about)
    except (SafetensorError, OSError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise UnreadableStudent(f"{path}: not a student file ({error}); train one, or restore the file") from error
    if version != SCHEMA_VERSION or missing:
        raise UnreadableStudent(
            f"{path}: a student file of schema {version}, missing: {sorted(missing) or 'nothing'}; expected schema "
            f"{SCHEMA_VERSION}. Train the student again"
        )
    return dict(about)


def load_student(path: Path) -> Student:
    """Load the student that `save_student` wrote to ``path``, ready to predict, on the CPU.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    UnreadableStudent
        It is not a student of this version, or its weights do not belong to the student that it names.
    """
    from safetensors.torch import load_file

    from hydrogate.models.names import UnknownName
    from hydrogate.models.students import make_student

    about = read_about(path)
    try:
        support = Support(**{name: tuple(map(operator.index, values)) for name, values in about["support"].items()})
        student = make_student(about["student"], about["size"], support)
        student.load_state_dict(load_file(path))
    except (UnknownName, TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise UnreadableStudent(f"{path}: {error}; train the student again") from error
    return student.eval()


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
