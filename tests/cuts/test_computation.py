"""What a trunk computes is told with everything that its forward reads beside its arguments."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.caches.keys import key_of, manifest_of
from regraft.caches.options import Options
from regraft.cuts.computation import plain_arguments
from regraft.freezing import freeze
from regraft.splitting import split

SCALE, POWER, SLOPE = 2.0, 2, 0.1


def scaled(x):
    """A function outside the model, with a number of its module's."""
    return x * SCALE


class Outside(nn.Module):
    """Two frozen layers among which a forward does what no layer tells."""

    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.table, self.act, self.layers = torch.ones(6), lambda x: x * factor, ["a", "b"]

    def forward(self, x):
        for name in self.layers:
            x = getattr(self, name)(x)
        x = self.act(scaled(x) * self.table) ** POWER
        return self.head(functional.leaky_relu(x, SLOPE))


def key(model, rows=3):
    """Of the model's features."""
    freeze(model, "a|b")
    trunk, _ = split(model, torch.randn(rows, 6))
    return key_of(manifest_of(trunk, Options(batch_size=4)))


def hooked(change):
    """A model whose first layer is called in another way."""
    model = Outside()
    change(model)
    return model


@pytest.mark.parametrize("name", ["SCALE", "POWER", "SLOPE"])
def test_a_number_outside_the_model_is_part_of_the_key(monkeypatch, name):
    """Read by a function, by the forward, given to a function of torch."""
    before = key(Outside())
    monkeypatch.setitem(globals(), name, globals()[name] + 1)
    assert key(Outside()) != before


@pytest.mark.parametrize(
    "other",
    [
        lambda: Outside(1.1),
        lambda: hooked(lambda model: setattr(model, "table", model.table * 1.00001)),
        lambda: hooked(lambda model: model.layers.reverse()),
        lambda: hooked(lambda model: model.a.register_forward_hook(lambda layer, args, output: output * 1.00001)),
        lambda: hooked(lambda model: model.a.register_forward_pre_hook(lambda layer, args: args[0] + 1e-7)),
        lambda: hooked(lambda model: setattr(model.a, "forward", lambda x: functional.linear(x, model.a.weight) + 0.5)),
    ],
    ids=["closure", "plain tensor", "order of layers", "hook", "hook before", "replaced forward"],
)  # fmt: skip
def test_what_a_forward_does_beside_its_layers_is_part_of_the_key(other):
    """With the same classes, weights and settings."""
    assert key(other()) != key(Outside())


def test_a_tensor_edited_after_the_split_is_seen():
    """It is looked at when the key is made."""
    model = Outside()
    freeze(model, "a|b")
    trunk, _ = split(model, torch.randn(3, 6))
    before = manifest_of(trunk, Options(batch_size=4))
    model.table[2] = 1.5
    assert manifest_of(trunk, Options(batch_size=4)) != before


def test_the_examples_size_and_the_head_are_not_part_of_the_key():
    """Nor is the process: there is no address in it."""
    before = key(Outside())
    assert key(Outside(), rows=5) == before
    assert key(hooked(lambda model: setattr(model, "head", nn.Linear(6, 5)))) == before


def test_whole_numbers_count_in_arithmetic_alone():
    """Elsewhere they may be sizes, which are the example's."""
    assert plain_arguments("mul", (torch.ones(2), 3), {}) == "3"
    assert plain_arguments("view", (torch.ones(2), 2, -1), {}) == ""
    assert plain_arguments("sum", (torch.ones(2),), {"keepdim": True, "dtype": torch.float64}) == "torch.float64 True"
