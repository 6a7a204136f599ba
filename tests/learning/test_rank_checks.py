"""What several processes cannot train is refused before it is trained. Refusals of two processes: test_ranks.py."""

import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.examples import TensorExamples
from regraft.learning.learner import Learner
from regraft.learning.rank_checks import refuse_whole_batches
from regraft.learning.ranks import Ranks
from small_models import TwoParts, frozen_model, objective_of, three_classes

TWO = Ranks(0, 2)  # nothing is sent: these checks need no other process


def check(model, loss=None):
    refuse_whole_batches(TWO, Learner(model), objective_of(loss), TensorExamples(*three_classes()))


def squared_mean(outputs, labels):
    """A loss of the user."""
    return outputs.square().mean()


def test_a_frozen_norm_is_no_obstacle_and_a_trainable_one_is_named():
    """The trunk's layer is frozen, the head's is not."""
    with pytest.raises(TrainError, match=r"1 BatchNorm layer would train .* its statistics: head\.1\.") as caught:
        check(frozen_model())
    assert "trunk" not in str(caught.value)


@pytest.mark.parametrize(
    "loss", ["cross_entropy", nn.CrossEntropyLoss(reduction="sum"), lambda x, y: x.square().mean()]
)
def test_means_and_sums_of_examples_pass_and_leave_the_model_as_it_was(loss):
    """With dropout, too: then layers are tried in evaluation mode."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    before, generator = [p.clone() for p in model.parameters()], torch.get_rng_state()
    check(model, loss)
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(generator, torch.get_rng_state())
    assert not model.training


def test_a_loss_of_the_user_that_is_a_sum_is_refused():
    """It would be weighted as a mean."""
    with pytest.raises(TrainError, match="they need a loss that is a mean over examples"):
        check(nn.Linear(4, 3), lambda x, y: x.square().sum())


def test_the_models_without_norms_pass():
    model = TwoParts()
    model.trunk[1] = model.head[1] = nn.LayerNorm(8)
    check(model)
