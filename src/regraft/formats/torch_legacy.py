"""What `torch.save` wrote before PyTorch 1.6, and writes on request: pickles one after the other, then raw storages.

Source: torch/serialization.py, `_legacy_save` and `_legacy_load`.
"""

from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES, Checkpoint
from regraft.containers.pickle_machine import Machine
from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickled_arrays import kept_note
from regraft.formats.state_dicts import open_state_dict
from regraft.formats.torch_pickle import KNOWN, PickledTensor, Storage, storage_of

MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")  # the number 0x1950a86a20f9469cfc6c as a pickle writes it
_NUMBER_BY = 32  # protocols 4 and 5 put the size of a frame before the number
_PROTOCOL = 1001
_TAR_MEMBERS = ("sys_info", "pickle", "storages", "tensors")


@final
class TorchLegacy(Format):
    """A `.pt` or `.pth` that is no archive; read without torch and without executing anything."""

    name = "torch-legacy"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file begins with torch's number, or is the tar archive of torch 0.1."""
        return MAGIC in head[:_NUMBER_BY] or _is_tar(head)

    def open(self, path: Path) -> Checkpoint:
        """The tensors. Each one's values are read from its own storage's place in the file."""
        content = mapped(path)
        if _is_tar(content[:512]):
            raise CheckpointError(
                f"{path} is in the tar form of torch 0.1 (2017), which is not supported.\n"
                "Load and save it once with torch: torch.save(torch.load(FILE), NEW)."
            )
        storages: dict[str, Storage] = {}
        machine = Machine(content, KNOWN, lambda identity: _storage(identity, storages), keeps=True)
        try:
            root = _root(machine)
            places = _places(machine, storages)
        except CheckpointError as error:
            advice = "\nSave `model.state_dict()` instead of the model." if "refused" in str(error) else ""
            raise CheckpointError(f"{path}: {error}.{advice}") from error
        limit = len(content)

        def read(tensor: PickledTensor, name: str) -> np.ndarray:
            first, count = tensor.reach()
            item = ITEM_BYTES[tensor.dtype]
            span = Span(path, places[tensor.storage.key] + first * item, count * item)
            return tensor.values(span.read(), order="<")

        return open_state_dict(
            path,
            self.name,
            root,
            read,
            lambda start, size: Span(path, start, size).read(),
            limit=limit,
            notes=kept_note(tuple(machine.kept)),
        )


def _is_tar(head: bytes) -> bool:
    """Whether it is a tar archive whose first member is one of torch's."""
    return head[257:262] == b"ustar" and head[:100].rstrip(b"\0").decode("latin1").removeprefix("./") in _TAR_MEMBERS


def _storage(identity: object, storages: dict[str, Storage]) -> Any:
    """The storage that a persistent id names, kept in `storages`. A view of another storage is refused."""
    if isinstance(identity, tuple) and identity[:1] == ("module",):
        return identity[1]  # a class and its source code: refused by its name when the pickle ends
    if isinstance(identity, tuple) and len(identity) > 5 and identity[5] is not None:
        raise TypeError("a storage is a view of another one, as torch wrote before 0.4")
    storage = storage_of(identity)
    if storages.setdefault(storage.key, storage) != storage:
        raise TypeError(f"the storage {storage.key} is named with two sizes or dtypes")
    return storage


def _root(machine: Machine) -> Any:
    """The saved object, after the three small pickles before it are found to be as expected."""
    number, protocol, system = machine.load(), machine.load(), machine.load()
    if number != 0x1950A86A20F9469CFC6C or protocol != _PROTOCOL or not isinstance(system, dict):
        got = protocol if type(protocol) is int and protocol.bit_length() < 64 else "another object"
        raise CheckpointError(f"protocol {got}, expected {_PROTOCOL}: it is damaged or of another torch")
    if system.get("little_endian") is not True:
        raise CheckpointError("it was written on a big-endian machine, which is not supported")
    return machine.load()


def _places(machine: Machine, storages: dict[str, Storage]) -> dict[str, int]:
    """key → where its numbers begin: each storage is its count (8 bytes) and its numbers, in the order of the keys."""
    keys = machine.load()
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(storages):
        raise CheckpointError("the list of storages does not fit the tensors: it is damaged")
    return {key: _place(machine, storages[key]) for key in keys}


def _place(machine: Machine, storage: Storage) -> int:
    """Where the numbers of the next storage begin; the machine then stands behind them."""
    left = len(machine.data) - machine.position
    count = machine.number("<q", 8) if left >= 8 else -1
    size = storage.count * ITEM_BYTES[storage.dtype]
    if count != storage.count or size > left - 8:
        raise CheckpointError(
            f"the storage {storage.key} should hold {storage.count} numbers of {storage.dtype}, the file has "
            f"{max(left - 8, 0)} bytes left and records {count}: it is truncated or damaged"
        )
    machine.position += size
    return machine.position - size
