"""Readers: one file for each checkpoint format; `format.py` is their contract.

`FORMATS` is all of them. Their modules are light: a foreign library is imported only inside `open`.
"""

from regraft.formats.format import Format
from regraft.formats.numpy_arrays import NumpyArchive, NumpyArray
from regraft.formats.numpy_pickle import NumpyPickle
from regraft.formats.safetensors_file import Safetensors
from regraft.formats.tensorflow_v2 import TensorFlowV2
from regraft.formats.torch_zip import TorchZip

FORMATS: tuple[Format, ...] = (
    TensorFlowV2(),
    Safetensors(),
    TorchZip(),
    NumpyArchive(),
    NumpyArray(),
    NumpyPickle(),
)
