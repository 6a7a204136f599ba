"""The wiring of an ONNX graph: enough to find every layer of a torch model whose names are others."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from golden_files import GOLDEN, golden_arrays
from regraft.formats.onnx import Onnx
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


def opened(folder, nodes, **tensors):
    """A model of these nodes and initializers, which takes "x"."""
    inits = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, [], inits)), folder / "m.onnx")
    return Onnx().open(folder / "m.onnx")


def facts_of(checkpoint, layer):
    """Everything that the file tells of a layer, its wiring included."""
    return {one.attribute: one.value for one in checkpoint.requirements if one.layer == layer}


class OtherNames(nn.Module):
    """The network of tests/golden/make_onnx.py, under other names and in another order."""

    def __init__(self):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(2, 5), nn.LayerNorm(5, eps=1e-4))
        self.b = nn.GRU(3, 2, batch_first=True)
        self.a = nn.LSTM(2, 3, batch_first=True)
        self.fc = nn.Linear(3 * 6 * 8, 4)
        self.grow = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4, eps=2e-3), nn.ReLU())

    def forward(self, x):
        x = self.fc(self.grow(self.first(x)).flatten(1)).relu()
        x, _ = self.a(x.reshape(-1, 2, 2))
        x, _ = self.b(x)
        return self.out(x)


@pytest.mark.parametrize("name", ["torch_folded", "torch_unfolded", "torch_dynamo", "torch_external"])
def test_a_network_of_each_exporter_is_found_under_other_names(name):
    """A batch-norm that the exporter folded away included."""
    checkpoint, model = Onnx().open(GOLDEN / f"{name}.onnx"), OtherNames().eval()
    source = golden_arrays("onnx.npz")

    plan = plan_reuse(checkpoint, model, match="structure")
    apply_plan(plan, checkpoint, model)

    with torch.no_grad():
        y = model(torch.from_numpy(source[f"{name}/x"]))
    assert "by the wiring of both networks" in plan.notes[-1]
    assert np.abs(y.numpy() - source[f"{name}/y"]).max() < 1e-5  # float32, another runtime


def test_joins_poolings_and_activations_are_told_with_what_they_do(tmp_path):
    node = helper.make_node
    told = opened(
        tmp_path,
        [
            node("Conv", ["x", "w"], ["c"], name="conv"),
            node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1),
            node("Clip", ["p", "low", "high"], ["r"]),
            node("LeakyRelu", ["p"], ["l"], alpha=0.25),
            node("Add", ["r", "l"], ["s"]),
        ],
        w=np.ones((1, 1, 1, 1), "f"),
        low=np.float32(0),
        high=np.float32(6),
    )

    assert facts_of(told, "p") == {
        "inputs": ["conv"], "operation": "MaxPool", "pool": "max", "pool_size": [3, 3], "strides": [2, 2],
        "padding": [[0, 1], [0, 1]], "count_include_pad": False, "ceil_mode": True,
    }  # fmt: skip
    assert facts_of(told, "conv")["inputs"] == [""]
    assert facts_of(told, "r") == {"inputs": ["p"], "operation": "Clip", "activation": "relu6"}
    assert facts_of(told, "l")["activation"] == "leaky_relu(0.25)"
    assert facts_of(told, "s") == {"inputs": ["r", "l"], "operation": "Add"}


@pytest.mark.parametrize(
    ("attributes", "word"),
    [({}, "hard_sigmoid of another slope"), ({"alpha": 1 / 6}, "hard_sigmoid")],
)
def test_a_hard_sigmoid_of_another_slope_is_another_function(tmp_path, attributes, word):
    told = opened(tmp_path, [helper.make_node("HardSigmoid", ["x"], ["y"], **attributes)], w=np.ones(3, "f"))

    assert facts_of(told, "y")["activation"] == word


def test_shapes_and_numbers_are_no_maps(tmp_path):
    """A reshape's target is computed from a shape: it feeds nothing."""
    node = helper.make_node
    told = opened(
        tmp_path,
        [
            node("Shape", ["x"], ["size"]),
            node("Reshape", ["x", "size"], ["flat"]),
            node("Gemm", ["flat", "k", "b"], ["y"], name="fc"),
        ],
        k=np.ones((3, 3), "f"),
        b=np.ones(3, "f"),
    )

    assert facts_of(told, "flat")["inputs"] == [""]
    assert facts_of(told, "fc")["inputs"] == ["flat"]
    assert not facts_of(told, "size")


def test_a_bias_in_a_node_of_its_own_is_the_layers(tmp_path):
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "k"], ["m"], name="fc"),
        node("Add", ["m", "b"], ["y"]),
        node("Mul", ["y", "block.gamma"], ["z"]),
        node("Relu", ["z"], ["r"]),
    ]
    told = opened(
        tmp_path, nodes, k=np.ones((3, 3), "f"), b=np.ones(3, "f"), **{"block.gamma": np.ones((3, 1, 1), "f")}
    )

    assert facts_of(told, "block") == {"inputs": ["fc"], "operation": "Mul"}
    assert facts_of(told, "r")["inputs"] == ["block"]
    assert not facts_of(told, "y")


@pytest.mark.parametrize(("mode", "facts"), [("constant", {"pad": [[1, 1], [0, 2]]}), ("reflect", {})])
def test_zeros_around_a_map_are_told(tmp_path, mode, facts):
    pads = np.array([0, 0, 1, 0, 0, 0, 1, 2])
    told = opened(tmp_path, [helper.make_node("Pad", ["x", "p"], ["y"], mode=mode)], p=pads, w=np.ones(3, "f"))

    assert facts_of(told, "y") == {"inputs": [""], "operation": "Pad", **facts}
