"""Folders of a remote file system, by fsspec."""

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, final

from regraft.stores.place import Chunk, OpenFile, Place, Range

GAP_BYTES = 1 << 20  # of a remote file: reading so much in vain is quicker than another request
SPAN_BYTES = 2 << 20  # of a remote file that one request asks for, where a range is no longer itself
SPANS = 8  # requests at once
_CREATING = Lock()


@final
class RemotePlace(Place):
    """A folder of an fsspec file system. Files appear whole there: object stores put them at once, others by a move."""

    def __init__(self, system: Any, path: str, url: str) -> None:
        self.system, self.path, self.url = system, path.rstrip("/"), url.rstrip("/")

    def where(self, name: str = "") -> str:
        """The URL."""
        return f"{self.url}/{name}" if name else self.url

    def names(self, folder: str = "") -> list[str]:
        """Names in the folder, without those of half-written files."""
        try:
            self.system.invalidate_cache()
            paths = self.system.ls(self._at(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths]
        return sorted(name for name in names if name and not name.startswith("."))

    def size(self, name: str) -> int:
        """Bytes of the file."""
        self.system.invalidate_cache()
        return int(self.system.size(self._at(name)))

    def changed(self, name: str) -> float:
        """As the file system tells it."""
        return float(self.system.modified(self._at(name)).timestamp())

    def read(self, name: str) -> bytes:
        """All bytes."""
        return bytes(self.system.cat_file(self._at(name)))

    def opened(self, name: str) -> "RemoteFile":
        """Nothing is asked for yet."""
        return RemoteFile(self.system, self._at(name))

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Under a hidden name, then moved: on an object store the move is a copy of a complete object."""
        path = self._at(name)
        hidden = self._at(f"{name.rpartition('/')[0]}/.{name.rpartition('/')[2]}.{secrets.token_hex(4)}")
        self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self.system.pipe_file(hidden, b"".join(bytes(memoryview(chunk).cast("B")) for chunk in chunks))
            self.system.mv(hidden, path)
        except BaseException:
            with suppress(OSError):
                self.system.rm(hidden)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """The system's conditional put. Read again, for a system that ignores the condition: the last writer wins."""
        path = self._at(name)
        with _CREATING:  # for systems within this process, which look first and write then
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.system.invalidate_cache()
            try:
                self.system.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return self.read(name) == content

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        self.system.invalidate_cache()
        with suppress(FileNotFoundError):
            self.system.rm(self._at(name), recursive=True)

    def remove_if(self, name: str, content: bytes) -> bool:
        """Compared, then removed: exact among the threads of a process, not among machines."""
        with _CREATING, suppress(FileNotFoundError):
            if self.read(name) == content:
                self.system.rm(self._at(name))
                return True
        return False

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}".rstrip("/")


@final
class RemoteFile(OpenFile):
    """A file of an fsspec file system."""

    def __init__(self, system: Any, path: str) -> None:
        self.system, self.path = system, path

    def read_into(self, buffer: memoryview, ranges: Sequence[Range]) -> int:
        """Ranged requests, some at a time, side by side where the system can; neighbouring ranges share one."""
        waiting, filled = deque(ranges), 0
        while waiting:
            spans = _spans(waiting)
            starts, ends = [first for first, _ in spans], [last for _, last in spans]
            answers = self.system.cat_ranges([self.path] * len(spans), starts, ends, on_error="raise")
            for (start, end), answer in zip(spans, answers, strict=True):
                while waiting and waiting[0][1] <= end:
                    first, last = waiting.popleft()
                    piece = memoryview(answer)[first - start : last - start]
                    buffer[filled : filled + len(piece)] = piece
                    filled += len(piece)
        return filled


def _spans(ranges: Iterable[Range]) -> list[Range]:
    """The first ascending ranges, put together where little lies between them."""
    spans: list[Range] = []
    for first, last in ranges:
        if spans and first - spans[-1][1] <= GAP_BYTES and last - spans[-1][0] <= SPAN_BYTES:
            spans[-1] = (spans[-1][0], last)
        elif len(spans) == SPANS:
            break
        else:
            spans.append((first, last))
    return spans
