"""What `torch.export.save` writes (`.pt2`): an archive with each weight as raw bytes and a description of all.

Source: torch/export/pt2_archive/_package.py and torch/_export/serde/schema.py.
"""

import json
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES, ArrayInfo, Checkpoint
from regraft.containers.spans import Order
from regraft.containers.zip_archive import ZipArchive, may_hold
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.roles import with_roles
from regraft.formats.torch_pickle import PickledTensor, Storage

_FORMAT = "archive_format"
_WEIGHTS, _CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
# torch/_export/serde/schema.py: ScalarType
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
}  # fmt: skip


@final
class TorchExport(Format):
    """A `.pt2` of `torch.export.save`: the program is not run, its weights are read."""

    name = "torch-export"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """An archive that tells its format and describes weights."""
        return head.startswith(b"PK\x03\x04") and may_hold(path, (f"/{_FORMAT}", f"/{_WEIGHTS}"))

    def open(self, path: Path) -> Checkpoint:
        """Parameters, buffers and constant tensors under the names of the exported module."""
        archive = ZipArchive(path)
        root = next((name.removesuffix(_FORMAT) for name in archive.members if name.endswith(f"/{_FORMAT}")), "")
        order: Order = ">" if _content(archive, f"{root}byteorder") == b"big" else "<"
        tensors: dict[str, tuple[str, PickledTensor]] = {}
        for described in (_WEIGHTS, _CONSTANTS):
            tensors |= _tensors(archive, f"{root}{described}", f"{root}{described.rpartition('/')[0]}/")
        if not tensors:
            raise CheckpointError(f"{path}: the exported program holds no weights.")

        def read(name: str) -> np.ndarray:
            member, tensor = tensors[name]
            first, count = tensor.reach()
            item = ITEM_BYTES[tensor.dtype]
            content = archive.read(archive.members[member])[first * item : (first + count) * item]
            return tensor.values(content, order=order)

        infos = with_roles({name: ArrayInfo(tensor.shape, tensor.dtype) for name, (_, tensor) in tensors.items()})
        return Checkpoint(path, self.name, self.layout, infos, read, (path,))


def _content(archive: ZipArchive, name: str) -> bytes:
    """A small member; b"" when it is not there."""
    member = archive.members.get(name)
    return bytes(archive.read(member)) if member is not None else b""


def _tensors(archive: ZipArchive, described: str, folder: str) -> dict[str, tuple[str, PickledTensor]]:
    """name → (the member that holds its numbers, the view of it that it is).

    Raises CheckpointError when the description is damaged or a tensor does not fit its member.
    """
    path = archive.path
    tensors = {}
    try:
        description = json.loads(_content(archive, described) or b'{"config": {}}')
        for name, entry in description["config"].items():
            if entry.get("tensor_meta") is None:  # an object of a class of its own
                continue
            member = archive.members[folder + entry["path_name"]]
            if entry["use_pickle"]:
                raise CheckpointError(f"{path}: refused, {name} is pickled. Export the program with plain tensors.")
            tensor = _tensor(entry["tensor_meta"], member.size)
            tensor.check(path=path, name=name)
            tensors[name] = (member.name, tensor)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the description of the weights is damaged ({error!r:.200}).") from error
    return tensors


def _tensor(meta: dict[str, Any], size: int) -> PickledTensor:
    """The view that a TensorMeta describes, of a member of so many bytes."""
    dtype = _DTYPES[meta["dtype"]]
    shape, strides = (tuple(entry["as_int"] for entry in meta[key]) for key in ("sizes", "strides"))
    storage = Storage("", dtype, size // ITEM_BYTES[dtype])
    return PickledTensor(storage, dtype, meta["storage_offset"]["as_int"], shape, strides)
