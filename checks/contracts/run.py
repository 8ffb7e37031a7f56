"""Run a contract: evaluate every declared check, and again with pandera (and Great Expectations)."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from ase import Atoms

import hydrogate.checks.rules  # noqa: F401  registers every check
from hydrogate.checks.contracts.suggest_profile import profiles_that_hold
from hydrogate.checks.data.dataset import Dataset, symbol_of
from hydrogate.checks.data.from_atoms import from_atoms
from hydrogate.checks.data.input_counts import InputCounts
from hydrogate.checks.engine.bounds import Bounds, Override, is_enforced, resolve_bounds
from hydrogate.checks.engine.judge import findings_of, run_rounds, started
from hydrogate.checks.engine.partition import Parts, Whole
from hydrogate.checks.engine.registry import RULES, Quantities, Rule, Subject, ask
from hydrogate.checks.engine.row_counts import Tally
from hydrogate.checks.engine.waiver import Waiver, read_waivers
from hydrogate.checks.engine.waiving import finding_of_waivers, waive
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Finding, Report, Verdict
from hydrogate.checks.geometry.symmetry import Potential
from hydrogate.checks.rules.structures import element_counts


def check(
    data: Dataset | Sequence[Atoms] | Parts,
    contract: str = "structures",
    *,
    keys: Mapping[str, str] | None = None,
    units: str | None = None,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    counts: InputCounts | None = None,
    held_out: Dataset | None = None,
    teacher: Mapping[str, Any] | None = None,
    potential: Potential | None = None,
    relabel: Potential | None = None,
    compared_with: Dataset | None = None,
    student: Mapping[str, Any] | None = None,
    great_expectations: bool = False,
) -> Report:
    """Check ``data`` against ``contract``.

    Parameters
    ----------
    data : Dataset, sequence of ase.Atoms, or Parts
        Atoms are read like ASE files: labels come from the results of their calculators, info or arrays; see
        :func:`hydrogate.checks.from_atoms`. No calculation is started.
    contract : str
        input, structures, labels or predictions.
    keys : mapping of str to str, optional
        Keys of labels, charge, spin or SMILES in the Atoms, such as ``{"energy": "dft_e", "forces": "-gradient"}``.
    units : str, optional
        Units of the values in the Atoms, such as "kcal/mol,angstrom"; default "eV,angstrom".
    profile : str, optional
        Shipped profile of bounds. Default: the one named in the overrides, otherwise druglike.
    overrides : sequence of (source, mapping)
        ``contracts`` sections of the caller's files; later ones take precedence.
    counts, held_out, teacher, potential, relabel, compared_with, student
        Inputs of single checks; see :class:`hydrogate.checks.engine.registry.Subject`. A check without its input is
        not_run.
    great_expectations : bool
        Evaluate the data-set quantities with Great Expectations too (extra ``gx``; the import takes seconds).

    Raises
    ------
    BadParams
        A contract, profile, check or key is unknown, a bound is not a number, or labels have unexpected keys.
    UnreadableData
        Some Atoms are labelled and others are not, or a value is invalid.
    """
    if (keys or units) and isinstance(data, Dataset | Parts):
        raise BadParams("keys= and units= apply to ase.Atoms only; a Dataset is in eV, Å and eV/Å")
    if not isinstance(data, Parts):
        data = Parts.of(data if isinstance(data, Dataset) else from_atoms(data, keys=keys, units=units))
    chosen, declared = resolve_bounds(contract, profile=profile, overrides=overrides)
    rules = _rules_of(contract, declared)
    waivers = [waiver for waiver in read_waivers(overrides) if waiver.contract == contract]
    fingerprint = counts.fingerprint() if counts else data.fingerprint()
    valid = _valid(waivers, fingerprint)
    subject = Subject(data, counts, held_out, teacher, potential, relabel, compared_with, student)
    answers = run_rounds({"": _summary(data.whole), **started(rules, declared, subject)}, declared, data, valid)
    if isinstance(summary := answers[""], Exception):
        raise summary
    judged = findings_of(rules, declared, answers)
    findings = {name: finding for name, (finding, _) in judged.items()}
    measured = {name: measurement for name, (_, measurement) in judged.items() if measurement is not None}
    tallies = {name: m.holds for name, m in measured.items() if isinstance(m, Tally) and m.n}
    _compare_engines(findings, tallies, declared, "pandera")
    if great_expectations:
        from hydrogate.checks.contracts.great_expectations import gx_verdicts

        quantities = {name: m for name, m in measured.items() if isinstance(m, Quantities) and not m.undecided}
        _compare_engines(findings, gx_verdicts(quantities, declared), declared, "Great Expectations")
    used: list[Waiver] = []
    for name in valid.keys() & measured.keys():
        findings[name], of_this = waive(
            RULES[contract, name], declared[name], findings[name], measured[name], valid[name]
        )
        used += of_this
    if waivers and (said := finding_of_waivers(contract, waivers, used, fingerprint, date.today())):
        findings[said.check] = said
    return Report(
        contract=contract,
        profile=chosen,
        fingerprint=fingerprint,
        findings=tuple(findings.values()),
        switched_off=tuple(name for name, bounds in declared.items() if not bounds.enabled),
        summary=summary,
        holds_under=profiles_that_hold(contract, chosen, declared, overrides, subject, findings),
        not_judged=_labels_of(data.whole) if contract == "structures" else (),
        enforced=is_enforced(contract, overrides),
    )


def _valid(waivers: Sequence[Waiver], fingerprint: str) -> dict[str, list[Waiver]]:
    """Return by check the waivers that have not expired and, if they give a fingerprint, match this data set."""
    valid: dict[str, list[Waiver]] = {}
    for waiver in waivers:
        if waiver.expires >= date.today() and waiver.fingerprint in (None, fingerprint):
            valid.setdefault(waiver.check, []).append(waiver)
    return valid


def _rules_of(contract: str, declared: Mapping[str, Bounds]) -> list[Rule]:
    known = {check for of, check in RULES if of == contract}
    if known != set(declared):
        raise AssertionError(f"contract {contract}: bounds and rules differ in {sorted(known ^ set(declared))}")
    return [RULES[contract, check] for check, bounds in declared.items() if bounds.enabled]


def _compare_engines(
    findings: dict[str, Finding], verdicts: Mapping[str, bool], declared: Mapping[str, Bounds], engine: str
) -> None:
    """Compare the verdicts of two engines on the same bounds; if they differ, the check gets the verdict ``error``."""
    for name, theirs in verdicts.items():
        finding = findings[name]
        only_warned = finding.verdict is Verdict.FAIL and finding.severity is not declared[name].severity
        ours = finding.verdict is Verdict.PASS or only_warned
        if ours != theirs:
            text = (
                f"inconsistent result: own verdict {finding.verdict}, {engine} verdict {'pass' if theirs else 'fail'}."
            )
            findings[name] = replace(finding, verdict=Verdict.ERROR, severity=declared[name].severity, message=text)


def _labels_of(whole: Whole) -> tuple[str, ...]:
    there = {"energies": whole.has_energy, "forces": whole.has_forces}
    return tuple(name for name, is_there in there.items() if is_there)


def _summary(whole: Whole) -> Generator[Any, Any, dict[str, Any]]:
    """Return size and composition of the data, computed in the same pass as the checks."""
    counts, atoms = {1: 0, **(yield from ask(element_counts))}, max(whole.atoms, 1)
    species = {symbol_of(z): round(100.0 * counts[z] / atoms, 2) for z in sorted(counts)}
    return {"structures": whole.structures, "atoms": whole.atoms, "species_percent": species}
