"""What `torch.save` writes since PyTorch 1.6: a ZIP archive of one pickle and one member for each storage."""

from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ITEM_BYTES, Checkpoint
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickle_machine import Machine
from regraft.formats.state_dicts import ReadTensor, kept_note, open_state_dict
from regraft.formats.stored import Order, Span
from regraft.formats.torch_pickle import KNOWN, PickledTensor, Storage, storage_of
from regraft.formats.zip_archive import ZipArchive

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
        return head.startswith(b"PK\x03\x04") and is_torch

    def open(self, path: Path) -> Checkpoint:
        """The tensors. Each one's values are read from its own storage's place in the archive."""
        archive = ZipArchive(path)
        roots = [name.removesuffix("data.pkl") for name in archive.members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(
                f"{path}: expected one data.pkl in the archive, found {len(roots)}. It is no torch file."
            )
        root = roots[0]
        order: Order = ">" if self._is_big_endian(archive, root) else "<"
        content = bytes(archive.read(archive.members[f"{root}data.pkl"]))
        saved, notes = _load(archive, root, content)
        if any(name.startswith(f"{root}code/") for name in archive.members):
            notes = (_PROGRAM,)
        return open_state_dict(
            path, self.name, saved, _reader(archive, root, order),
            lambda start, size: content[start : start + size], limit=len(content), notes=notes,
        )  # fmt: skip

    @staticmethod
    def _is_big_endian(archive: ZipArchive, root: str) -> bool:
        member = archive.members.get(f"{root}byteorder")
        return member is not None and bytes(archive.read(member)) == b"big"


def _load(archive: ZipArchive, root: str, content: bytes) -> tuple[object, tuple[str, ...]]:
    """(the pickle's object, each storage in it checked against its member; notes)."""

    def persistent(identity: object) -> Storage:
        storage = storage_of(identity)
        member = archive.members.get(f"{root}data/{storage.key}")
        expected = storage.count * ITEM_BYTES[storage.dtype]
        if member is None or member.size != expected:
            got = "is missing" if member is None else f"has {member.size} bytes"
            raise CheckpointError(f"the storage {storage.key} {got}, expected {expected} bytes")
        return storage

    try:
        machine = Machine(content, KNOWN, persistent, keeps=True)
        return machine.load(), kept_note(machine)
    except CheckpointError as error:
        advice = "\nSave `model.state_dict()` instead of the model." if "refused" in str(error) else ""
        raise CheckpointError(f"{archive.path}: {error}.{advice}") from error


def _reader(archive: ZipArchive, root: str, order: Order) -> ReadTensor:
    """Reads a tensor: a whole storage with its checksum, or only the part that a view spans."""

    def read(tensor: PickledTensor, name: str) -> np.ndarray:
        member = archive.members[f"{root}data/{tensor.storage.key}"]
        item = ITEM_BYTES[tensor.dtype]
        first, count = tensor.reach()
        if member.is_deflated or count * item == member.size:
            content = archive.read(member)[first * item : (first + count) * item]
        else:
            # A part of a shared storage: its checksum would need all of it.
            content = Span(archive.path, archive.span(member).offset + first * item, count * item).read()
        return tensor.values(content, order=order)

    return read
