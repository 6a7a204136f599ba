"""Readers: one file for each framework's checkpoint format; `format.py` is their contract.

`FORMATS` is all of them. Their modules are light: a foreign library is imported only inside `open`.
"""

from regraft.formats.caffe import Caffe
from regraft.formats.flax import Flax
from regraft.formats.format import Format
from regraft.formats.gguf import GGUF
from regraft.formats.keras import KerasArchive, KerasH5
from regraft.formats.mxnet import MXNet
from regraft.formats.numpy_arrays import NumpyArchive, NumpyArray
from regraft.formats.numpy_pickle import NumpyPickle
from regraft.formats.onnx import Onnx
from regraft.formats.orbax import Orbax
from regraft.formats.safetensors_file import Safetensors
from regraft.formats.savedmodel import SavedModel
from regraft.formats.tensorflow_js import TensorFlowJS
from regraft.formats.tensorflow_v1 import TensorFlowV1
from regraft.formats.tensorflow_v2 import TensorFlowV2
from regraft.formats.tflite import TFLite
from regraft.formats.torch_distributed import TorchDistributed
from regraft.formats.torch_export import TorchExport
from regraft.formats.torch_legacy import TorchLegacy
from regraft.formats.torch_zip import TorchZip

FORMATS: tuple[Format, ...] = (
    TensorFlowV2(),
    TensorFlowV1(),
    SavedModel(),
    TFLite(),
    TensorFlowJS(),
    KerasArchive(),
    KerasH5(),
    Onnx(),
    Caffe(),
    Flax(),
    MXNet(),
    Safetensors(),
    TorchZip(),
    TorchLegacy(),
    TorchExport(),
    TorchDistributed(),
    NumpyArchive(),
    NumpyArray(),
    NumpyPickle(),
    GGUF(),
    Orbax(),
)
