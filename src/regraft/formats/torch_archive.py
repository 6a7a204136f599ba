"""The archive that `torch.save` writes since PyTorch 1.6: one pickle, and one member for each storage.

The ground under the readers of `.pt` files and of the chunks of torch.distributed.checkpoint.
"""

from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES, Checkpoint
from regraft.containers.pickle_machine import Machine
from regraft.containers.spans import Order, Span
from regraft.containers.zip_archive import ZipArchive
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickled_arrays import kept_note
from regraft.formats.state_dicts import open_state_dict
from regraft.formats.torch_pickle import KNOWN, PickledTensor, Storage, storage_of

_PROGRAM = "The file is a TorchScript program: its weights are read, and nothing of it is executed."


@final
class TorchZip(Format):
    """A `.pt` or `.pth`: a state dict, nested or not; read without torch and without executing anything."""

    name = "torch"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is an archive whose first member is a torch pickle (or, from torch.jit, belongs to one)."""
        size = int.from_bytes(head[26:28], "little")
        name = head[30 : 30 + size]
        is_torch = name.endswith((b"/data.pkl", b"/version", b"/byteorder")) or b"/code/" in name or b"/data/" in name
        return head.startswith(b"PK\x03\x04") and is_torch and b"/data/weights/" not in name  # torch.export's

    def open(self, path: Path) -> Checkpoint:
        """The tensors. Each one's values are read from its own storage's place in the archive."""
        archive = TorchArchive(path)
        content = archive.content
        return open_state_dict(
            path, self.name, archive.saved, archive.read_tensor, lambda start, size: content[start : start + size],
            limit=len(content), notes=(_PROGRAM,) if archive.is_program else kept_note(tuple(archive.machine.kept)),
        )  # fmt: skip


@final
class TorchArchive:
    """One archive: `saved` is what was saved, its tensors still unread.

    whole     where the archive lies, when it is only a part of the file
    content   the bytes of the pickle
    machine   the machine that ran it

    Raises CheckpointError when it is no archive of torch's, is damaged, or asks to run code.
    """

    def __init__(self, path: Path, whole: Span | None = None) -> None:
        self.path = path
        self.archive = ZipArchive(path, whole)
        roots = [name.removesuffix("data.pkl") for name in self.archive.members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(
                f"{path}: expected one data.pkl in the archive, found {len(roots)}. It is not a torch file."
            )
        self.root = roots[0]
        self._order: Order = ">" if self._is_big_endian() else "<"
        self.content = bytes(self.archive.read(self.archive.members[f"{self.root}data.pkl"]))
        self.machine = Machine(self.content, KNOWN, self._storage, keeps=True)
        try:
            self.saved: Any = self.machine.load()
        except CheckpointError as error:
            advice = "\nSave `model.state_dict()` instead of the model." if "refused" in str(error) else ""
            raise CheckpointError(f"{path}: {error}.{advice}") from error

    @property
    def is_program(self) -> bool:
        """Whether torch.jit wrote it."""
        return any(name.startswith(f"{self.root}code/") for name in self.archive.members)

    def read_tensor(self, tensor: PickledTensor, name: str) -> np.ndarray:
        """The values: of a whole storage with its checksum, or only the part that a view spans.  name  for messages"""
        member = self.archive.members[f"{self.root}data/{tensor.storage.key}"]
        item = ITEM_BYTES[tensor.dtype]
        first, count = tensor.reach()
        if member.is_deflated or count * item == member.size:
            content = self.archive.read(member)[first * item : (first + count) * item]
        else:
            # A part of a shared storage: its checksum would need all of it.
            content = Span(self.path, self.archive.span(member).offset + first * item, count * item).read()
        return tensor.values(content, order=self._order)

    def _is_big_endian(self) -> bool:
        member = self.archive.members.get(f"{self.root}byteorder")
        return member is not None and bytes(self.archive.read(member)) == b"big"

    def _storage(self, identity: object) -> Storage:
        """The storage that a persistent id names, checked against its member."""
        storage = storage_of(identity)
        member = self.archive.members.get(f"{self.root}data/{storage.key}")
        expected = storage.count * ITEM_BYTES[storage.dtype]
        if member is None or member.size != expected:
            got = "is missing" if member is None else f"has {member.size} bytes"
            raise CheckpointError(f"the storage {storage.key} {got}, expected {expected} bytes")
        return storage
