import math

import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.learning.candidate import CandidateRun, CandidateSettings, OwnState, Progress, best_of
from regraft.learning.eager_step import EagerStep
from regraft.learning.learner import Learner
from regraft.learning.scoring import Score
from small_models import objective_of, weights_of


def score(loss):
    return Score(0.5, 0.1, 10, loss)


def progress(losses, *, patience=None):
    """After epochs with these validation losses."""
    return Progress(patience, [1.0] * len(losses), [score(loss) for loss in losses])


def run_of(model, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return CandidateRun(CandidateSettings(**settings), EagerStep(Learner(model), objective_of(), optimizer))


def test_patience_counts_from_the_best_epoch():
    waiting = progress([3.0, 1.0, 2.0], patience=2)
    assert waiting.is_running
    assert (waiting.best_epoch, waiting.kept_epoch, waiting.badness) == (1, 1, 1.0)
    stopped = progress([3.0, 1.0, 2.0, 1.0], patience=2)
    assert not stopped.is_running
    assert stopped.stopped_because == "no better validation loss for 2 epochs; back to epoch 1, counted from 0"


def test_without_patience_the_last_epoch_is_kept_and_compared():
    done = progress([1.0, 2.0])
    assert (done.best_epoch, done.kept_epoch, done.badness) == (0, 1, 2.0)
    assert done.stopped_because == "all 2 epochs were run"


def test_before_the_first_epoch_nothing_is_kept():
    start = progress([], patience=2)
    assert (start.best_epoch, start.kept_epoch, start.badness) == (None, None, math.inf)
    assert start.is_running


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_validation_losses_that_are_not_finite_do_not_throw_training_away(loss):
    """Patience cannot judge by them: all epochs run, the last weights stay, and the history says so."""
    blind = progress([loss] * 4, patience=2)
    assert blind.is_running
    assert blind.kept_epoch == 3
    assert blind.stopped_because.endswith("no validation loss was a finite number, so patience had no effect and the "
                                          "last weights stay")  # fmt: skip
    some = progress([loss, 2.0, loss], patience=3)
    assert some.best_epoch == some.kept_epoch == 1


def test_the_weights_of_the_kept_epoch_are_remembered():
    model = nn.Linear(1, 2)
    run = run_of(model, patience=2)
    run.begin(Learner(model))
    for number, loss in enumerate([3.0, 1.0, 2.0]):
        with torch.no_grad():
            model.weight.fill_(number + 1)
        run._losses, run._weights = [torch.tensor(1.0), torch.tensor(4.0)], [2, 1]
        run.finish_epoch(score(loss))
    assert float(run.kept["weight"][0]) == 2.0
    assert run.progress.losses == [2.0] * 3


def test_the_best_candidate_has_the_lowest_validation_loss_that_is_a_number():
    runs = [run_of(nn.Linear(1, 2)) for _ in range(3)]
    for run, loss in zip(runs, [math.nan, 2.0, 1.0], strict=True):
        run.progress = progress([loss])
    assert best_of(runs) is runs[2]


def test_own_weights_and_random_numbers_are_in_the_model_only_in_the_block():
    """Between the turns the global generators continue as if there had been no turn: the data set may draw."""
    model = nn.Linear(1, 1)
    own = OwnState()
    own.add({"weight": torch.full((1, 1), 7.0)})
    torch.manual_seed(8)
    before, outside = weights_of(model), torch.get_rng_state()
    with own.in_model(Learner(model)):
        assert model.weight.item() == 7.0
        first = torch.rand(1)
    assert torch.equal(model.weight, before["weight"])
    assert torch.equal(torch.get_rng_state(), outside)
    with own.in_model(Learner(model)):
        second = torch.rand(1)
    assert not torch.equal(first, second)


def test_a_failure_is_an_error_alone_and_a_sentence_among_several():
    run = run_of(nn.Linear(1, 2))
    with run.failing(alone=False):
        raise TrainError("The loss is nan at step 3; the weights are those of the last epoch.")
    assert run.progress.failure == run.progress.stopped_because == "The loss is nan at step 3."
    assert not run.progress.is_running
    with pytest.raises(TrainError, match="at step 4"), run.failing(alone=True):
        raise TrainError("The loss is nan at step 4")


def test_a_candidate_continues_with_what_trains_in_addition():
    """The values at which the further tensors began are kept to return to; the optimizer stays."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    run = run_of(model)
    optimizer = run.eager.optimizer
    model[0].requires_grad_(False)
    run.begin(Learner(model))
    assert set(run.kept) == {"1.weight", "1.bias"}

    model[0].requires_grad_(True)
    before = weights_of(model)
    with torch.no_grad():
        model[1].weight += 1
    learner = Learner(model)
    run.begin(learner)

    assert all(torch.equal(run.kept[name], tensor) for name, tensor in before.items())
    assert run.step is run.eager
    assert (run.learner, run.eager.optimizer) == (learner, optimizer)
