"""The functions of a torch model have the same name whether a module or a call does them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.plans.graphs import unstepped
from regraft.plans.module_graph import traced
from regraft.plans.steps import simplified


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.act = act

    def forward(self, x):
        return self.act(self.first(x))


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (nn.Upsample(scale_factor=2), "resize nearest"),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), "resize linear"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "resize linear, corners aligned"),
        (nn.LocalResponseNorm(5, 1e-3, 0.7, 2.0), "local response norm 5, 0.001, 0.7, 2"),
        (nn.Softmax(1), "softmax"),
        (nn.Softmax2d(), "softmax"),
        (lambda x: functional.softmax(x, dim=2), "softmax over axis 2"),
        (nn.LogSoftmax(-1), "log_softmax"),
        (nn.Hardtanh(), "clip(-1, 1)"),
        (functional.hardtanh, "clip(-1, 1)"),
        (lambda x: x.clamp(0, 6), "relu6"),
        (lambda x: x.clamp(min=0), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.Softplus(beta=2), "softplus of slope 2"),
        (lambda x: functional.softplus(x, beta=2), "softplus of slope 2"),
        (lambda x: functional.leaky_relu(x, 0.2), "leaky_relu(0.2)"),
        (lambda x: functional.elu(x, alpha=2.0), "elu(2)"),
        (nn.CELU(2.0), "celu(2)"),
        (nn.AdaptiveMaxPool2d(1), "global max"),
        (lambda x: x.amax((2, 3)), "global max"),
        (lambda x: x.sum((2, 3)), "global sum"),
        (lambda x: x.sum(1), "sum"),
        (lambda x: x * 2 + 1, "times 2 plus 1"),
        (lambda x: (x - 1) / 2, "times 0.5 plus -0.5"),
        (lambda x: 1 - x, "times -1 plus 1"),
        (lambda x: -x, "times -1"),
        (lambda x: 2 / x, "2 over it"),
        (lambda x: x**3, "power 3"),
        (lambda x: x.sqrt(), "power 0.5"),
        (lambda x: x[:, [2, 1, 0]], "take [2, 1, 0]"),
        (lambda x: x.flip(3), "flip"),
        (nn.MaxPool2d(2, 1, dilation=2), "max pooling with holes"),
        (lambda x: x.flatten(1), ""),
        (nn.PixelShuffle(1), ""),
    ],
)  # fmt: skip
def test_a_function_has_one_name(act, name):
    steps, _ = unstepped(traced(Net(act)).output)

    assert ", ".join(str(step.function) for step in simplified(steps)) == name


def test_the_half_of_a_gated_unit_is_seen_as_graphs_that_split_it_write_it():
    unit, written = Net(nn.GLU(1)), Net(lambda x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]))

    assert [str(unstepped(traced(net).output)[0][0].function) for net in (unit, written)] == ["silu", "silu"]
