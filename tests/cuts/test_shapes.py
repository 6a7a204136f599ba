"""The shapes that a forward gives."""

import torch
from torch import nn

from regraft.cuts.shapes import shapes_of_forward


class Shapes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        hidden = self.layer(x)
        return torch.cat([hidden, hidden]).t(), len(x)


def test_calls_and_functions_give_shapes_and_numbers():
    """By module, run, function and count."""
    shapes = shapes_of_forward(Shapes(), (torch.zeros(2, 3),), {})
    assert shapes.inputs == [(2, 3)]
    assert shapes.calls["layer", 0] == ([(2, 4)], [])
    assert shapes.calls["", 0] == ([(4, 4)], [2])
    assert shapes.functions["", 0, "cat", 0] == [(4, 4)]


def test_the_model_keeps_no_trace():
    """Its forwards are its class's again."""
    model = Shapes()
    shapes_of_forward(model, (torch.zeros(2, 3),), {})
    assert "forward" not in model.__dict__
    assert "forward" not in model.layer.__dict__
