"""Learning rates that change."""

import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler

from regraft.errors import TrainError
from regraft.learning.rates import make_rates, needs_validation, schedule_form_problems


def rates_of(schedule, updates=10, *, every=None, warmup=0.0, **arguments):
    """The rate before each update."""
    optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = make_rates(schedule, optimizer, updates, arguments=arguments, every=every, warmup=warmup)
    seen = []
    for _ in range(updates):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rates.after_update()
    return seen


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0, [1.0, 0.9, 0.8]),
        ("constant", 2, [1 / 3, 2 / 3, 1.0]),
        ("cosine", 0.2, [1 / 3, 2 / 3, 1.0]),
    ],
)
def test_named_schedules(schedule, warmup, expected):
    assert rates_of(schedule, warmup=warmup)[:3] == pytest.approx(expected)


def test_one_cycle_has_its_peak_at_the_rate():
    seen = rates_of("one_cycle", 20)
    assert max(seen) == pytest.approx(1.0)
    assert seen[0] < 0.1 > seen[-1]


def test_a_scheduler_of_torch_steps_after_each_epoch():
    optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = make_rates("StepLR", optimizer, 4, arguments={"step_size": 1, "gamma": 0.5}, every=None, warmup=0)
    optimizer.step()
    rates.after_update()
    assert optimizer.param_groups[0]["lr"] == 1.0
    rates.after_epoch(None)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert rates_of("StepLR", 3, every="update", step_size=1, gamma=0.5) == [1, 0.5, 0.25]


def test_a_function_makes_any_scheduler():
    def halved(optimizer, updates):
        return lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / updates)

    assert rates_of(halved, 4) == [1, 0.75, 0.5, 0.25]


def test_a_plateau_follows_the_validation():
    optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = make_rates("plateau", optimizer, 4, arguments={"patience": 0}, every=None, warmup=0)
    for badness in (1.0, 2.0):
        optimizer.step()
        rates.after_update()
        rates.after_epoch(badness)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert needs_validation("plateau")
    assert not needs_validation("cosine")


def test_what_makes_no_sense_is_refused():
    assert "Did you mean 'cosine'" in schedule_form_problems("cosin", {}, None, 0)[0]
    assert len(schedule_form_problems(None, {"a": 1}, "step", 0.1)) == 3
    assert schedule_form_problems(3, {}, None, 0) == [
        "lr_schedule is 3, expected a name or a function of (optimizer, updates)"
    ]
    with pytest.raises(TrainError, match=r"scheduler StepLR cannot be made: .*step_size"):
        rates_of("StepLR")
    with pytest.raises(TrainError, match="lr_schedule gave a int, expected a scheduler of torch"):
        rates_of(lambda optimizer, updates: 3)
