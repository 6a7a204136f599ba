"""The arguments of another batch beside the example's."""

import numpy as np
import pytest
import torch
from torch import nn

from regraft.cuts.arguments import ReadError, Unread, by_name, pairs, unread
from regraft.cuts.record import Slot
from regraft.errors import SplitError


class Takes(nn.Module):
    """Some of each kind."""

    def forward(self, x, mask=None, *others, scale=1, **rest):
        return x


def test_arguments_go_by_their_names():
    """However they were passed, and with the defaults of those that were not."""
    model, x, mask = Takes(), torch.zeros(1), torch.ones(1)
    assert by_name(model, (x, mask), {}) == by_name(model, (), {"mask": mask, "x": x, "scale": 1})
    assert by_name(model, (), {"y": x}) == {"args": (), "kwargs": {"y": x}}  # lacks x: the model will say so


def test_tensors_are_paired_by_their_place():
    """Not by the order of a dictionary."""
    x, y = torch.zeros(1), torch.ones(2)
    recorded = {"a": Slot(0), "b": [Slot(1)], "flag": True}
    assert list(pairs(recorded, {"b": [y], "flag": True, "a": x})) == [(Slot(0), x), (Slot(1), y)]


@pytest.mark.parametrize(
    ("recorded", "given", "told"),
    [
        ({"mask": None}, {"mask": torch.zeros(1)}, "The argument mask is a tensor; on the example it was None"),
        ({"t": (Slot(0), 1)}, {"t": (torch.zeros(1), 2)}, "The argument t.1 is 2; on the example it was 1"),
        ({"l": [Slot(0)]}, {"l": []}, "The argument l is a list of 0; on the example it was a list of 1"),
        ({"t": Slot(0)}, {"t": (torch.zeros(1),)}, "The argument t is a tuple of 1; on the example it was a tensor"),
        ({"a": np.zeros(2)}, {"a": np.ones(2)}, "The argument a is array"),
    ],
)
def test_what_differs_is_refused_by_name(recorded, given, told):
    """The head would go on with the example's."""
    with pytest.raises(SplitError, match=told):
        list(pairs(recorded, given))


def test_plain_values_and_the_number_of_examples_may_differ_where_allowed():
    """Pictures come in lists as long as the batch."""
    assert list(pairs({"n": 1}, {"n": 2}, plain=False)) == []
    assert list(pairs([Slot(0), Slot(1)], [torch.zeros(1)], any_count=2)) == []
    assert list(pairs({"a": np.zeros(2)}, {"a": np.zeros(2)})) == []


def test_an_unread_argument_fails_whoever_looks_at_it():
    """Passing it on is no look."""
    (passed,), options = unread((("text",), {"n": 3}))
    assert isinstance(passed, Unread)
    for look in (bool, len, str, int, lambda value: value == 3, lambda value: value.upper(), lambda value: 2 * value):
        with pytest.raises(ReadError, match="reads an argument"):
            look(options["n"])


def test_arguments_of_a_forward_of_the_instance():
    """A forward that an object has of its own hides that of its class, whose parameters were read before."""
    model, x = Takes(), torch.zeros(1)
    assert "x" in by_name(model, (x,), {})
    model.forward = lambda image: image
    assert by_name(model, (x,), {}) == {"image": x}
