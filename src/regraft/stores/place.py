"""The contract of a place: a folder, here or remote, with the few verbs that a folder store needs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Chunk = bytes | memoryview
Range = tuple[int, int]  # first byte, and the byte after the last one


class FileFacts(NamedTuple):
    """What a listing tells of a file: its bytes, and when it was written, in seconds since 1970."""

    size: int
    changed: float


class Place(ABC):
    """Files under one root, by their names relative to it ("parts/p1.json"). Raises OSError as the system gives it."""

    @abstractmethod
    def where(self, name: str = "") -> str:
        """The full path or URL, for people."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """The names of the files and folders directly in `folder`, sorted; none when it does not exist."""

    @abstractmethod
    def files(self, folder: str = "") -> dict[str, FileFacts]:
        """The same names with what a listing tells of each, so that nobody has to ask for every file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """The file's bytes. Raises FileNotFoundError."""

    @abstractmethod
    def changed(self, name: str) -> float:
        """When the file was written, in seconds since 1970 by the place's clock. Raises FileNotFoundError."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    @abstractmethod
    def opened(self, name: str) -> "OpenFile":
        """The file, to read parts of it. Raises FileNotFoundError, now or when it is read."""

    @abstractmethod
    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Write the file whole: a reader sees nothing or all of it, and a crash leaves nothing or all of it."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless it is there; whether this call made it. Of several callers at once one wins."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file or the folder with all in it; nothing when it is not there."""

    @abstractmethod
    def remove_file(self, name: str) -> None:
        """Remove the file; nothing when it is not there."""

    @abstractmethod
    def excludes(self) -> bool:
        """Whether `create` lets one win of several machines: else a lease may have two owners."""

    def sweep(self, folder: str) -> None:  # noqa: B027 a place may leave nothing half-written
        """Remove what writers that no longer run have left half-written in the folder."""


class OpenFile(ABC):
    """A file of a place, to read parts of it."""

    @abstractmethod
    def read_into(self, buffer: memoryview, ranges: Sequence[Range]) -> int:
        """Fill the buffer with these ranges of the file, one after the other; how many bytes there were.

        Fewer than asked for when the file ends before. Ranges are ascending and do not overlap.
        """

    def stamp(self) -> Any:  # noqa: B027 None is an answer
        """A value that is another one after the file was written to; always the same where that cannot be told."""
