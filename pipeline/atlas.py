"""``nox -s atlas``: which data accidents cost how much, and who would have seen them.

In:  ``data/labelled.h5`` and ``params.yaml``.
Out: ``reports/studies/atlas.json``, what was found so far; with ``publish`` the page: ``docs/atlas.{json,svg,md}``.

Each accident at each strength is done to a sample of the data: every validator looks at it (``detection``), and a
student is trained on it and asked about molecules that the sample does not hold (``damage``). An accident that strikes
before the labels are made is followed by the teacher, who labels what it changed. All is kept as it comes, in the
report and in ``.studies/atlas/``: a study that was interrupted goes on where it was, and what has not changed is not
computed again.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hydrogate.checks.dataset import Dataset
from hydrogate.checks.declared import BadParams, did_you_mean
from hydrogate.checks.trajectory import MdProtocol
from hydrogate.pipeline import atlas_page
from hydrogate.pipeline.artifacts import write_json
from hydrogate.pipeline.atlas_cases import STRENGTHS, WORK, Budget, Case, Cases, unlabelled
from hydrogate.pipeline.compute import connected, over_workers
from hydrogate.pipeline.hdf5 import read_dataset
from hydrogate.pipeline.params import Compute, Params, load_params
from hydrogate.pipeline.stage import progress_bar, stage_exit_status
from hydrogate.pipeline.validators import Validator, load_validator, validator_names

REPORT = Path("reports/studies/atlas.json")
QUICK = Path("reports/studies/atlas-quick.json")
# A cost below this is asked of a second seed too: on the clean sample another seed changes an error by 6 %.
DOUBTFUL = 0.12
STRONGER = {"5 %": "20 %", "1 %": "5 %"}  # what has to be costly before the weaker one is learned from
CLEAN = "clean"
EXAMPLES = 3
MOST_WORKERS = 64
WHAT = ("detection", "damage", "publish")
SMALL = Budget(molecules=40, held_out=20, epochs=1, md_molecules=2, md_ps=0.02, clean_sets=2)  # of `quick`


class Atlas:
    """The sample of one study, and what was found of it."""

    def __init__(self, params: Params, data: Dataset, budget: Budget, report: Path) -> None:
        self.params, self.budget, self.path = params, budget, report
        self.cases = Cases(params, data, budget)
        self.sample, self.test = self.cases.sample, self.cases.test
        head = {
            "sample": self.sample.fingerprint(),
            "test": self.test.fingerprint(),
            "budget": asdict(budget),
            "student": {"name": params.train.student, **params.train.size},
            "train": params.train.model_dump(mode="json", exclude={"student", "sizes", "epochs", "seed", "compile"}),
        }
        kept = json.loads(report.read_text("utf-8")) if report.exists() else {}
        self.report: dict[str, Any] = kept if kept.get("head") == head else {"head": head}
        self.report["structures"] = {"sample": len(self.sample), "test": len(self.test), "rest": len(self.cases.rest)}
        for part in ("validators", "accidents", "detection", "false_alarms", "cases", "runs"):
            self.report.setdefault(part, {})

    def detection(self, names: Sequence[str], strengths: Sequence[str], validators: Sequence[str]) -> None:
        """What each validator says of each case and of clean sets, where the code or the data have changed since.

        What strikes before the labels it sees twice, before the teacher and after, as a pipeline's guards do.
        """
        code = _code()
        known = {name: load_validator(name) for name in validators}
        for name, validator in known.items():
            self.report["validators"][name] = {"says": validator.says, "source": validator.source}
            done = self.report["false_alarms"].get(name, {})
            if done.get("code") != code:
                self.report["false_alarms"][name] = {"code": code, **self._false_alarms(validator)}
                self.save()
        clean = self._said(known, self.sample)
        clean_before = self._said(known, unlabelled(self.sample))
        with progress_bar("detection", total=len(names) * len(strengths), unit="cases") as advance:
            for case in self._cases(names, strengths):
                entry = self.report["detection"].setdefault(case.accident, {}).setdefault(case.strength, {})
                seen = [(case.data, clean), (case.before, clean_before)]
                content = " ".join(data.fingerprint() for data, _ in seen if data is not None) or case.unusable
                for name in known:
                    of = f"{code} {content}"
                    if entry.get(name, {}).get("of") == of:
                        continue
                    new = {
                        complaint
                        for data, said in seen
                        if data is not None
                        for complaint in set(known[name].complaints(data)) - said[name]
                    }
                    entry[name] = {"of": of, "complaints": len(new), "examples": sorted(new)[:EXAMPLES]}
                self.save()
                advance(1)

    def damage(self, names: Sequence[str], strengths: Sequence[str], seeds: Sequence[int], workers: int) -> None:
        """Train and ask what the report does not hold; weak strengths where the stronger one costs."""
        second, other = max(seeds) + 1, max(seeds) + 1000
        clean = {"content": _teaches(self.sample), "seeds": [*seeds, second], "other": other}
        self.report["cases"][CLEAN] = {"all": clean}
        self._train(((self.sample, seed) for seed in (*seeds, second, other)), workers)
        for strength in sorted(strengths, key=list(STRENGTHS).index):
            asked = self._costly(names, STRONGER[strength]) if STRONGER.get(strength) in strengths else names
            self._learn(asked, strength, seeds, workers)
            self._learn(self._costly(asked, strength, DOUBTFUL), strength, [second], workers)
        self.save()

    def _learn(self, names: Sequence[str], strength: str, seeds: Sequence[int], workers: int) -> None:
        cases = (case.data for case in self._cases(names, [strength]))
        self._train(((data, seed) for data in cases if data is not None for seed in seeds), workers)

    def _costly(self, names: Sequence[str], strength: str, most: float = math.inf) -> list[str]:
        """Those of ``names`` that are costly, as far as is known, and whose cost is at most ``most``."""
        accidents = atlas_page.table_of(self.report, WORK)["accidents"]
        damage = {name: accidents[name]["strengths"][strength]["damage"] for name in names}
        return [name for name in names if atlas_page.costly(damage[name], most)]

    def save(self) -> None:
        """Keep the report as it is."""
        write_json(self.path, self.report, indent=1)

    def _cases(self, names: Sequence[str], strengths: Sequence[str]) -> Iterator[Case]:
        accidents = self.cases.accidents()
        for strength in strengths:
            for name in names:
                case, accident = self.cases.case(accidents[name], strength), accidents[name]
                self.report["accidents"][name] = {
                    "says": accident.says,
                    "source": accident.source,
                    "labelled_again": accident.before_labelling,
                    "largest_share": accident.largest_share,
                }
                at = self.report["cases"].setdefault(name, {}).setdefault(strength, {})
                at |= {"structures": case.structures, "unusable": case.unusable}
                if case.data is not None:
                    at |= {"content": _teaches(case.data), "left": len(case.data)}
                yield case

    def _train(self, todo: Iterable[tuple[Dataset, int]], workers: int) -> None:
        """Each of ``todo``, data and a seed, whose result is not there, over processes."""
        from hydrogate.pipeline.atlas_damage import Task, run

        done = set(self.report["runs"])

        def tasks() -> Iterator[list[Task]]:
            for data, seed in todo:
                if (key := f"{_teaches(data)}-{seed}") in done:
                    continue
                done.add(key)
                steps = max(1, int((self.sample.split == "train").sum()))
                epochs = round(self.budget.epochs * steps / max(1, int((data.split == "train").sum())))
                train = self.params.train.model_copy(
                    update={"epochs": max(1, epochs), "seed": seed, "processes": 1, "compile": "never"}
                )
                yield [Task(key, data, self.test, train, self._dynamics(), self.params.validate_.angular_floor, WORK)]

        waiting = tasks()
        if (first := next(waiting, None)) is None:
            return
        with connected(Compute(), workers, tasks=workers or MOST_WORKERS) as client:
            for results in over_workers(client, run, chain([first], waiting)):
                for _, answers in results:
                    for answer in answers:
                        self.report["runs"][answer.pop("key")] = answer
                        self.save()

    @staticmethod
    def _said(known: Mapping[str, Validator], data: Dataset) -> dict[str, set[str]]:
        return {name: set(validator.complaints(data)) for name, validator in known.items()}

    def _dynamics(self) -> MdProtocol:
        ps = self.budget.md_ps
        changes = {"count": self.budget.md_molecules, "warm_up_ps": ps / 2, "nve_ps": ps, "relax_steps": 50}
        return self.params.dynamics.model_copy(update=changes)

    def _false_alarms(self, validator: Validator) -> dict[str, Any]:
        """What it says of clean sets: parts of the data that are in no sample."""
        molecules, said = np.unique(self.cases.rest.source_index), []
        for some in np.array_split(molecules, min(self.budget.clean_sets, len(molecules))):
            part = self.cases.rest.subset(np.flatnonzero(np.isin(self.cases.rest.source_index, some)))
            said.append(validator.complaints(part))
        examples = sorted({complaint for complaints in said for complaint in complaints})[:EXAMPLES]
        return {"sets": len(said), "alarmed": sum(map(bool, said)), "examples": examples}


def _teaches(data: Dataset) -> str:
    """A key of what a student learns from: not of names and SMILES."""
    digest = hashlib.sha256("\n".join(data.split.tolist()).encode())
    what = ("numbers", "positions", "offset", "charge", "spin_multiplicity", "parent", "energy", "forces")
    for values in (getattr(data, name) for name in what):
        digest.update(b"" if values is None else values.tobytes())
    return digest.hexdigest()[:16]


@cache
def _code() -> str:
    """A key of the checks and the validators: what a detection depends on beside the data."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    folders = (root / "checks", root / "pipeline" / "validators")
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
        if "render" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _known(names: Sequence[str], known: Mapping[str, Any] | Sequence[str], what: str) -> list[str]:
    for name in names:
        if name not in known:
            raise BadParams(f"{what} {name!r} is unknown{did_you_mean(name, known)}")
    return list(names) or list(known)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study, or parts of it; 0 when done, 2 where the data or the parameters cannot be used."""
    parser = argparse.ArgumentParser(prog="nox -s atlas --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)}, quick; default: all")
    parser.add_argument("--accidents", nargs="+", default=[])
    parser.add_argument("--strengths", nargs="+", default=[], help=", ".join(STRENGTHS).replace("%", "%%"))
    parser.add_argument("--validators", nargs="+", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=0, help="processes that train; 0 is one a core")
    for name, default in asdict(Budget()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default))
    options = parser.parse_args(argv)
    quick = "quick" in options.what
    what = _known([word for word in options.what if word != "quick"], WHAT[:2] if quick else WHAT, "part")
    given = {name: value for name in asdict(Budget()) if (value := getattr(options, name)) is not None}
    budget = replace(SMALL if quick else Budget(), **given)
    atlas = Atlas(load_params(), read_dataset(Path("data/labelled.h5")), budget, QUICK if quick else REPORT)
    few = ("energies_shifted", "gradients_for_forces", "hydrogens_stripped") if quick else ()
    names = _known(options.accidents or few, atlas.cases.accidents(), "accident")
    strengths = _known(options.strengths or (("20 %", "100 %") if quick else ()), STRENGTHS, "strength")
    if "detection" in what:
        atlas.detection(names, strengths, _known(options.validators, validator_names(), "validator"))
    if "damage" in what:
        atlas.damage(names, strengths, options.seeds, options.workers)
    table = atlas_page.table_of(atlas.report, WORK)
    if "publish" in what:
        atlas_page.publish(table)
    print("\n".join(atlas_page.lines(table)))
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
