import random
from collections import deque
from functools import partial

import numpy as np
import pytest
from torch import nn

from regraft.learning.python_state import PythonState


class Kept(nn.Module):
    """A layer with all sorts of attributes."""

    def __init__(self):
        super().__init__()
        self.count, self.seen, self.last = 0, [1, {"a": 2}], deque([3], maxlen=2)
        self.generator, self.old_generator = np.random.default_rng(0), random.Random(0)
        self.meter = type("Meter", (), {})()
        self.meter.total = 0
        self.layer = nn.Linear(2, 2)


def mean(outputs, labels):
    return outputs.mean()


CHANGES = {
    "attribute count": lambda model: setattr(model, "count", 1),
    "attribute seen": lambda model: model.seen[1].update(a=3),
    "attribute last": lambda model: model.last.append(4),
    "attribute generator": lambda model: model.generator.random(),
    "attribute old_generator": lambda model: model.old_generator.random(),
    "attribute new": lambda model: setattr(model.layer, "new", 1),
}


@pytest.mark.parametrize("told", CHANGES)
def test_a_change_is_named_and_taken_back(told):
    model = Kept()
    state = PythonState(model, mean)
    assert state.change() == ""
    CHANGES[told](model)
    assert state.change().startswith(told)
    state.restore()
    assert state.change() == ""
    assert (model.count, model.seen, model.last.maxlen, list(model.last)) == (0, [1, {"a": 2}], 2, [3])


def test_an_attribute_that_is_gone_comes_back():
    model = Kept()
    state = PythonState(model, mean)
    del model.count
    assert state.change() == "attribute count"
    state.restore()
    assert model.count == 0


def test_what_another_object_counts_is_seen():
    """It stays as it is: an object of another class is not copied."""
    model = Kept()
    state = PythonState(model, mean)
    model.meter.total += 1
    assert state.change() == "attribute meter"


def test_a_loss_that_counts_is_seen():
    """In a variable of the function around it, or as an object."""
    count = 0

    def counting(outputs, labels):
        nonlocal count
        count += 1

    state = PythonState(Kept(), counting)
    counting(None, None)
    assert state.change() == "a variable of the function around the loss or a layer"

    loss = nn.Module()
    loss.steps = 0
    state = PythonState(Kept(), loss)
    loss.steps += 1
    assert state.change() == "attribute steps"


def test_tensors_and_modes_are_not_its_business():
    """The learner remembers them; a layer's list of its own parameters stays the same list."""
    model = nn.LSTM(2, 2)
    state, listed = PythonState(model, mean), model._flat_weights
    model.weight_hh_l0.data.add_(1)
    model.eval()
    assert state.change() == ""
    state.restore()
    assert model._flat_weights is listed


COUNT, SETTINGS = 0, {"weight": 1.0}


class Config:
    """Settings as attributes of a class, which nobody makes an object of."""

    temperature = 1.0


def weight():
    return SETTINGS["weight"]


def uses_globals(outputs, labels):
    return outputs.mean() * weight() * COUNT / Config.temperature


GLOBAL_CHANGES = {
    "global variable COUNT": lambda patch: patch.setitem(globals(), "COUNT", 1),
    "global variable SETTINGS": lambda patch: patch.setitem(SETTINGS, "weight", 2.0),
    "global variable Config": lambda patch: patch.setattr(Config, "temperature", 2.0),
}


@pytest.mark.parametrize("told", GLOBAL_CHANGES)
@pytest.mark.parametrize("loss", [uses_globals, partial(uses_globals, labels=None)], ids=["function", "partial"])
def test_a_global_that_the_loss_uses_is_seen(told, loss, monkeypatch):
    """Also in a function that it calls."""
    state = PythonState(Kept(), loss)
    assert state.change() == ""
    GLOBAL_CHANGES[told](monkeypatch)
    assert state.change() == told


def test_a_global_that_is_counted_is_taken_back(monkeypatch):
    state = PythonState(Kept(), uses_globals)
    monkeypatch.setitem(globals(), "COUNT", 5)
    state.restore()
    assert (COUNT, state.change()) == (0, "")


def test_a_global_that_a_layer_uses_is_seen(monkeypatch):
    class Layer(nn.Module):
        def forward(self, x):
            return x * SETTINGS["weight"]

    state = PythonState(nn.Sequential(Layer()), mean)
    monkeypatch.setitem(SETTINGS, "weight", 3.0)
    assert state.change() == "global variable SETTINGS"
