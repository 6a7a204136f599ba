"""Networks of ONNX graphs that a test writes node by node, beside what ONNX Runtime computes."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.built import build_network

from regraft.reading import open_checkpoint

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL,
    "int32": TensorProto.INT32,
          "uint8": TensorProto.UINT8}  # fmt: skip


def node(operator, inputs, outputs, **attributes):
    """A node; inputs and outputs are names separated by blanks."""
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def write_onnx(path, nodes, inputs, arrays, *, opset=17, outputs=("y",), functions=()):
    """An ONNX file.

    inputs  name → array of the shape and dtype; a size of its shape is fixed
    arrays  name → array of an initializer
    """
    values = [helper.make_tensor_value_info(name, _TYPES[x.dtype.name], x.shape) for name, x in inputs.items()]
    given = [helper.make_empty_tensor_value_info(name) for name in outputs]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "graph", values, given, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8), path)
    return path


def run_onnx(path, inputs):
    """The outputs of ONNX Runtime, on one thread and without its own rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def build_onnx(path):
    """The network of a file, with its plan, source and notes."""
    return build_network(open_checkpoint(path))


def compare(folder, nodes, inputs, arrays, *, outputs=("y",), tolerance=1e-6, **settings):
    """Build the graph and compare every output with ONNX Runtime's; gives what was built.

    The tolerance is relative to the largest number: sums are taken in another order.
    """
    arrays = {"weight_of_no_layer": np.ones(2, np.float32), **arrays}  # a file without arrays holds no network
    path = write_onnx(folder / "net.onnx", nodes, inputs, arrays, outputs=outputs, **settings)
    expected = run_onnx(path, inputs)
    built = build_onnx(path)
    with torch.no_grad():
        results = built.model(*map(torch.from_numpy, inputs.values()))
    results = results if isinstance(results, tuple) else (results,)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        got = result.detach().numpy()
        assert got.shape == wanted.shape, built.text
        assert got.dtype.kind == wanted.dtype.kind
        largest = max(float(np.abs(np.where(np.isfinite(wanted), wanted, 0)).max(initial=0)), 1e-6)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * largest)
    return built


def floats(*shape, seed=0):
    """Normal numbers as float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
