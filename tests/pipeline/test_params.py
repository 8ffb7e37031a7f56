"""Misspelt names in params.yaml are rejected before any stage starts; the message names the nearest known one."""

from pathlib import Path

import pytest

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.params import load_params

SHIPPED = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "misspelt", "said"),
    [
        ("teacher: xtb", "teacher: xbt", "label.teacher: unknown teacher 'xbt'; did you mean 'xtb'?"),
        ("student: painn", "student: pain", "train.student: unknown student 'pain'; did you mean 'painn'?"),
        ("    so3lr: {", "    so3l: {", "train.size: unknown student 'so3l'; did you mean 'so3lr'?"),
        ("metric: force_rmse\n", "metric: force_rsme\n", "unknown metric; did you mean 'force_rmse'?"),
        ("  epochs: 12", "  epoch: 12", "unknown key train.epoch; did you mean 'epochs'?"),
        ("features: 64", "features: .inf", "train.size.painn.features.float: Input should be a finite number, got inf"),
        ("label:\n", "lable:\n", "unknown key lable; did you mean 'label'?"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(written: str, misspelt: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    assert written in SHIPPED
    path.write_text(SHIPPED.replace(written, misspelt, 1), encoding="utf-8")
    with pytest.raises(BadParams) as refused:
        load_params(path)
    assert said in str(refused.value)
    assert "Value error" not in str(refused.value)


def test_where_there_is_no_params_yaml(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match=r"no such file; run the command in the project root"):
        load_params(tmp_path / "params.yaml")
