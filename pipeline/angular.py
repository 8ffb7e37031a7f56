"""``nox -s angular``: what the angular term is worth, by DVC experiments of the present commit.

Every form of the loss with every seed, one process each and no compiler, so that all have the same steps and nearly
the same CPU time. An experiment that is there already is not run again; the workspace stays as it is, because each runs
in a folder of DVC's own (``--temp``). Writes ``reports/angular.json`` and prints its table.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydrogate.checks.declared import BadParams
from hydrogate.pipeline.hdf5 import written_whole
from hydrogate.pipeline.stage import stage_exit_status

REPORT = Path("reports/angular.json")
# Of metrics/validation.json, with the heading of its column; then the CPU time, of metrics/training.json.
COLUMNS = {
    "force_rmse": "force RMSE, eV/Å",
    "angular_error_mean_deg": "mean angle, °",
    "force_rmse_H": "H",
    "force_rmse_C": "C",
    "force_rmse_N": "N",
    "force_rmse_O": "O",
    "cpu_seconds": "CPU seconds",
}


class Setting(NamedTuple):
    """A form of the loss: ``train.loss.force``, ``angular_weight`` and ``angular_mean``."""

    force: str
    weight: int
    mean: str

    def experiment(self, commit: str, epochs: int, seed: int) -> str:
        """The name of the DVC experiment; with the commit, so that it is the only one of its name."""
        return f"angular-{commit[:10]}-{self.force}-{self.weight}-{self.mean}-{epochs}-epochs-seed-{seed}"

    def parameters(self, epochs: int, seed: int) -> list[str]:
        """What differs from ``params.yaml``, as ``dvc exp run -S`` takes it."""
        loss = (f"force={self.force}", f"angular_weight={self.weight}", f"angular_mean={self.mean}")
        equal = ("compile=never", "processes=1")
        changes = [*(f"loss.{part}" for part in loss), f"epochs={epochs}", f"seed={seed}", *equal]
        return [word for change in changes for word in ("-S", f"train.{change}")]

    def __str__(self) -> str:
        angular = f" + {self.weight} angular" if self.weight else ""
        return f"{self.force}{angular}{', by force' if self.mean == 'forces' else ''}"


SETTINGS = (
    Setting("mse", 0, "atoms"),
    Setting("mse", 10, "atoms"),
    Setting("norm", 0, "atoms"),
    Setting("norm", 10, "atoms"),
    Setting("norm", 10, "forces"),
)


def study(epochs: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Run what is missing, and collect all of it.

    Parameters
    ----------
    epochs : int
        Of each training.
    seeds : sequence of int
        Each setting is trained once with each.

    Returns
    -------
    dict
        ``commit``, ``epochs``, ``seeds`` and ``settings``: for each the name and a list by seed of every column.

    Raises
    ------
    BadParams
        A tracked file is changed: an experiment is known by its commit.
    RuntimeError
        An experiment failed.
    """
    import dvc.api

    changed = _said("git", "status", "--porcelain", "--untracked-files=no")
    if changed:
        raise BadParams(f"an experiment is known by its commit, but files are changed; commit them first:\n{changed}")
    commit = _said("git", "rev-parse", "HEAD").strip()
    there = set(_said(sys.executable, "-m", "dvc", "exp", "list", "--names-only").split())
    collected: dict[Setting, dict[str, list[float]]] = {s: {name: [] for name in COLUMNS} for s in SETTINGS}
    # A seed after the other: a study that is cut short compares what it has.
    for seed in seeds:
        for setting in SETTINGS:
            name = setting.experiment(commit, epochs, seed)
            if name not in there:
                command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name]
                _run([*command, *setting.parameters(epochs, seed), "validate"])
            measured = dvc.api.metrics_show("metrics/validation.json", rev=name)
            measured["cpu_seconds"] = {"value": dvc.api.metrics_show("metrics/training.json", rev=name)["cpu_seconds"]}
            for column, values in collected[setting].items():
                values.append(measured[column]["value"])
    settings = [{"name": str(setting), **columns} for setting, columns in collected.items()]
    return {"commit": commit, "epochs": epochs, "seeds": list(seeds), "settings": settings}


def table(report: dict[str, Any]) -> str:
    """``report`` in Markdown: the mean over seeds, and the smallest and largest."""
    rows = [["loss", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
    rows += [[entry["name"], *(_cell(entry[name]) for name in COLUMNS)] for entry in report["settings"]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    digits = 3 if max(values) < 1 else 2 if max(values) < 100 else 0
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _run(command: Sequence[str]) -> None:
    status = subprocess.run(command, check=False).returncode
    if status:
        raise RuntimeError(f"`{' '.join(command)}` ended with status {status}; what was measured before is kept")


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; 0 when done, 2 where files are changed or an experiment failed."""
    parser = argparse.ArgumentParser(prog="nox -s angular --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(argv)
    report = study(options.epochs, options.seeds)
    with written_whole(REPORT) as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{table(report)}\n\n{REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
