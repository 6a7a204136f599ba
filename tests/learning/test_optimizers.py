import pytest
import torch
from torch import nn, optim

from regraft.errors import TrainError
from regraft.learning.optimizers import make_optimizer


@pytest.fixture
def parameters():
    return list(nn.Linear(2, 2).parameters())


@pytest.mark.parametrize(("name", "kind", "lr"), [("sgd", optim.SGD, 0.01), ("adam", optim.Adam, 0.001)])
def test_a_name_gives_torchs_own_with_its_usual_learning_rate(parameters, name, kind, lr):
    made = make_optimizer(name, parameters, lr=None, weight_decay=None)
    assert type(made) is kind
    assert made.defaults["lr"] == lr
    assert made.defaults["weight_decay"] == 0


def test_learning_rate_and_weight_decay_reach_the_optimizer(parameters):
    made = make_optimizer("adamw", parameters, lr=0.5, weight_decay=0.25)
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.5, 0.25)


def test_an_optimizer_or_a_function_is_used_as_it_is(parameters):
    mine = optim.RMSprop(parameters)
    assert make_optimizer(mine, parameters, lr=None, weight_decay=None) is mine
    assert isinstance(make_optimizer(optim.Adagrad, parameters, lr=None, weight_decay=None), optim.Adagrad)


def test_an_optimizer_of_other_parameters_is_refused(parameters):
    other = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(TrainError, match=r"updates 1 trainable parameter\. The head has 2, and they are not the same"):
        make_optimizer(other, parameters, lr=None, weight_decay=None)


def test_editors_know_the_names():
    """A typo is an error of the type checker, not only of the run."""
    from typing import get_args

    from regraft.caches import precision
    from regraft.learning import eager_step, losses
    from regraft.learning.optimizers import OPTIMIZERS, OptimizerName
    from regraft.learning.rates import NAMES, Usual
    from regraft.tasks.kinds import TASKS, TaskName

    assert get_args(OptimizerName) == (*OPTIMIZERS,)
    assert get_args(eager_step.Precision) == (*eager_step.PRECISIONS,)
    assert get_args(precision.Precision) == precision.PRECISIONS
    assert get_args(losses.LossName) == (*losses.LOSSES,)
    assert get_args(TaskName) == (*TASKS,)
    assert get_args(Usual) == NAMES
