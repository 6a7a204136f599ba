"""What `torch.save` writes since PyTorch 1.6: a ZIP archive of one pickle and one member for each storage."""

from pathlib import Path
from typing import final

from regraft.arrays import Checkpoint
from regraft.formats.format import Format
from regraft.formats.state_dicts import kept_note, open_state_dict
from regraft.formats.torch_archive import TorchArchive

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
            limit=len(content), notes=(_PROGRAM,) if archive.is_program else kept_note(archive.machine),
        )  # fmt: skip
