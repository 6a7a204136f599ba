"""A product of a value with a function of it is the activation that it stands for; torch's own numbers say so."""

from math import pi, sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.plans.graphs import unstepped
from regraft.plans.module_graph import traced
from regraft.plans.steps import simplified


class Act(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.first, self.act = nn.Conv2d(2, 3, 1), act

    def forward(self, x):
        return self.act(self.first(x))


def cubic(x):
    return x * (1 + 0.044715 * x * x)


@pytest.mark.parametrize(
    ("written", "name", "reference"),
    [
        (lambda x: x * torch.sigmoid(x), "silu", functional.silu),
        (lambda x: 0.5 * x * (1 + torch.erf(x / sqrt(2))), "gelu", functional.gelu),
        (lambda x: x * (0.5 * (1 + torch.erf(x * sqrt(0.5)))), "gelu", functional.gelu),
        (lambda x: 0.5 * x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))), "gelu_tanh",
         lambda x: functional.gelu(x, approximate="tanh")),
        (lambda x: x * (1 + torch.tanh(sqrt(2 / pi) * cubic(x))) * 0.5, "gelu_tanh",
         lambda x: functional.gelu(x, approximate="tanh")),
        (lambda x: x * torch.sigmoid(1.702 * x), "quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
        (lambda x: x * functional.relu6(x + 3) / 6, "hard_swish", functional.hardswish),
        (lambda x: functional.relu6(x + 3) / 6, "hard_sigmoid", functional.hardsigmoid),
        (lambda x: x * torch.tanh(functional.softplus(x)), "mish", functional.mish),
        (lambda x: x * x * x, "power 3", lambda x: x**3),
    ],
)  # fmt: skip
def test_an_activation_written_out_has_its_name(written, name, reference):
    x = torch.linspace(-5, 5, 101)

    steps, _ = unstepped(traced(Act(written)).output)

    assert [str(step.function) for step in simplified(steps)] == [name]
    assert torch.allclose(written(x), reference(x), atol=1e-5)  # other orders of sums


@pytest.mark.parametrize(
    "written", [lambda x: x * torch.sigmoid(1.5 * x), lambda x: x * torch.erf(x), lambda x: x + torch.tanh(x)]
)
def test_another_product_has_none(written):
    steps, _ = unstepped(traced(Act(written)).output)

    assert [str(step.function) for step in steps] == ["an operation"]
