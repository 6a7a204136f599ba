"""Every reader passes the contract's tests."""

import json
import pickle
import zipfile
from types import MappingProxyType

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.numpy import save_file

from flat import write_tflite
from javascript import write_tfjs
from regraft.formats.numpy_arrays import NumpyArchive, NumpyArray
from regraft.formats.pickled_arrays import NumpyPickle
from regraft.formats.safetensors import Safetensors
from regraft.formats.savedmodel import SavedModel
from regraft.formats.tensorflow_js import TensorFlowJS
from regraft.formats.tensorflow_v1 import TensorFlowV1
from regraft.formats.tensorflow_v2 import TensorFlowV2
from regraft.formats.tflite import TFLite
from regraft.formats.torch_archive import TorchZip
from regraft.formats.torch_distributed import TorchDistributed
from regraft.formats.torch_export import _DTYPES as SCALAR_TYPES
from regraft.formats.torch_export import TorchExport
from regraft.formats.torch_legacy import TorchLegacy
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


@pytest.mark.filterwarnings("ignore:torch.distributed:UserWarning", "ignore:TypedStorage:UserWarning")
class TestTorchDistributed(FormatContract):
    """What torch.distributed.checkpoint writes."""

    format = TorchDistributed()
    arrays = MappingProxyType({"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)})

    def write(self, folder, arrays):
        dcp.save({name: torch.from_numpy(array) for name, array in arrays.items()}, checkpoint_id=folder / "m")
        return folder / "m"


class TestTorchExport(FormatContract):
    """An archive written by the format's description: torch needs seconds for one of its own."""

    format = TorchExport()

    def write(self, folder, arrays):
        described = {}
        with zipfile.ZipFile(folder / "m.pt2", "w") as archive:
            for number, (name, array) in enumerate(arrays.items()):
                archive.writestr(f"m/data/weights/weight_{number}", array.tobytes())
                meta = {
                    "dtype": {told: code for code, told in SCALAR_TYPES.items()}[str(array.dtype)],
                    "sizes": [{"as_int": size} for size in array.shape],
                    "strides": [{"as_int": step // array.itemsize} for step in array.strides],
                    "storage_offset": {"as_int": 0},
                }
                described[name] = {"path_name": f"weight_{number}", "use_pickle": False, "tensor_meta": meta}
            archive.writestr("m/data/weights/model_weights_config.json", json.dumps({"config": described}))
            archive.writestr("m/archive_format", "pt2")
        return folder / "m.pt2"


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
