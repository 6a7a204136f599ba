"""The contract of a reader: bytes of one format → named arrays."""

from abc import ABC, abstractmethod
from pathlib import Path

from regraft.arrays import Checkpoint

HEAD_BYTES = 4096


class Format(ABC):
    """One checkpoint format. Subclasses are final, hold no state, and import foreign libraries inside `open`.

    name    as printed by `regraft show`, unique among the formats
    layout  whose axis orders its arrays follow unless the file tells otherwise; None when nothing is known

    Prove an own format by inheriting `regraft.testing.FormatContract`.
    """

    name: str
    layout: str | None = None

    @abstractmethod
    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether `path` is of this format, judged by content and never by suffix alone.

        path  what the user named: a file, a folder, or a prefix of files (TensorFlow)
        head  the file's first bytes, at most HEAD_BYTES; b"" when `path` is not a file

        Never raises: what cannot be judged is not recognised.
        """

    @abstractmethod
    def open(self, path: Path) -> Checkpoint:
        """The checkpoint, with names, shapes and dtypes read and no values.

        Allocates no more than the file holds, whatever its headers claim, and executes nothing from it.
        Raises CheckpointError that names the file and what was refused or damaged.
        """
