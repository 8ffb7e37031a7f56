"""A contract: every declared check measured, judged, and judged again by pandera (and Great Expectations)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from ase import Atoms

from hydrogate.checks import audit, bonding, duplicates, input, labels, predictions, reference, splits, structures
from hydrogate.checks.bounds import Bounds, Override, resolve_bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.declared import BadParams
from hydrogate.checks.findings import Finding, Report, Verdict
from hydrogate.checks.frames import from_atoms
from hydrogate.checks.input import InputCounts
from hydrogate.checks.judge import judge
from hydrogate.checks.profiles import profiles_that_hold
from hydrogate.checks.rules import RULES, Measurement, Quantities, Rows, Rule, Subject
from hydrogate.checks.schemas import atom_table, failing_atoms, failing_checks, structure_table
from hydrogate.checks.symmetry import Potential
from hydrogate.checks.waivers import Waiver, finding_of_waivers, read_waivers, waive

# Importing these modules declares their checks.
CONTRACT_MODULES = (input, structures, bonding, duplicates, splits, labels, predictions, reference, audit)


def check(
    data: Dataset | Sequence[Atoms],
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
    """Hold ``data`` against ``contract``.

    Parameters
    ----------
    data : Dataset or sequence of ase.Atoms
        Atoms are read as files of them are: labels from their calculators' results, info or arrays; see
        :func:`hydrogate.checks.from_atoms`. Nothing is calculated.
    contract : str
        input, structures, labels or predictions.
    keys : mapping of str to str, optional
        What the Atoms call their labels, charge, spin or SMILES, as in ``{"energy": "dft_e", "forces": "-gradient"}``.
    units : str, optional
        What the Atoms' numbers are in, such as "kcal/mol,angstrom"; default "eV,angstrom".
    profile : str, optional
        A shipped profile of bounds; default the one the overrides name, else druglike.
    overrides : sequence of (source, mapping)
        ``contracts`` sections of the caller's files, the last one strongest.
    counts, held_out, teacher, potential, relabel, compared_with, student
        What single checks need; see :class:`hydrogate.checks.rules.Subject`. A check without its input is not_run.
    great_expectations : bool
        Judge the data-set quantities with Great Expectations too (extra ``gx``; seconds to import).

    Raises
    ------
    BadParams
        A contract, profile, check or key is unknown, a bound is no number, or labels stand under other keys.
    UnreadableData
        Some Atoms are labelled and others are not, or a value is not what it should be.
    """
    if isinstance(data, Dataset) and (keys or units):
        raise BadParams("keys= and units= are for ase.Atoms; a Dataset is in eV, Å and eV/Å")
    dataset = data if isinstance(data, Dataset) else from_atoms(data, keys=keys, units=units)
    chosen, declared = resolve_bounds(contract, profile=profile, overrides=overrides)
    rules = _rules_of(contract, declared)
    waivers = [waiver for waiver in read_waivers(overrides) if waiver.contract == contract]
    subject = Subject(dataset, counts, held_out, teacher, potential, relabel, compared_with, student)
    judged = {rule.check: judge(rule, declared[rule.check], subject) for rule in rules}
    findings = {name: finding for name, (finding, _) in judged.items()}
    measured = {name: measurement for name, (_, measurement) in judged.items() if measurement is not None}
    fingerprint = counts.fingerprint() if counts else dataset.fingerprint()
    _compare_engines(findings, _pandera_verdicts(dataset, measured, declared), declared, "pandera")
    if great_expectations:
        from hydrogate.checks.distributions import gx_verdicts

        quantities = {name: m for name, m in measured.items() if isinstance(m, Quantities) and not m.undecided}
        _compare_engines(findings, gx_verdicts(quantities, declared), declared, "Great Expectations")
    _apply_waivers(findings, waivers, measured, declared, dataset, fingerprint)
    return Report(
        contract=contract,
        profile=chosen,
        fingerprint=fingerprint,
        findings=tuple(findings.values()),
        switched_off=tuple(name for name, bounds in declared.items() if not bounds.enabled),
        summary=_summary(dataset),
        holds_under=profiles_that_hold(contract, chosen, declared, overrides, subject, findings),
    )


def _apply_waivers(
    findings: dict[str, Finding],
    waivers: Sequence[Waiver],
    measured: Mapping[str, Measurement],
    declared: Mapping[str, Bounds],
    data: Dataset,
    fingerprint: str,
) -> None:
    """Take what is waived for a warning, after the engines have agreed on what was found."""
    today = date.today()
    used: list[Waiver] = []
    for name, finding in list(findings.items()):
        valid = [waiver for waiver in waivers if waiver.check == name and waiver.expires >= today]
        if valid and name in measured:
            rule = RULES[finding.contract, name]
            findings[name], of_this = waive(rule, declared[name], data, fingerprint, finding, measured[name], valid)
            used += of_this
    if waivers and (said := finding_of_waivers(waivers[0].contract, waivers, used, fingerprint, today)):
        findings[said.check] = said


def _rules_of(contract: str, declared: Mapping[str, Bounds]) -> list[Rule]:
    known = {check for of, check in RULES if of == contract}
    if known != set(declared):
        raise AssertionError(f"contract {contract}: bounds and rules differ in {sorted(known ^ set(declared))}")
    return [RULES[contract, check] for check, bounds in declared.items() if bounds.enabled]


def _pandera_verdicts(
    data: Dataset, measured: Mapping[str, Measurement], declared: Mapping[str, Bounds]
) -> dict[str, bool]:
    """Each check of rows judged again by pandera: name to whether it holds."""
    rows = {name: m for name, m in measured.items() if isinstance(m, Rows) and len(m.values)}
    limits = {name: declared[name].limits[""] for name in rows}
    failing = failing_checks(structure_table(rows, limits, len(data)), limits)
    verdicts = {name: name not in failing for name in rows}
    if verdicts.get("finite") and failing_atoms(atom_table(data)):
        verdicts["finite"] = False
    return verdicts


def _compare_engines(
    findings: dict[str, Finding], verdicts: Mapping[str, bool], declared: Mapping[str, Bounds], engine: str
) -> None:
    """Two engines on one declaration must agree: where they do not, the check itself is broken."""
    for name, theirs in verdicts.items():
        finding = findings[name]
        only_warned = finding.verdict is Verdict.FAIL and finding.severity is not declared[name].severity
        ours = finding.verdict is Verdict.PASS or only_warned
        if ours != theirs:
            text = (
                f"the check itself broke: own verdict {finding.verdict}, {engine} says {'pass' if theirs else 'fail'}."
            )
            findings[name] = replace(finding, verdict=Verdict.ERROR, severity=declared[name].severity, message=text)


def _summary(data: Dataset) -> dict[str, Any]:
    species = {symbol: round(share, 2) for symbol, share in data.species_percentages().items()}
    return {"structures": len(data), "atoms": len(data.numbers), "species_percent": species}
