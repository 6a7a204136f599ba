"""`FORMATS`: all readers. A reader's module is imported only when a quick look says that the path may be its own."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast, final

from regraft.arrays import Checkpoint
from regraft.containers.sstable import is_table
from regraft.formats.format import Format

QuickLook = Callable[[Path, bytes], bool]


@final
@dataclass(frozen=True)
class LazyFormat(Format):
    """A reader whose module is imported on its first use.

    name, layout  those of the reader
    reader        its module in regraft.formats and its class: "gguf.GGUF"
    may_be_own    False only when the reader would not recognise the path; gets what `Format.recognises` gets
    """

    name: str
    reader: str
    may_be_own: QuickLook
    layout: str | None

    def load(self) -> Format:
        """The reader itself."""
        module, _, class_name = self.reader.partition(".")
        return cast(Format, getattr(import_module(f"regraft.formats.{module}"), class_name)())

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the reader recognises the path."""
        return self.may_be_own(path, head) and self.load().recognises(path, head)

    def open(self, path: Path) -> Checkpoint:
        """The reader's checkpoint."""
        return self.load().open(path)


def _begins(*starts: bytes, offset: int = 0) -> QuickLook:
    return lambda path, head: head.startswith(starts, offset)


def _hdf5(path: Path, head: bytes) -> bool:
    return b"\x89HDF" in head


def _json(path: Path, head: bytes) -> bool:
    return head.lstrip()[:1] in (b"{", b"[")


def _folder(path: Path, head: bytes) -> bool:
    return path.is_dir()


def _bundle(path: Path, head: bytes) -> bool:
    """A folder, or a prefix or a file beside which an index may lie."""
    return path.is_dir() or not head or any(part in path.name for part in (".index", ".meta", ".data-")) or (
        path.with_name(f"{path.name}.index").is_file()
    )  # fmt: skip


def _saved_model(path: Path, head: bytes) -> bool:
    return path.is_dir() or path.name == "saved_model.pb"


def _table(path: Path, head: bytes) -> bool:
    """A file that ends as TensorFlow's tables do, or a prefix of shards."""
    return is_table(path) if path.is_file() else not path.is_dir()


def _msgpack_map(path: Path, head: bytes) -> bool:
    return head[:1] in (b"\xde", b"\xdf") or b"\x81" <= head[:1] <= b"\x8f"


def _torch_legacy(path: Path, head: bytes) -> bool:
    return bytes.fromhex("8a0a6cfc9c46f9206aa85019") in head[:32] or head[257:262] == b"ustar"


def _coreml(path: Path, head: bytes) -> bool:
    return path.is_dir() or (path.suffix == ".mlmodel" and head.startswith(b"\x08"))


def _ncnn(path: Path, head: bytes) -> bool:
    return head.startswith(b"7767517") or path.suffix == ".bin"


_ZIP = _begins(b"PK\x03\x04")
_PICKLE = _begins(*(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5)), b"(", b"c", b"]q", b"}q")

FORMATS: tuple[Format, ...] = (
    LazyFormat("tensorflow-v2", "tensorflow_v2.TensorFlowV2", _bundle, "tensorflow"),
    LazyFormat("tensorflow-v1", "tensorflow_v1.TensorFlowV1", _table, "tensorflow"),
    LazyFormat("tensorflow-frozen", "tensorflow_frozen.TensorFlowFrozen", _begins(b"\n"), "tensorflow"),
    LazyFormat("savedmodel", "savedmodel.SavedModel", _saved_model, "tensorflow"),
    LazyFormat("tflite", "tflite.TFLite", _begins(b"TFL3", offset=4), "tflite"),
    LazyFormat("tfjs", "tensorflow_js.TensorFlowJS", _json, "tensorflow"),
    LazyFormat("keras", "keras.KerasArchive", _ZIP, "keras"),
    LazyFormat("keras-h5", "keras.KerasH5", _hdf5, "keras"),
    LazyFormat("onnx", "onnx.Onnx", _begins(b"\x08"), "onnx"),
    LazyFormat("caffe", "caffe.Caffe", _begins(*b"\n \x12 \x1a \x32 \x42 ( 8 \xa2".split(b" "), b" "), "caffe"),
    LazyFormat("flax", "flax.Flax", _msgpack_map, "flax"),
    LazyFormat("mxnet", "mxnet.MXNet", _begins(b"\x12\x01" + bytes(14)), "mxnet"),
    LazyFormat("safetensors", "safetensors.Safetensors", _begins(b"{", offset=8), "torch"),
    LazyFormat("torch", "torch_archive.TorchZip", _ZIP, "torch"),
    LazyFormat("torch-legacy", "torch_legacy.TorchLegacy", _torch_legacy, "torch"),
    LazyFormat("torch-export", "torch_export.TorchExport", _ZIP, "torch"),
    LazyFormat("torch-distributed", "torch_distributed.TorchDistributed", _folder, "torch"),
    LazyFormat("npz", "numpy_arrays.NumpyArchive", _ZIP, None),
    LazyFormat("npy", "numpy_arrays.NumpyArray", _begins(b"\x93NUMPY"), None),
    LazyFormat("numpy-pickle", "pickled_arrays.NumpyPickle", _PICKLE, None),
    LazyFormat("darknet", "darknet.Darknet", _begins(bytes(4)), "torch"),
    LazyFormat("coreml", "coreml.CoreML", _coreml, "coreml"),
    LazyFormat("ncnn", "ncnn.Ncnn", _ncnn, "ncnn"),
    LazyFormat("gguf", "gguf.GGUF", _begins(b"GGUF"), "torch"),
    LazyFormat("orbax", "orbax.Orbax", _folder, "flax"),
)
