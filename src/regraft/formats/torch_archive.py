"""The archive that `torch.save` writes since PyTorch 1.6: one pickle, and one member for each storage.

The ground under the readers of `.pt` files and of the chunks of torch.distributed.checkpoint.
"""

from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.containers.pickle_machine import Machine
from regraft.containers.spans import Order, Span
from regraft.containers.zip_archive import ZipArchive
from regraft.errors import CheckpointError
from regraft.formats.torch_pickle import KNOWN, PickledTensor, Storage, storage_of


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
                f"{path}: expected one data.pkl in the archive, found {len(roots)}. It is no torch file."
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
