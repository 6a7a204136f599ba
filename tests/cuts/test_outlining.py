"""The outline of a forward."""

import torch
from torch import nn

from regraft.cuts.outlining import outline_forward


class Shapes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        hidden = self.layer(x)
        return torch.cat([hidden, hidden]).t(), len(x)


def test_calls_and_functions_give_shapes_and_numbers():
    """By module, run, function and count."""
    outline = outline_forward(Shapes(), (torch.zeros(2, 3),), {})
    assert outline.inputs == [(2, 3)]
    assert outline.calls["layer", 0] == ([(2, 4)], [])
    assert outline.calls["", 0] == ([(4, 4)], [2])
    assert outline.functions["", 0, "cat", 0] == [(4, 4)]


def test_the_model_keeps_no_trace():
    """Its forwards are its class's again."""
    model = Shapes()
    outline_forward(model, (torch.zeros(2, 3),), {})
    assert "forward" not in model.__dict__
    assert "forward" not in model.layer.__dict__
