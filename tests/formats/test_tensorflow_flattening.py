"""The order of a flattened map is that of the graph's own nodes; where they do not record it, nothing is said."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import checkpoint_of
from regraft.arrays import Requirement
from regraft.formats.tensorflow_flattening import flattening
from regraft.formats.tensorflow_nodes import Attributes, GraphNode
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


class Given(Attributes):
    """Attributes of a node, as plain values."""

    def __init__(self, **values):
        self.values = values

    def text(self, name):
        return self.values.get(name, "")

    def texts(self, name):
        return []

    def integers(self, name):
        return self.values.get(name, [])

    def real(self, name):
        return 0.0

    def flag(self, name):
        return False


def node(op, *inputs, **attributes):
    return GraphNode(op, inputs, Given(**attributes))


CONV = {"conv": node("Conv2D", "x", "k"), "relu": node("Relu", "conv"), "sizes": node("Const"), "axes": node("Const")}
FIRST = {**CONV, "conv": node("Conv2D", "x", "k", data_format="NCHW")}
FLAT = {"flat": node("Reshape", "relu", "sizes")}
TURNED = {"turned": node("Transpose", "relu", "axes"), "flat": node("Reshape", "turned", "sizes")}
LINE = {"line": node("Squeeze", "relu", squeeze_dims=[1]), "flat": node("Reshape", "line", "sizes")}


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        (CONV | FLAT, {}, {"flatten_order": "channels_last"}),
        (FIRST | FLAT, {}, {"flatten_order": "channels_first"}),
        (CONV | TURNED, {"axes": [0, 3, 1, 2]}, {"flatten_order": "channels_first"}),
        (CONV | TURNED, {"axes": [0, 2, 1, 3]}, {"flatten_order": "permuted", "flatten_axes": ["w", "h", "c"]}),
        (CONV | TURNED, {}, {"flatten_order": "permuted"}),
        (CONV | LINE, {}, {"flatten_order": "channels_last"}),
        (CONV | FLAT, {"sizes": [-1, 3, 16]}, {}),
        ({**CONV, **FLAT, "conv": node("MatMul", "x", "k")}, {}, {}),
        ({"flat": node("Identity", "flat")}, {}, {}),
    ],
)
def test_the_order_is_what_the_nodes_record(nodes, constants, expected):
    constants = {name: np.array(values) for name, values in constants.items()}

    assert flattening(nodes, node("MatMul", "flat", "w"), constants.get) == expected


def test_a_dense_layer_at_each_place_flattens_nothing():
    nodes = {**CONV, "fc/Tensordot/Reshape": node("Reshape", "relu", "sizes")}

    assert flattening(nodes, node("MatMul", "fc/Tensordot/Reshape", "w"), {}.get) == {}


def test_the_channels_of_the_model_settle_a_map_of_unknown_size():
    """The graph says (h, w, c); how many channels there are, the layers before show."""
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)).eval()
    kernels = {"conv/kernel": model[0].weight.permute(2, 3, 1, 0), "conv/bias": model[0].bias,
               "fc/kernel": model[2].weight.view(2, 3, 2, 2).permute(2, 3, 1, 0).reshape(12, 2),
               "fc/bias": model[2].bias}  # fmt: skip
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in kernels.items()}
    checkpoint = checkpoint_of(
        arrays, layout="tensorflow", requirements=(Requirement("fc", "flatten_order", "channels_last"),)
    )
    other = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)).eval()

    plan = plan_reuse(checkpoint, other, rename={"conv/(.*)": r"0/\1", "fc/(.*)": r"2/\1"})
    apply_plan(plan, checkpoint, other)

    x = torch.randn(2, 2, 3, 3)
    assert torch.equal(other(x), model(x))
