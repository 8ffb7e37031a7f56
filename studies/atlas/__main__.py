"""``nox -s atlas``: measure what data corruptions cost and which validators find them.

In:  ``data/labelled.h5`` and ``params.yaml``.
Out: ``reports/studies/atlas.json``, the results so far; with ``publish`` the page: ``docs/atlas.{json,svg,md}``.

Each data corruption is applied to a sample of the data at each strength. Every validator checks the result
(``detection``); a student is trained on it and evaluated on molecules outside the sample (``damage``). If a corruption
happens before labelling, the teacher relabels the changed structures. Results are stored immediately, in the report and
in ``.studies/atlas/``: an interrupted study resumes, and unchanged cases are not computed again.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import read_dataset
from studies.atlas import page
from studies.atlas.cases import STRENGTHS, WORK, Budget
from studies.atlas.study import Atlas
from studies.atlas.table import table_of
from studies.validators import validator_names

REPORT = Path("reports/studies/atlas.json")
QUICK = Path("reports/studies/atlas-quick.json")
WHAT = ("detection", "damage", "publish")
SMALL = Budget(molecules=40, held_out=20, epochs=1, md_molecules=2, md_ps=0.02, clean_sets=2)  # for `quick`


def _known(names: Sequence[str], known: Mapping[str, Any] | Sequence[str], what: str) -> list[str]:
    for name in names:
        if name not in known:
            raise BadParams(f"{what} {name!r} is unknown{did_you_mean(name, known)}")
    return list(names) or list(known)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study or parts of it. Exit status: 0 finished, 2 invalid data or parameters."""
    parser = argparse.ArgumentParser(prog="nox -s atlas --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)}, quick; default: all")
    parser.add_argument("--accidents", nargs="+", default=[])
    parser.add_argument("--strengths", nargs="+", default=[], help=", ".join(STRENGTHS).replace("%", "%%"))
    parser.add_argument("--validators", nargs="+", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=0, help="training processes; 0: one per core")
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
    table = table_of(atlas.report, WORK)
    if "publish" in what:
        page.publish(table)
    print("\n".join(page.lines(table)))
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
