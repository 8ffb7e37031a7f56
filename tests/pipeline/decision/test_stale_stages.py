"""DVC's own account of what has changed, as the decision takes it, of a small project."""

import shutil
from pathlib import Path

import pytest
import yaml

from hydrogate.pipeline.decision import staleness

# DVC calls pygtrie in a way that pygtrie deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

SHIPPED = Path(__file__).parents[3] / "params.yaml"
PIPELINE = {
    "stages": {
        "make": {
            "cmd": "mkdir -p data metrics && cp source.txt data/made.h5 && cp source.txt metrics/structures.json",
            "deps": ["source.txt"],
            "params": ["train.seed"],
            "outs": ["data/made.h5"],
            "metrics": [{"metrics/structures.json": {"cache": False}}],
        },
        "guard": {
            "cmd": "cp data/made.h5 data/structures.ok",
            "deps": ["data/made.h5", "metrics/structures.json"],
            "outs": [{"data/structures.ok": {"cache": False}}],
        },
    }
}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A DVC project of two stages that has just been reproduced."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("dvc") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        set_dvc(patch, root.parent)
        patch.chdir(root)
        (root / "source.txt").write_text("{}\n")
        shutil.copy(SHIPPED, root / "params.yaml")
        (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
        with Repo.init(str(root), no_scm=True) as repo:
            repo.reproduce()
    return root


def set_dvc(patch, folder):
    """No analytics, and nothing of DVC outside ``folder``."""
    patch.setenv("DVC_NO_ANALYTICS", "1")
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder / "global"))


@pytest.fixture
def repository(reproduced, tmp_path, monkeypatch):
    """A copy of it, to be spoilt."""
    set_dvc(monkeypatch, tmp_path)
    root = shutil.copytree(reproduced, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def test_a_reproduced_project_is_not_stale(repository):
    assert staleness.stale_stages(repository) == []


def test_absent_data_are_not_stale(repository):
    shutil.rmtree(repository / "data")
    assert staleness.stale_stages(repository) == []
    shutil.rmtree(repository / ".dvc/cache")  # a fresh clone
    assert staleness.stale_stages(repository) == []


def _edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "source.txt").write_text('{"a": 1}\n'), "stage make: source.txt modified"),
        (lambda root: (root / "source.txt").unlink(), "stage make: source.txt deleted"),
        (lambda root: (root / "data/made.h5").write_text("other"), "data/made.h5 modified"),
        (lambda root: (root / "metrics/structures.json").write_text("{}"), "metrics/structures.json modified"),
        (lambda root: (root / "metrics/structures.json").unlink(), "metrics/structures.json deleted"),
        (lambda root: (root / "dvc.lock").unlink(), "stage guard: "),
        (lambda root: _edit(root / "dvc.yaml", "mkdir -p", "mkdir  -p"), "stage make: changed command"),
        (lambda root: _edit(root / "params.yaml", "seed: 0\n\nvalidate", "seed: 1\n\nvalidate"), "train.seed modified"),
        (lambda root: (root / "dvc.yaml").write_text("stages: ["), "DVC cannot tell what has changed"),
        (lambda root: (root / "dvc.yaml").unlink(), "DVC cannot tell what has changed: it finds no stage"),
        (lambda root: shutil.rmtree(root / ".dvc"), "DVC cannot tell what has changed"),
    ],
)
def test_what_has_changed_is_stale(repository, spoil, says):
    spoil(repository)
    assert says in "; ".join(f"stage {stage}: {changes}" for stage, changes in staleness.stale_stages(repository))


def test_a_gates_bound_makes_nothing_stale(repository):
    _edit(repository / "params.yaml", "threshold: 0.25 ", "threshold: 0.24 ")
    assert staleness.stale_stages(repository) == []


def test_a_stage_that_has_never_run_is_stale(repository):
    content = yaml.safe_load((repository / "dvc.yaml").read_text())
    content["stages"]["later"] = {"cmd": "touch data/later", "outs": ["data/later"], "deps": ["source.txt"]}
    (repository / "dvc.yaml").write_text(yaml.safe_dump(content))
    (stale,) = staleness.stale_stages(repository)
    assert stale.stage == "later"
    assert "source.txt modified" in stale.changes
