import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.examples import DatasetExamples, TensorExamples
from regraft.learning.batches import Epoch, in_memory
from regraft.learning.eager_step import EagerStep
from regraft.learning.learner import Learner
from regraft.learning.optimizers import make_optimizer
from regraft.learning.solvers import Steps
from regraft.learning.traced_step import trace_step
from regraft.training import train
from small_models import (
    TwoParts,
    features_of,
    frozen_model,
    head_of,
    objective_of,
    same_weights,
    three_classes,
    weights_of,
)


def eager_of(head, optimizer="sgd", loss="cross_entropy", **options):
    learner = Learner(head)
    lr = 0.05 if isinstance(optimizer, str) else None
    moved_by = make_optimizer(optimizer, learner.parameters, lr=lr, weight_decay=None)
    return EagerStep(learner, objective_of(loss), moved_by, **options)


def quick_of(head, optimizer="sgd", *, examples=None, batch_size=16, epochs=20, loss="cross_entropy", **options):
    eager = eager_of(head, optimizer, loss, **options)
    examples = examples or TensorExamples(*three_classes(56))
    head_model = eager.learner.model
    head_model.train()
    epoch = Epoch(examples, list(torch.arange(len(examples)).split(batch_size)))
    return trace_step(eager, epoch, epochs, owns_update=isinstance(optimizer, str))


def run(step, examples, batches, *, seed=0):
    """Losses of three epochs of steps, drawn from a seed."""
    torch.manual_seed(seed)
    return [float(step(*examples.gather(indices))) for _ in range(3) for indices in batches]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("options", [{}, {"clip_value": 1e-2}, {"clip_norm": 0.1}, {"precision": "bfloat16"}], ids=str)
def test_the_quick_step_trains_as_the_eager_one_to_the_last_bit(optimizer, options):
    """Two batch sizes, dropout, BatchNorm's moving statistics, each optimizer and limit."""
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
    head = head_of(one)
    examples = in_memory(features_of(head, inputs, labels, batch_size=16), torch.device("cpu"))
    quick, eager = quick_of(head, examples=examples), eager_of(head_of(other))
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
    """Counts its calls for all its objects, and computes by the count."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x) / self.calls


class Hidden(TwoParts):
    """Counts its calls deeper than anybody looks, and computes by the count."""

    def __init__(self):
        super().__init__()
        self.calls = [[[[0]]]]

    def forward(self, x):
        self.calls[0][0][0][0] += 1
        return super().forward(x) / self.calls[0][0][0][0]


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
    [
        (Temperature, "changes more than tensors"),
        (Hidden, "not do the same each time"),
        (Coin, "changes more than tensors"),
        (Peeks, "looks at values"),
        (Unused, "does not use all trainable parameters"),
    ],
)
def test_a_step_that_python_decides_stays_eager(model, told):
    quick = quick_of(model())
    assert not quick.flat
    assert quick.note.startswith("eager step: ")
    assert told in quick.note


class Sometimes(TwoParts):
    """Doubles its answer in the 30th call, and at random by a generator of its own."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def forward(self, x):
        self.calls += 1
        is_other = self.calls == 30 or self.generator.random() < 0.02
        return super().forward(x) * (2 if is_other else 1)


def test_a_step_that_rarely_differs_is_found_by_what_it_keeps():
    """No step of the proof tells; the tried steps are not counted."""
    model = Sometimes()
    quick = quick_of(model)
    assert quick.note == "eager step: it changes more than tensors (attribute generator)"
    assert model.calls == 0
    assert model.generator.random() == np.random.default_rng(0).random()


class Sum(nn.Module):
    """Two parameters with one and the same gradient."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        return F.linear(x, self.one + self.other)


def test_a_gradient_that_two_parameters_share_is_limited_once():
    examples, batches = TensorExamples(*three_classes(64)), list(torch.arange(64).split(16))
    one, other = Sum(), Sum()
    quick, eager = quick_of(one, examples=examples, clip_norm=0.1), eager_of(other, clip_norm=0.1)
    assert quick.flat
    assert run(quick, examples, batches) == run(eager, examples, batches)
    assert same_weights(weights_of(one), weights_of(other))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.output = nn.Linear(4, 3)

    def forward(self, x):
        return self.output(self.layer(torch.stack([x, x.flip(1)], 1)).mean(1))


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.GRU(2, 4, batch_first=True)
        self.output = nn.Linear(4, 3)

    def forward(self, x):
        return self.output(self.cells(x.view(len(x), 2, 2))[0][:, -1])


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.utils.parametrizations.weight_norm(nn.Linear(4, 8)), nn.GroupNorm(2, 8), nn.PReLU(),
                         nn.Dropout(0.3), nn.Linear(8, 3))  # fmt: skip


def groups(parameters):
    """Weight decay on matrices only, as fine-tuning recipes have it."""
    wide = [parameter for parameter in parameters if parameter.ndim > 1]
    narrow = [parameter for parameter in parameters if parameter.ndim < 2]
    return torch.optim.AdamW([{"params": wide}, {"params": narrow, "weight_decay": 0.0, "lr": 0.01}], amsgrad=True)


class Lookback(torch.optim.Optimizer):
    """Keeps the last gradient itself, not a copy."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            last = self.state[parameter].get("last", torch.zeros_like(parameter))
            parameter -= 0.05 * parameter.grad + 0.05 * (parameter.grad - last)
            self.state[parameter]["last"] = parameter.grad


