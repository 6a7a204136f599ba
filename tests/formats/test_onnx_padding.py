"""Zeros around the maps of an ONNX graph, wherever the file writes them."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional

from golden_files import facts_of
from regraft.formats.onnx import Onnx
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


def written(folder, pad, conv, **tensors):
    """A graph of a Pad and a convolution, which takes "x" of (n, 3, 9, 9)."""
    rng = np.random.default_rng(0)
    tensors = {"net.weight": rng.normal(size=(4, 3, 3, 3)).astype("f"), **tensors}
    inits = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [2, 3, 9, 9])], [value("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([pad, helper.make_node("Conv", ["p", "net.weight"], ["y"], name="net", **conv)],
                              "g", *ends, inits)  # fmt: skip
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def node(*inputs, **attributes):
    return helper.make_node("Pad", ["x", *inputs], ["p"], **attributes)


SIDES = np.array([0, 0, 1, 2, 0, 0, 3, 1])


@pytest.mark.parametrize(("pad", "conv", "tensors", "padding"), [
    (node("s"), {}, {"s": SIDES}, [[1, 3], [2, 1]]),
    (node("s"), {"pads": [1, 0, 0, 1]}, {"s": SIDES}, [[2, 3], [2, 2]]),
    (node("s", "v"), {}, {"s": SIDES, "v": np.float32(0)}, [[1, 3], [2, 1]]),
    (node("s", "", "a"), {}, {"s": np.array([1, 2, 3, 1]), "a": np.array([2, 3])}, [[1, 3], [2, 1]]),
    (node("s", "", "a"), {}, {"s": np.array([1, 2, 3, 1]), "a": np.array([-2, -1])}, [[1, 3], [2, 1]]),
    (node("s", "v"), {}, {"s": SIDES, "v": np.float32(1)}, "computed by the graph"),
    (node("s", mode="reflect"), {}, {"s": SIDES}, "reflect of [[1, 3], [2, 1]]"),
    (node("s"), {"auto_pad": "SAME_UPPER"}, {"s": SIDES}, "[[1, 3], [2, 1]], then same"),
    (node("s"), {}, {"s": np.array([0, 1, 1, 2, 0, 0, 3, 1])}, "computed by the graph"),
])  # fmt: skip
def test_a_pad_before_a_convolution_is_its_padding(tmp_path, pad, conv, tensors, padding):
    """Zeros around the map are added to the convolution's own; everything else is a padding that no layer has."""
    facts = facts_of(Onnx().open(written(tmp_path, pad, conv, **tensors)), "net")

    assert (facts["padding"], facts["padding_layer"]) == (padding, "p")


class Padded(nn.Module):
    """A network that pads in its forward, as torch's exporter sees it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 4, 3, stride=2, bias=False)

    def forward(self, x):
        """Left, right, top, bottom."""
        return self.net(functional.pad(x, (1, 2, 3, 4)))


@pytest.mark.filterwarnings("ignore")  # torch's older exporter says that it will go
def test_the_pads_that_torch_s_exporter_computes_are_known(tmp_path):
    """It writes a constant list and turns it round by a dozen nodes."""
    torch.onnx.export(Padded().eval(), (torch.zeros(1, 3, 8, 8),), tmp_path / "m.onnx", dynamo=False,
                      do_constant_folding=False)  # fmt: skip

    assert facts_of(Onnx().open(tmp_path / "m.onnx"), "net")["padding"] == [[3, 4], [1, 2]]


def test_a_twin_that_pads_in_its_convolution_computes_what_the_file_computes(tmp_path):
    """The golden values are ONNX' own reference's; adopting what the file says does not change what is right."""
    path = written(tmp_path, node("s"), {"strides": [2, 2]}, s=np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    x = np.random.default_rng(1).normal(size=(2, 3, 9, 9)).astype("f")
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    checkpoint = Onnx().open(path)

    for padding in (1, 0):
        model = nn.ModuleDict({"net": nn.Conv2d(3, 4, 3, 2, padding, bias=False)})
        plan = plan_reuse(checkpoint, model, adopt=() if padding else ("net.padding",))
        apply_plan(plan, checkpoint, model)
        got = model["net"](torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)  # another order of the same sums
