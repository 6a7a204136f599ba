import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.learning.candidate import Trial
from regraft.learning.eager_step import EagerStep
from regraft.learning.learner import Learner, draws
from regraft.learning.losses import cross_entropy
from regraft.learning.scoring import Score
from small_models import weights_of


def judged(loss):
    return Score(0.5, 0.1, 10, loss)


def ended(losses, *, patience=None, model=None):
    """A trial after epochs with these validation losses; the weight tells the epoch."""
    model = model or nn.Linear(1, 1)
    trial = Trial(Learner(model), patience)
    for number, loss in enumerate(losses):
        with torch.no_grad():
            model.weight.fill_(number + 1)
        trial.losses.append(1.0)
        trial.note_epoch(judged(loss))
    return trial


def test_patience_counts_from_the_best_epoch_and_keeps_its_weights():
    trial = ended([3.0, 1.0, 2.0], patience=2)
    assert trial.is_running()
    assert trial.kept_epoch == 1
    assert float(trial.kept["weight"]) == 2.0
    assert not ended([3.0, 1.0, 2.0, 1.0], patience=2).is_running()
    assert trial.rank() == 1.0


def test_without_patience_the_last_weights_are_kept_and_ranked():
    trial = ended([1.0, 2.0])
    assert trial.rank() == 2.0
    assert trial.best_epoch == 0
    assert float(trial.kept["weight"]) == 2.0


def test_a_trials_weights_and_draws_are_in_the_model_only_meanwhile():
    model = nn.Linear(1, 1)
    trial = Trial(Learner(model), None)
    trial.values, trial.draws = {"weight": torch.full((1, 1), 7.0)}, draws(torch.device("cpu"))
    torch.manual_seed(8)
    before = weights_of(model)
    with trial.in_model():
        assert model.weight.item() == 7.0
        first = torch.rand(1)
    assert torch.equal(model.weight, before["weight"])
    torch.manual_seed(8)
    with trial.in_model():
        second = torch.rand(1)
    assert not torch.equal(first, second)


def test_a_failure_is_an_error_alone_and_a_sentence_among_several():
    trial = ended([1.0])
    with trial.failing(alone=False):
        raise TrainError("The loss is nan at step 3; the weights are those of the last epoch.")
    assert trial.failed == trial.stopped_because() == "The loss is nan at step 3."
    assert not trial.is_running()
    with pytest.raises(TrainError, match="at step 4"), trial.failing(alone=True):
        raise TrainError("The loss is nan at step 4")


def test_a_trial_goes_on_with_what_trains_in_addition():
    """The values at which the further tensors began are kept to go back to; the optimiser stays."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[0].requires_grad_(False)
    trial = Trial(Learner(model), None, eager=EagerStep(Learner(model), cross_entropy, optimizer))
    trial.begin(Learner(model))
    assert set(trial.kept) == {"1.weight", "1.bias"}

    model[0].requires_grad_(True)
    before = weights_of(model)
    with torch.no_grad():
        model[1].weight += 1
    learner = Learner(model)
    trial.begin(learner)

    assert all(torch.equal(trial.kept[name], tensor) for name, tensor in before.items())
    assert trial.step is trial.eager
    assert (trial.eager.learner, trial.eager.optimizer) == (learner, optimizer)
