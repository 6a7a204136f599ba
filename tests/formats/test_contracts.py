"""Every reader passes the contract's tests."""

import pickle
from types import MappingProxyType

import numpy as np
import torch
from safetensors.numpy import save_file

from flat import write_tflite
from javascript import write_tfjs
from regraft.formats.numpy_arrays import NumpyArchive, NumpyArray
from regraft.formats.numpy_pickle import NumpyPickle
from regraft.formats.safetensors_file import Safetensors
from regraft.formats.savedmodel import SavedModel
from regraft.formats.tensorflow_js import TensorFlowJS
from regraft.formats.tensorflow_v1 import TensorFlowV1
from regraft.formats.tensorflow_v2 import TensorFlowV2
from regraft.formats.tflite import TFLite
from regraft.formats.torch_legacy import TorchLegacy
from regraft.formats.torch_zip import TorchZip
from regraft.testing import FormatContract
from tables import write_bundle, write_v1


class TestTensorFlowV2(FormatContract):
    """A bundle written by the format's description."""

    format = TensorFlowV2()

    def write(self, folder, arrays):
        return write_bundle(folder / "model.ckpt", arrays)


class TestTensorFlowV1(FormatContract):
    """A table written by the format's description."""

    format = TensorFlowV1()

    def write(self, folder, arrays):
        return write_v1(folder / "model_v1.ckpt", arrays)


class TestSavedModel(FormatContract):
    """A program that holds nothing, and a bundle of variables."""

    format = SavedModel()

    def write(self, folder, arrays):
        (folder / "variables").mkdir()
        write_bundle(folder / "variables" / "variables", arrays)
        (folder / "saved_model.pb").write_bytes(b"\x08\x01")
        return folder


class TestTFLite(FormatContract):
    """A FlatBuffer written by the format's description."""

    format = TFLite()

    def write(self, folder, arrays):
        return write_tflite(folder / "model.tflite", arrays)


class TestTensorFlowJS(FormatContract):
    """A graph model over two shards."""

    format = TensorFlowJS()

    def write(self, folder, arrays):
        return write_tfjs(folder, arrays)


class TestSafetensors(FormatContract):
    """As the safetensors library writes it."""

    format = Safetensors()

    def write(self, folder, arrays):
        save_file(dict(arrays), folder / "model.safetensors")
        return folder / "model.safetensors"


class TestTorchZip(FormatContract):
    """As torch writes it."""

    format = TorchZip()

    def write(self, folder, arrays):
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, folder / "model.pt")
        return folder / "model.pt"


class TestTorchLegacy(FormatContract):
    """As torch writes it on request."""

    format = TorchLegacy()

    def write(self, folder, arrays):
        state = {name: torch.tensor(array) for name, array in arrays.items()}
        torch.save(state, folder / "model.pt", _use_new_zipfile_serialization=False)
        return folder / "model.pt"


class TestNumpyArchive(FormatContract):
    """As NumPy writes it."""

    format = NumpyArchive()

    def write(self, folder, arrays):
        np.savez(folder / "arrays.npz", **arrays)
        return folder / "arrays.npz"


class TestNumpyArray(FormatContract):
    """As NumPy writes it."""

    format = NumpyArray()
    arrays = MappingProxyType({"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)})

    def write(self, folder, arrays):
        np.save(folder / "kernel.npy", arrays["kernel"])
        return folder / "kernel.npy"


class TestNumpyArrayOfObjects(FormatContract):
    """A dictionary that NumPy pickled."""

    format = NumpyArray()

    def write(self, folder, arrays):
        np.save(folder / "arrays.npy", np.array(dict(arrays), dtype=object), allow_pickle=True)
        return folder / "arrays.npy"


class TestNumpyPickle(FormatContract):
    """As Python 3 writes it."""

    format = NumpyPickle()

    def write(self, folder, arrays):
        with (folder / "arrays.pkl").open("wb") as file:
            pickle.dump(dict(arrays), file, protocol=2)
        return folder / "arrays.pkl"