@pytest.mark.parametrize("head", [Attention, Gates, Normed])
@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16", "clip_norm": 0.1}], ids=["plain", "reduced"])
@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw", groups, Lookback, lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True), torch.optim.Adagrad, torch.optim.NAdam,
    ],
    ids=["adamw", "groups", "lookback", "nesterov", "rmsprop", "adagrad", "nadam"],
)  # fmt: skip
def test_other_heads_and_optimizers_are_quick_and_equal_too(head, optimizer, options):
    examples, batches = TensorExamples(*three_classes(56)), list(torch.arange(56).split(16))
    torch.manual_seed(0)
    one = head()
    other = copy.deepcopy(one)
    quick, eager = quick_of(one, optimizer, examples=examples, **options), eager_of(other, optimizer, **options)
    other.train()
    assert len(quick.flat) == 2, quick.note
    assert run(quick, examples, batches) == run(eager, examples, batches)
    assert same_weights(weights_of(one), weights_of(other))


@pytest.mark.parametrize(
    ("optimizer", "options", "told"),
    [
        ("adamw", {"precision": "float16"}, "float16 scales the loss by what the gradients were"),
        (torch.optim.LBFGS, {}, "the optimizer evaluates the loss several times a step"),
    ],
)
def test_steps_that_follow_from_the_last_one_stay_eager(optimizer, options, told):
    assert quick_of(TwoParts(), optimizer, **options).note == f"eager step: {told}"


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


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_an_optimizer_that_has_made_steps_goes_on_where_it_stood(optimizer):
    """Its moments are part of the start to which the proof goes back."""
    examples = TensorExamples(*three_classes(56))
    batches = list(torch.arange(56).split(16))[:3]
    steps = [eager_of(TwoParts(), optimizer) for _ in range(2)]
    for step in steps:
        step.learner.model.train()
        run(step, examples, batches)

    quick = trace_step(steps[0], Epoch(examples, batches), 20, owns_update=True)

    assert quick.flat
    assert run(quick, examples, batches, seed=1) == run(steps[1], examples, batches, seed=1)
    assert same_weights(*(weights_of(step.learner.model) for step in steps))


class Warm(nn.Module):
    """A temperature that is set from outside, as a number, in a table, or in a tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.number, self.table, self.tensors = nn.Linear(4, 3), 1.0, {"t": 1.0}, [torch.ones(1)]

    def forward(self, x):
        return self.layer(x) / (self.number * self.table["t"] * (2 * self.tensors[0]))


FACTOR = {"loss": 1.0}


def weighed(outputs, labels):
    return F.cross_entropy(outputs, labels) * FACTOR["loss"]


BETWEEN_EPOCHS = {
    "attribute number": lambda model, epoch: setattr(model, "number", 1.0 + epoch),
    "attribute table": lambda model, epoch: model.table.update(t=1.0 + epoch),
    "a tensor": lambda model, epoch: model.tensors[0].mul_(2.0),
    "global variable FACTOR": lambda model, epoch: FACTOR.update(loss=1.0 + epoch),
}


@pytest.mark.parametrize("told", BETWEEN_EPOCHS)
def test_what_the_user_changes_between_epochs_reaches_the_step(told, monkeypatch):
    """The flat list has taken it for constant: the eager step goes on, and the history says so."""
    order = list(torch.arange(90).split(15))
    histories = []
    for traced in (True, False):
        monkeypatch.setitem(FACTOR, "loss", 1.0)
        model = Warm()

        def changed(epoch, model=model):
            if epoch:
                BETWEEN_EPOCHS[told](model, epoch)
            return order

        steps = Steps(epochs=6, order=changed, traced=traced)
        histories.append(train(model, three_classes(), loss=weighed, solver=steps))
    assert histories[0].train_loss == histories[1].train_loss
    assert histories[0].notes[2].startswith("traced step: ")
    assert histories[0].notes[3].startswith(f"eager step from epoch 1 on: {told} was changed")


SEEN = 0


def counting(outputs, labels):
    global SEEN
    SEEN += 1
    return F.cross_entropy(outputs, labels) * (1.0 if SEEN < 20 else 0.5)


def test_a_loss_that_counts_in_a_global_variable_runs_eagerly(monkeypatch):
    """And counts each step once, whatever was tried before."""
    losses = []
    for traced in (True, False):
        monkeypatch.setitem(globals(), "SEEN", 0)
        history = train(TwoParts(), three_classes(), loss=counting, solver=Steps(epochs=8, traced=traced))
        losses.append((history.train_loss, SEEN))
    assert losses[0] == losses[1]
