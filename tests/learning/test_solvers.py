import numpy as np
import pytest
import torch

import regraft
from regraft.errors import TrainError
from regraft.learning.solvers import Exact, Steps, as_list, as_solvers, needs_of_validation


def test_equal_arguments_make_equal_solvers_and_the_text_is_the_call():
    """Lists and arrays of rates are the same values as tuples."""
    assert Steps(lr=[0.1, 0.2], epochs=3) == Steps(lr=np.array([0.1, 0.2]), epochs=3) != Steps(lr=0.1)
    assert repr(Steps(lr=0.1, epochs=3, traced=False)) == "Steps(lr=0.1, epochs=3, traced=False)"
    assert repr(Exact(weight_decay=[0.1, 1.0])) == "Exact(weight_decay=(0.1, 1.0))"
    assert repr(Steps()) == "Steps()"
    assert (regraft.Steps, regraft.Exact) == (Steps, Exact)


def test_a_solver_does_not_change():
    with pytest.raises(AttributeError):
        Steps().lr = 0.1


def test_all_problems_of_a_solver_are_told_at_once():
    with pytest.raises(TrainError) as told:
        Steps(
            optimizer="adamv", lr=[-1, "fast"], weight_decay=-0.1, epochs=0, batch_size=2.5, patience=0, clip_value=0,
            clip_norm=float("nan"), precision="float64", schedule={1: "head"},
        )  # fmt: skip
    for line in (
        "Steps cannot be used: epochs is 0, expected a whole number of 1 or more; ",
        "batch_size is 2.5, expected a whole number",
        "patience is 0, ",
        "lr is -1, expected a number above 0; lr is 'fast', ",
        "clip_value is 0, expected a number above 0",
        "clip_norm is nan, ",
        "weight_decay is -0.1, expected a number of 0 or more",
        "there is no precision 'float64'. Did you mean 'float16'",
        "there is no optimizer 'adamv'. Did you mean 'adam', 'adamw'",
        "the schedule has no entry for epoch 0",
    ):
        assert line in str(told.value)


def test_an_optimizer_has_its_own_rate():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(TrainError, match="lr and weight_decay belong to an optimizer's name"):
        Steps(optimizer=optimizer, lr=0.1)
    with pytest.raises(TrainError, match="lr and weight_decay belong to an optimizer's name"):
        Steps(optimizer=torch.optim.SGD, weight_decay=0.0)


def test_no_rate_at_all_is_refused():
    with pytest.raises(TrainError, match="Exact cannot be used: weight_decay is empty, expected one number or several"):
        Exact(weight_decay=[])


def test_patience_and_several_rates_need_validation():
    solvers = [Steps(), Steps(lr=[0.1]), Steps(lr=[0.1, 1], patience=2), Exact(), Exact(weight_decay=[0.1, 1])]
    assert [len(needs_of_validation(solver)) for solver in solvers] == [0, 0, 2, 0, 1]


def test_one_rate_or_several_are_a_list():
    assert as_list(None) == [None]
    assert as_list(Exact(weight_decay=[1, 2]).weight_decay) == [1, 2]


def test_without_a_solver_the_exact_one_is_preferred():
    assert as_solvers(None) == [Exact(), Steps()]
    assert as_solvers(Steps(epochs=3)) == [Steps(epochs=3)]


@pytest.mark.parametrize("solver", [3, [], "newton", [Steps(), 3], Steps])
def test_what_is_no_solver_is_refused(solver):
    with pytest.raises(TrainError, match=r"expected regraft.Steps\(…\) for gradient steps or regraft.Exact\(…\)"):
        as_solvers(solver)


def test_a_schedule_has_no_alternative():
    with pytest.raises(TrainError, match=r"A schedule needs gradient steps: pass solver=Steps\(schedule=…\) alone"):
        as_solvers([Exact(), Steps(schedule={0: "head"})])


def test_averaging_has_one_name():
    """`ema` is its name in earlier versions."""
    with pytest.warns(DeprecationWarning, match=r"Pass averaging=0.9\."):
        assert Steps(ema=0.9) == Steps(averaging=0.9)
    assert Steps(averaging="swa", epochs=8).averaged == (None, 6)
    assert Steps(averaging="swa", averaging_start=3, epochs=8).averaged == (None, 3)
    assert Steps(averaging=0.9).averaged == (0.9, 0)
    with pytest.raises(TrainError, match=r"averaging is 2, expected a number between 0 and 1, the decay of an EMA, or"):
        Steps(averaging=2)


def test_functions_and_optimizers_are_shown_by_name():
    """On one line."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1)
    assert str(Steps(optimizer=optimizer)) == "Steps(optimizer=SGD(…))"
    assert str(Steps(optimizer=torch.optim.SGD)) == "Steps(optimizer=SGD)"
