"""Training loop: non-finite steps, compilation, and the terms of the loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hydrogate.models.kernels import in_plain_torch
from hydrogate.models.objective import pairs_of
from hydrogate.models.student_file import load_student
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.stages.train import run, to_json
from hydrogate.pipeline.training import loop as training
from hydrogate.pipeline.training.state import TrainingFailed, element_weights


def test_a_step_that_is_not_finite_is_skipped(labelled, places, monkeypatch, params):
    plain, calls = training.Objective.forward, []

    def sometimes(self: training.Objective, some: object) -> torch.Tensor:
        calls.append(1)
        loss = plain(self, some)
        return loss * torch.nan if len(calls) == 2 else loss

    monkeypatch.setattr(training.Objective, "forward", sometimes)
    result = run(labelled, params, 0.5, **places)
    assert result.used["skipped_steps"] == 1
    assert result.used["returns_to_best"] == 0
    assert np.isfinite([epoch["valid_loss"] for epoch in result.history]).all()


def test_several_in_a_row_return_to_the_best_weights(labelled, places, monkeypatch, params):
    plain, calls = training.Objective.forward, []

    def for_a_while(self: training.Objective, some: object) -> torch.Tensor:
        calls.append(1)
        loss = plain(self, some)
        return loss * torch.nan if 12 < len(calls) <= 12 + training.BAD_STEPS else loss

    monkeypatch.setattr(training.Objective, "forward", for_a_while)
    result = run(labelled, params, 0.5, **places)
    assert result.used["returns_to_best"] == 1
    assert result.used["skipped_steps"] == training.BAD_STEPS
    assert result.history[-1]["valid_loss"] < result.history[0]["valid_loss"]


def test_a_training_that_stays_not_finite_fails(labelled, places, monkeypatch, params):
    plain = training.Objective.forward
    monkeypatch.setattr(training.Objective, "forward", lambda self, some: plain(self, some) * torch.nan)
    with pytest.raises(TrainingFailed, match=r"learning_rate \(0\.003\)"):
        run(labelled, params, 0.5, **places)
    assert not places["student"].exists()


def weighing(params: Train, dipole: float | None) -> Train:
    return params.model_copy(update={"loss": params.loss.model_copy(update={"dipole_weight": dipole})})


def test_charges_are_taught_by_the_dipole(labelled, places, so3lr):
    result = run(labelled, so3lr, 0.5, **places)
    assert result.history[-1]["dipole_mae"] < result.history[0]["dipole_mae"]
    assert "best_dipole_mae" in to_json(result, {})
    assert load_student(places["student"]).size.features == 16
    without = run(replace(labelled, dipole=None, charges=None), weighing(so3lr, 0.0), 0.5, **places)
    assert "dipole_mae" not in without.history[-1]
    assert without.history[-1]["train_loss"] != result.history[-1]["train_loss"]


def test_a_dipole_that_is_not_there_is_refused(labelled, places, params, so3lr):
    with pytest.raises(ValueError, match=r"dipole_weight is 0.5, but student 'painn' predicts no dipole"):
        run(labelled, weighing(params, 0.5), 0.5, **places)
    missing = labelled.dipole.copy()
    missing[np.flatnonzero(labelled.split == "valid")[0], 1] = np.nan
    for dipole, count in ((None, "63 of 63"), (missing, "1 of 21")):
        with pytest.raises(ValueError, match=f"but {count} structures have none"):
            run(replace(labelled, dipole=dipole), so3lr, 0.5, **places)


def test_the_curvature_is_learned_from_displacement_pairs(labelled, places, monkeypatch, params):
    own = np.arange(len(labelled))
    # Treat the last two geometries of each molecule as a pair; the loss term is exact for any distance.
    last = np.flatnonzero(np.append(labelled.parent[1:] != labelled.parent[:-1], True) & (labelled.parent != own))
    partner = own.copy()
    partner[last], partner[last - 1] = last - 1, last
    data = replace(labelled, partner=partner)
    params = params.model_copy(update={"loss": params.loss.model_copy(update={"hessian_weight": 0.1})})
    seen: list[int] = []
    monkeypatch.setattr(
        "hydrogate.models.objective.pairs_of",
        lambda some, found=pairs_of: (seen.append(sum(one.pair is not None for one in some)), found(some))[1],
    )
    result = run(data, params, 0.5, **places)
    assert result.history[-1]["force_rmse"] < result.history[0]["force_rmse"]
    in_training = np.isin(np.concatenate([last, last - 1]), np.flatnonzero(data.split == "train")).sum()
    # Both ends of each pair are in the same batch, once per epoch.
    assert all(count % 2 == 0 for count in seen)
    assert sum(seen) == params.epochs * in_training > 0


def test_the_curvature_without_pairs_is_refused(labelled, places, params):
    params = params.model_copy(update={"loss": params.loss.model_copy(update={"hessian_weight": 0.1})})
    alone = replace(labelled, partner=np.arange(len(labelled)))
    for data in (labelled, alone):
        with pytest.raises(ValueError, match=r"has no displacement pairs .* set regenerate\.sampling\.pairs"):
            run(data, params, 0.5, **places)


def test_a_compiler_that_does_not_work_leaves_plain_autograd(labelled, places, monkeypatch, capsys, params):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: _no_compiler)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    params = params.model_copy(update={"compile": "auto", "epochs": 1})
    with in_plain_torch():
        assert run(labelled, params, 0.5, **places).used["compiled"] is False
    assert "training by plain autograd" in capsys.readouterr().err
    with pytest.raises(TrainingFailed, match="set it to 'auto'"):
        run(labelled, params.model_copy(update={"compile": "always"}), 0.5, **places)


def test_a_painn_that_its_kernels_serve_is_not_compiled(labelled, places, monkeypatch, capsys, params):
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    params = params.model_copy(update={"compile": "auto", "epochs": 1})
    assert run(labelled, params, 0.5, **places).used["compiled"] is False
    assert "compiling" not in capsys.readouterr().err


def _no_compiler(*_: object) -> None:
    raise RuntimeError("No working C++ compiler found")


def test_an_unfaithful_compiled_step_is_found_out_and_its_epoch_done_again(
    labelled, places, monkeypatch, capsys, params
):
    """Compiled graph that is correct at first and 1 % off later, as once observed."""
    calls = []

    def compile_(function: object, **_: object) -> object:
        def call(*inputs: object) -> object:
            calls.append(1)
            energy, forces = _eager(function, *inputs)
            return energy, forces * (1.01 if len(calls) > 5 else 1.0)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    params = params.model_copy(update={"compile": "always", "epochs": 2})
    result = run(labelled, params, 0.5, **places)
    assert result.used["compiled"] is False
    assert "repeating epoch 1 by plain autograd" in capsys.readouterr().err
    plain = run(labelled, params.model_copy(update={"compile": "never"}), 0.5, **places)
    assert result.history[-1]["valid_loss"] == pytest.approx(plain.history[-1]["valid_loss"], rel=1e-4)


def _eager(function: object, *inputs: object) -> object:
    return function(*inputs)  # type: ignore[operator]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_elements_weigh_by_their_share(balance):
    numbers = np.array([1] * 6 + [6] * 3 + [8])
    found = element_weights(numbers, balance)
    if not balance:
        assert found == ()
        return
    assert np.mean([found[z] for z in numbers]) == pytest.approx(1.0)
    assert found[8] / found[1] == pytest.approx(6**balance)
    assert found[6] / found[1] == pytest.approx(2**balance)
    assert found[9] == found[8]  # an absent element is weighted like one atom


def test_the_balance_reaches_the_training(labelled, places, params):
    params = params.model_copy(update={"epochs": 1})
    plain = run(labelled, params, 0.5, **places).history
    loss = params.loss.model_copy(update={"element_balance": 1.0})
    other = run(labelled, params.model_copy(update={"loss": loss}), 0.5, **places).history
    assert plain[-1]["train_loss"] != other[-1]["train_loss"]
    assert plain[-1]["valid_loss"] != other[-1]["valid_loss"]
