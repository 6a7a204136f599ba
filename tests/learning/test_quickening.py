import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.examples import DatasetExamples, TensorExamples
from regraft.learning.learners import Learner
from regraft.learning.losses import as_loss
from regraft.learning.optimizers import make_optimizer
from regraft.learning.quickening import quicken
from regraft.learning.sources import Epoch
from regraft.learning.stepping import EagerStep
from small_models import PartHead, TwoParts, features_of, frozen_model, same_weights, three_classes, weights_of


def eager_of(head, optimizer="sgd", loss="cross_entropy", **options):
    learner = Learner(head)
    lr = 0.05 if isinstance(optimizer, str) else None
    moved_by = make_optimizer(optimizer, learner.parameters, lr=lr, weight_decay=None)
    return EagerStep(learner, as_loss(loss), moved_by, **options)


def quick_of(head, optimizer="sgd", *, examples=None, batch_size=16, epochs=20, loss="cross_entropy", **options):
    eager = eager_of(head, optimizer, loss, **options)
    examples = examples or TensorExamples(*three_classes(56))
    head_model = eager.learner.model
    head_model.train()
    epoch = Epoch(examples, list(torch.arange(len(examples)).split(batch_size)))
    return quicken(eager, epoch, epochs, owns_update=isinstance(optimizer, str))


def run(step, examples, batches, *, seed=0):
    """Losses of three epochs of steps, drawn from a seed."""
    torch.manual_seed(seed)
    return [float(step(*examples.gather(indices))) for _ in range(3) for indices in batches]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("options", [{}, {"clip_value": 1e-2}, {"clip_norm": 0.1}, {"precision": "bfloat16"}], ids=str)
def test_the_quick_step_trains_as_the_eager_one_to_the_last_bit(optimizer, options):
    """Two batch sizes, dropout, BatchNorm's moving statistics, each optimiser and limit."""
    examples = TensorExamples(*three_classes(56))
    quick_model, eager_model = TwoParts(), TwoParts()
    batches = list(torch.randperm(56).split(16))
    quick = quick_of(quick_model, optimizer, examples=examples, **options)
    eager = eager_of(eager_model, optimizer, **options)
    eager_model.train()

    assert run(quick, examples, batches) == run(eager, examples, batches)
    assert same_weights(weights_of(quick_model), weights_of(eager_model))
    assert len(quick.flat) == 2
    assert quick.note.startswith("traced step: ")


def test_a_head_on_features_is_quick_too():
    inputs, labels = three_classes(64)
    one, other = frozen_model(), frozen_model()
    examples = features_of(one, inputs, labels, batch_size=16)
    quick, eager = quick_of(PartHead(one), examples=examples), eager_of(PartHead(other))
    other.train()
    batches = list(torch.arange(64).split(16))
    assert run(quick, examples, batches) == run(eager, examples, batches)
    assert same_weights(weights_of(one), weights_of(other))


def test_a_given_optimizer_takes_its_own_steps():
    """Its hooks are called, its rates may change; the proof takes no step of it."""
    taken = []

    def make(parameters):
        made = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
        made.register_step_post_hook(lambda *_: (taken.append(1), made.param_groups[0].update(lr=0.05 / len(taken))))
        return made

    examples, batches = TensorExamples(*three_classes(64)), list(torch.arange(64).split(16))
    one, other = TwoParts(), TwoParts()
    quick = quick_of(one, make, examples=examples)
    assert not taken
    quick_losses = run(quick, examples, batches)
    assert quick.flat
    assert len(taken) == 12
    taken.clear()
    eager = eager_of(other, make)
    other.train()
    assert run(eager, examples, batches) == quick_losses
    assert same_weights(weights_of(one), weights_of(other))


def test_the_proof_leaves_everything_as_it_was():
    model = TwoParts()
    before = weights_of(model)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick = quick_of(model, "adam")
    assert torch.equal(torch.rand(3), expected)
    assert same_weights(before, weights_of(model))
    assert all(not tensor.any() for state in quick.eager.optimizer.state.values() for tensor in state.values())


class Temperature(TwoParts):
    """Counts its calls in Python and computes by the count."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) / self.calls


class Coin(TwoParts):
    """Draws from Python's generator."""

    def forward(self, x):
        return super().forward(x) * (1 + 0 * random.random())


class Peeks(TwoParts):
    """Looks at values on its way."""

    def forward(self, x):
        return super().forward(x) * (2.0 if x.sum().item() > 0 else 1.0)


class Unused(TwoParts):
    """Has a parameter that the forward does not use."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("model", "told"),
    [(Temperature, "not do the same each time"), (Coin, "not do the same each time"), (Peeks, "looks at values"),
     (Unused, "does not use all trainable parameters")],
)  # fmt: skip
def test_a_step_that_python_decides_stays_eager(model, told):
    quick = quick_of(model())
    assert not quick.flat
    assert quick.note.startswith("eager step: ")
    assert told in quick.note


def test_a_model_with_hooks_stays_eager_and_the_layer_is_named():
    model = TwoParts()
    model.head[0].register_forward_hook(lambda *_: None)
    assert quick_of(model).note == "eager step: the layer head.0 has hooks, which would not be called"
    model = TwoParts()
    model.head[0].weight.register_hook(lambda gradient: gradient)
    assert quick_of(model).note == "eager step: the parameter head.0.weight has hooks, which would not be called"


def test_few_steps_and_large_ones_stay_eager():
    assert quick_of(TwoParts(), epochs=1).note == "eager step: fewer than 20 steps of one size"
    wide = nn.Sequential(nn.Linear(4, 1 << 18), nn.Linear(1 << 18, 3))
    assert quick_of(wide).note == "eager step: its values take 40 MiB: arithmetic costs, not overhead"


def test_examples_fetched_one_by_one_stay_eager():
    inputs, labels = three_classes(56)
    examples = DatasetExamples(torch.utils.data.TensorDataset(inputs, labels))
    assert "fetched one by one" in quick_of(TwoParts(), examples=examples).note


def test_another_shape_is_run_eagerly():
    examples = TensorExamples(*three_classes(64))
    one, other = TwoParts(), TwoParts()
    quick, eager = quick_of(one, examples=examples), eager_of(other)
    other.train()
    sizes = [torch.arange(16), torch.arange(5), torch.arange(16, 32)]
    assert run(quick, examples, sizes) == run(eager, examples, sizes)


def test_a_loss_function_is_part_of_the_list():
    def loss(outputs, labels):
        return F.cross_entropy(outputs, labels, label_smoothing=0.1, weight=torch.tensor([1.0, 2.0, 3.0]))

    examples, batches = TensorExamples(*three_classes(64)), list(torch.arange(64).split(16))
    one, other = TwoParts(), TwoParts()
    quick, eager = quick_of(one, examples=examples, loss=loss), eager_of(other, loss=loss)
    other.train()
    assert run(quick, examples, batches) == run(eager, examples, batches)
    assert quick.flat
