"""Fixtures for the training of a small student."""

from pathlib import Path

import pytest

from hydrogate.pipeline.params import Train


@pytest.fixture(scope="session")
def params() -> Train:
    return Train.model_validate(
        {
            "student": "painn",
            "size": {name: {"features": 16, "layers": 2, "radial": 8, "cutoff": 4.0} for name in ("painn", "so3lr")},
            "loss": {
                "force": "norm",
                "energy_weight": 0.5,
                "force_weight": 1.0,
                "angular_weight": 0.1,
                "angular_mean": "atoms",
                "dipole_weight": None,
            },
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "warmup": 0.1,
            "weight_decay": 1e-2,
            "ema": 0.99,
            "clip_norm": 10.0,
            "compile": "never",
            "processes": 1,
            "seed": 0,
        }
    )


@pytest.fixture(scope="session")
def so3lr(params: Train) -> Train:
    return params.model_copy(update={"student": "so3lr", "epochs": 2})


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {
        "student": tmp_path / "student.safetensors",
        "history": tmp_path / "history",
        "root": tmp_path / ".progress",
    }
