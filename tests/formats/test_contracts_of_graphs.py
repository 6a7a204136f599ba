"""The readers of formats that know layers pass the contract's tests."""

from types import MappingProxyType

import msgpack
import numpy as np
import onnx

from regraft.formats.caffe import Caffe
from regraft.formats.flax import Flax
from regraft.formats.mxnet import MXNet
from regraft.formats.onnx import Onnx
from regraft.testing import FormatContract
from written import caffe_layer, write_caffe, write_params

KERNEL, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5, np.array([0.5, -0.25, 8.0], np.float32)


class TestCaffe(FormatContract):
    """Written by the format's description."""

    format = Caffe()
    arrays = MappingProxyType({"layer/weight": KERNEL, "layer/bias": BIAS})

    def write(self, folder, arrays):
        return write_caffe(folder / "net.caffemodel", [caffe_layer("layer", "InnerProduct", arrays.values())])


class TestMXNet(FormatContract):
    """Written by the format's description."""

    format = MXNet()
    arrays = MappingProxyType({"layer_weight": KERNEL, "layer_bias": BIAS})

    def write(self, folder, arrays):
        return write_params(folder / "net-0001.params", {f"arg:{name}": array for name, array in arrays.items()})


class TestFlax(FormatContract):
    """Written with msgpack as flax.serialization does."""

    format = Flax()

    def write(self, folder, arrays):
        def extension(array):
            packed = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
            return msgpack.ExtType(1, packed)

        tree = {"layer": {name.split("/")[1]: extension(array) for name, array in arrays.items()}}
        (folder / "checkpoint_0").write_bytes(msgpack.packb(tree, strict_types=True))
        return folder / "checkpoint_0"


class TestOnnx(FormatContract):
    """Written by the onnx library."""

    format = Onnx()

    def write(self, folder, arrays):
        onnx.save(_onnx_model(arrays), folder / "model.onnx")
        return folder / "model.onnx"


class TestOnnxWithExternalData(FormatContract):
    """Values in a file beside the model."""

    format = Onnx()

    def write(self, folder, arrays):
        onnx.save(
            _onnx_model(arrays), folder / "model.onnx", save_as_external_data=True, location="model.data",
            size_threshold=0,
        )  # fmt: skip
        return folder / "model.onnx"


def _onnx_model(arrays):
    """x · kernel + bias."""
    kernel, bias = arrays
    nodes = [
        onnx.helper.make_node("MatMul", ["x", kernel], ["product"], name="product"),
        onnx.helper.make_node("Add", ["product", bias], ["y"], name="sum"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xy"]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    return onnx.helper.make_model(graph, producer_name="regraft-tests", ir_version=10)
