"""Identity of the student, teacher and code that ``metrics/benchmarks.json`` was measured with."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydrogate.pipeline.code_graph import PACKAGE, code_of
from hydrogate.pipeline.params import Params

MEASURE = "`python3 -m nox -s benchmarks -- student`"
NO_CUDA = "no CUDA device"
SPEEDS = ("speedup_over_teacher", "kernel_speedup")
_OTHER = {
    "student_fingerprint": "another student",
    "teacher": "another teacher",
    "code_fingerprint": "other code of the students and kernels",
}


def identity(params: Params, student_fingerprint: str | None) -> dict[str, str | None]:
    """Return the identity that a speed must match to be this student's: its weights, the teacher, and the code."""
    teacher = params.label.model_dump(include={"teacher", "method", "weights", "settings"})
    return {
        "student_fingerprint": student_fingerprint,
        "teacher": json.dumps(teacher, sort_keys=True),
        "code_fingerprint": code_fingerprint(),
    }


def code_fingerprint(package: Path = PACKAGE) -> str:
    """Return the SHA-256 of the names and contents of the source files in ``package`` that a student runs."""
    digest = hashlib.sha256()
    for name in code_of("hydrogate.models.students", package=package):
        text = (package / name).read_bytes()
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def stale(params: Params, content: Mapping[str, Any], student_fingerprint: str | None) -> str:
    """Return the reason why the speeds in ``content`` are not this student's, or "" if they are."""
    expected = identity(params, student_fingerprint)
    changed = [words for key, words in _OTHER.items() if content.get(key) is None or content[key] != expected[key]]
    return f"metrics/benchmarks.json is of {' and '.join(changed)}; {MEASURE} measures it again" if changed else ""
