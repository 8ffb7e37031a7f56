"""``hydrogate check --audit``: relabel a sample of the data with the teacher that made the stored labels."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks.engine.bounds import Override, resolve_bounds
from hydrogate.checks.errors import BadParams
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.checks.rules.relabelling import missed_share
from hydrogate.pipeline.program import progress_bar

if TYPE_CHECKING:
    from hydrogate.models.teachers import Teacher

AUDITING = ("label_audit", "energy_force_consistency")
RUNS_CODE = "ase_calculator"
COMPARING = {"structures": ("element_drift",), "labels": ("force_scale_by_element", "distribution_drift")}
_ANOTHER = "an audit needs the teacher that made the labels, and the data set names {} {}"
_FAILURES_SHOWN = 3


class Audit(NamedTuple):
    """Teacher and sample of an audit.

    Parameters
    ----------
    teacher : str
        One of :func:`hydrogate.models.teachers.teacher_names`.
    method : str, optional
        Its level of theory; default: the one that the data set names, else the teacher's own default.
    weights : path, optional
        A local weight file, for teachers that have weights.
    sample : int, optional
        Number of random structures, and of outliers; default: the number in the bounds.
    """

    teacher: str
    method: str | None = None
    weights: Path | None = None
    sample: int | None = None


def switched_on(
    checks: Sequence[str], source: str, contract: str, profile: str | None, overrides: Sequence[Override]
) -> list[Override]:
    """Return ``overrides``, extended by ``source``, which enables the ``checks`` that are off: the call needs them."""
    _, declared = resolve_bounds(contract, profile=profile, overrides=overrides)
    off = {check: {"enabled": True} for check in checks if not declared[check].enabled}
    return [*overrides, *([(source, {contract: off})] if off else [])]


def sample_of(size: int, n_structures: int, profile: str | None, overrides: Sequence[Override]) -> list[Override]:
    """Return ``overrides``, extended by ``--sample``: the number of random structures, and of outliers, to relabel.

    Raises
    ------
    BadParams
        The sample is so small that it may miss more wrong labels than the bound allows.
    """
    _, declared = resolve_bounds("labels", profile=profile, overrides=overrides)
    allowed, missed = declared["label_audit"].limits["missed_share"].max, missed_share(size, n_structures)
    if allowed is not None and missed > allowed:
        raise BadParams(
            f"--sample {size}: a sample of this size may miss {100 * missed:.0f} % wrong labels, and the bound "
            f"missed_share of label_audit allows {100 * allowed:.0f} %: choose a larger sample"
        )
    return [*overrides, ("--sample", {"labels": {"label_audit": {"structures": size}}})]


def ready_teacher(audit: Audit, stated: Mapping[str, Any]) -> "Teacher":
    """Return the teacher of the audit, with its libraries and weights loaded.

    Parameters
    ----------
    audit : Audit
    stated : mapping
        The teacher that the data set names; empty if it names none.

    Raises
    ------
    BadParams
        A library is not installed. The data set names another teacher, method or settings: its labels then differ
        from this teacher's, right or wrong. The teacher or method does not exist, or its weights are invalid. The
        teacher runs code that its parameters name, and such parameters must not come from a data set.
    """
    call = f"--audit {audit.teacher}"
    if audit.teacher == RUNS_CODE:
        raise BadParams(
            f"{call}: it imports and runs code that its parameters name, which a data set must not choose; declare "
            "label in params.yaml and run python -m hydrogate.pipeline.stages.check labels"
        )
    if "several" in stated:
        raise BadParams(f"{call}: the data set names several teachers: audit each one separately")
    if stated.get("name", audit.teacher) != audit.teacher:
        raise BadParams(f"{call}: {_ANOTHER.format('teacher', stated['name'])}; use --audit {stated['name']}")
    try:
        from hydrogate.models.teachers import make_teacher

        teacher = make_teacher(audit.teacher, audit.method or stated.get("method"), audit.weights, _asked_for(stated))
        identity = teacher.identity()
        teacher.label([])
    except ModuleNotFoundError as absent:
        extra = "orb" if audit.teacher == "orb" else "pipeline"
        raise BadParams(f"{call} needs {absent.name}: pip install 'hydrogate[{extra}]'") from absent
    except (ValueError, FileNotFoundError) as fault:
        raise BadParams(f"{call}: {fault}".replace("label.weights", "--weights")) from fault
    for key in ("method", "settings"):
        if stated.get(key, identity[key]) != identity[key]:
            raise BadParams(f"{call}: {_ANOTHER.format(key, stated[key])}, but this teacher has {identity[key]}")
    return teacher


def _asked_for(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the data set names, without the hash of the weights, which is not a setting."""
    settings = stated.get("settings")
    return {k: v for k, v in settings.items() if k != "weights_sha256"} if isinstance(settings, Mapping) else {}


def asked_again(teacher: "Teacher", quiet: bool = False) -> Potential:
    """Return ``teacher`` as a potential that caches its answers; NaN (eV, eV/Å) where it fails.

    It shows its progress and the reasons of failures on stderr, unless ``quiet``.
    """
    from hydrogate.models.teachers import Failure

    known: dict[bytes, tuple[float, NDArray[np.float64]]] = {}
    name = teacher.identity()["name"]

    def ask(structures: Sequence[Atoms]) -> list[tuple[float, NDArray[np.float64]]]:
        keys = [_seen(atoms) for atoms in structures]
        new = {key: atoms for key, atoms in zip(keys, structures, strict=True) if key not in known}
        failures = []
        if new:
            bar = (
                nullcontext(lambda _: None)
                if quiet
                else progress_bar(f"audit by {name}", total=len(new), unit="structures")
            )
            with bar as advance:
                for key, atoms in new.items():
                    (answer,) = teacher.label([atoms])
                    if isinstance(answer, Failure):
                        failures.append(f"{atoms.symbols.get_chemical_formula()}: {answer.reason}")
                        known[key] = (float("nan"), np.full((len(atoms), 3), np.nan))
                    else:
                        known[key] = answer[:2]
                    advance(1)
        for failure in failures[: 0 if quiet else _FAILURES_SHOWN]:
            print(f"audit by {name}: no label for {failure}", file=sys.stderr)
        return [known[key] for key in keys]

    return ask


def _seen(atoms: Atoms) -> bytes:
    """Return the input of a teacher for ``atoms``, as bytes: the key of the cache."""
    arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    return b"".join(array.tobytes() for array in arrays) + f"{atoms.info['charge']} {atoms.info['spin']}".encode()
