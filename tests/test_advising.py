"""Advice on depth."""

import copy

import pytest
import torch
from torch import nn

import regraft
from regraft.advising import advise, joined, with_shuffled_weights
from regraft.depths.rows import ALL, INPUT
from regraft.errors import DataError
from regraft.freezing import freeze


class Network(nn.Module):
    """The first layer gives what the labels need and the second destroys it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.good, self.bad, self.head = nn.Linear(8, 30), nn.Linear(30, 3), nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(30)
        nn.init.zeros_(self.bad.weight)

    def forward(self, x):
        return self.head(self.bad(self.norm(self.good(x).relu())).tanh())


def data(count=80):
    """Whether the first two numbers have the same sign: no linear model of the input can say."""
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def helpful():
    """A network whose first layer knows these signs."""
    model = Network()
    with torch.no_grad():
        model.good.weight[:4] = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]) @ torch.eye(2, 8) * 3
    return model


def test_the_layer_that_helps_is_chosen_and_the_model_stays_as_it_was():
    """Modes, gradients and frozen layers included."""
    model = helpful()
    freeze(model, "bad")
    model.train()
    model(data()[0]).sum().backward()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    gradient = model.good.weight.grad

    advice = advise(model, data())

    assert [row.name for row in advice.rows] == [INPUT, "norm", "bad", ALL]
    assert advice.choice in ("norm", ALL)
    scores = {row.name: row for row in advice.rows}
    assert scores["norm"].score > 0.8 > 0.65 > max(scores[INPUT].score, scores["bad"].score)
    assert scores["norm"].shuffled < scores["norm"].score
    assert scores[INPUT].shuffled is None
    assert scores[ALL].shuffled is None
    assert set(advice.seconds) == {"cuts", "features", "shuffled weights", "heads"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())
    assert modes == [module.training for module in model.modules()]
    assert model.good.weight.grad is gradient
    assert regraft.freezing.frozen_names(model) == ["bad"]


def test_the_advised_layers_become_a_head_on_layers():
    """Its accuracy on new examples is near what was advised."""
    model = helpful()
    advice = advise(model, data(), control=False)

    built = regraft.head_on_layers(model, data(), advice.outputs, layers=advice.layers)
    trunk, head = regraft.split(built, data()[0][:2])
    regraft.train(head, regraft.cache_features(trunk, data()))

    x, y = data(400)
    assert abs(regraft.evaluate(built, (x[80:], y[80:])).accuracy - advice.chosen.score) < 0.12


def test_random_labels_get_no_advice():
    """The best of several places is looked at, so significance would not do."""
    x, _ = data()
    answers = [
        advise(helpful(), (x, torch.randint(2, (80,), generator=torch.Generator().manual_seed(seed))), control=False)
        for seed in range(4)
    ]
    assert [answer.choice for answer in answers] == [None] * 4
    assert all(answer.layers == () and answer.sentences[0].startswith("No advice") for answer in answers)


def test_where_the_input_is_best_it_is_said():
    """A linear target."""
    x, _ = data()
    advice = advise(Network(), (x, (x @ torch.arange(8.0) > 0).long()), cuts="bad", control=False)
    assert advice.choice == INPUT
    assert "do not help" in advice.sentences[0]
    assert advice.layers == ()


def test_numbers_and_several_labels_are_advised_on_too():
    """By the labels' form."""
    x, y = data()
    numbers = advise(helpful(), (x, (x[:, 0] * x[:, 1]).abs().sqrt() * (2.0 * y - 1)), control=False)
    several = advise(helpful(), (x, torch.stack([y, (x[:, 0] > 0).long()], 1)), control=False)

    assert (numbers.score, several.score) == ("explained", "labels right")
    assert numbers.choice in ("norm", ALL)
    assert several.choice in ("norm", ALL)
    with pytest.raises(DataError, match="one class only"):
        advise(helpful(), (x, 0 * y))


def test_stored_means_are_used_again(tmp_path):
    """Another advice on the same examples computes nothing, and says the same."""
    batches = []
    for _ in range(2):
        model, calls = helpful(), []
        model.good.register_forward_pre_hook(lambda _, args, calls=calls: calls.append(len(args[0])))
        batches.append((advise(model, data(), store=tmp_path, control=False).rows, calls))

    assert batches[0][0] == batches[1][0]
    assert 16 in batches[0][1]  # the last batch of 80 examples by 64
    assert 16 not in batches[1][1]


def test_of_many_examples_each_class_has_its_share():
    """And it is noted."""
    x, y = data(300)
    y[:30], y[30:] = 1, 0
    advice = advise(helpful(), (x, y), control=False, examples=100)
    assert advice.count == 100
    assert advice.chance == pytest.approx(0.9)
    assert "100 examples of 300 were looked at" in advice.notes[0]


def test_shuffled_weights_keep_their_sizes_and_nothing_else():
    """Per row; biases stay."""
    model = Network()
    twin = with_shuffled_weights(model, 0)
    assert not torch.equal(twin.good.weight, model.good.weight)
    assert torch.equal(twin.good.weight.abs().sort(1).values, model.good.weight.abs().sort(1).values)
    assert torch.equal(twin.good.bias, model.good.bias)


def test_joined_columns_have_equal_energy():
    """However large a layer's numbers are."""
    a, b = torch.randn(50, 3).double(), 1000 + 100 * torch.randn(50, 7).double()
    both = joined([a, b])
    assert both[:, :3].square().sum() == pytest.approx(float(both[:, 3:].square().sum()))


def test_values_that_are_not_finite_are_noted():
    """A layer that overflows is still compared."""
    model = helpful()
    with torch.no_grad():
        model.bad.bias[0] = torch.inf

    advice = advise(nn.Sequential(model.good, nn.ReLU(), model.norm, model.bad, model.head), data(), control=False)

    assert "3: 80 values not finite, taken as 0" in advice.notes
    assert advice.choice in ("2", ALL)
