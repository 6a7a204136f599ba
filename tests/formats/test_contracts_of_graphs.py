"""The readers of formats that know layers pass the contract's tests."""

import json
import zipfile
from types import MappingProxyType

import h5py
import msgpack
import numpy as np
import onnx
import tensorstore

from regraft.formats.caffe import Caffe
from regraft.formats.flax import Flax
from regraft.formats.gguf import GGUF
from regraft.formats.keras import KerasArchive, KerasH5
from regraft.formats.mxnet import MXNet
from regraft.formats.onnx import Onnx
from regraft.formats.orbax import Orbax
from regraft.testing import FormatContract
from written import caffe_layer, write_caffe, write_gguf, write_params, write_zarr

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


class TestGGUF(FormatContract):
    """As the gguf library writes it."""

    format = GGUF()

    def write(self, folder, arrays):
        return write_gguf(folder / "model.gguf", arrays)


class TestOrbaxFolders(FormatContract):
    """Written by the format's description, as the first Orbax did."""

    format = Orbax()

    def write(self, folder, arrays):
        for name, array in arrays.items():
            write_zarr(folder / "checkpoint_1", name, array)
        tree = {name: {"key_metadata": [{"key": key} for key in name.split("/")],
                       "value_metadata": {"value_type": "jax.Array"}} for name in arrays}  # fmt: skip
        described = {"tree_metadata": tree, "store_array_data_equal_to_fill_value": True}
        (folder / "checkpoint_1" / "_METADATA").write_text(json.dumps(described))
        return folder / "checkpoint_1"


class TestOrbaxStore(FormatContract):
    """Written by tensorstore, as Orbax does."""

    format = Orbax()
    open_allowance = 16 << 20  # importing tensorstore

    def write(self, folder, arrays):
        store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/checkpoint_1/"}}
        for name, array in arrays.items():
            spec = {"driver": "zarr", "kvstore": {**store, "path": f"{name.replace('/', '.')}/"}}
            described = {"shape": array.shape, "dtype": array.dtype.str, "compressor": None}
            spec |= {"metadata": described, "store_data_equal_to_fill_value": True}
            tensorstore.open(spec, create=True).result().write(array).result()
        return folder / "checkpoint_1"


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


class TestKerasH5(FormatContract):
    """Written with h5py as Keras' save_weights does."""

    format = KerasH5()

    def write(self, folder, arrays):
        with h5py.File(folder / "weights.h5", "w") as file:
            file.attrs["layer_names"] = [b"layer"]
            group = file.create_group("layer")
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in arrays]
            for name, array in arrays.items():
                group[f"{name}:0"] = array
        return folder / "weights.h5"


class TestKerasWeightsH5(FormatContract):
    """Written with h5py as Keras 3's save_weights does."""

    format = KerasH5()

    def write(self, folder, arrays):
        write_weights_h5(folder / "model.weights.h5", arrays)
        return folder / "model.weights.h5"


class TestKerasArchive(FormatContract):
    """Written as Keras 3's save does."""

    format = KerasArchive()

    def write(self, folder, arrays):
        inner = folder / "model.weights.h5"
        write_weights_h5(inner, arrays)
        layer = {"class_name": "Dense", "config": {"name": "layer", "units": 3, "use_bias": True}}
        config = {"class_name": "Sequential", "config": {"layers": [layer]}}
        with zipfile.ZipFile(folder / "model.keras", "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
            archive.writestr("config.json", json.dumps(config))
            archive.write(inner, "model.weights.h5")
        inner.unlink()
        return folder / "model.keras"


def write_weights_h5(path, arrays):
    """One dense layer, as Keras 3 names things."""
    with h5py.File(path, "w") as file:
        variables = file.create_group("layers/dense/vars")
        variables.attrs["name"] = "layer"
        for number, array in enumerate(arrays.values()):
            variables[str(number)] = array


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
