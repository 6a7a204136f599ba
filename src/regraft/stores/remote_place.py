"""Folders of a remote file system, by fsspec: object stores by few requests, others by what they have."""

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import Any, final

from regraft.stores.place import Chunk, FileFacts, OpenFile, Place, Range

# Where an object appears whole or not at all, there are no folders to make, and a put can have the condition that the
# object is not there yet: one of several writers wins.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
WRITTEN = ("LastModified", "last_modified", "mtime", "updated", "created")  # the names of a file's time, by the system

GAP_BYTES = 1 << 20  # of a remote file: reading so much in vain is quicker than another request
SPAN_BYTES = 2 << 20  # of a remote file that one request asks for, where a range is no longer itself
SPANS = 8  # requests at once
_CREATING = Lock()


@final
class RemotePlace(Place):
    """A folder of an fsspec file system. Files appear whole there: object stores put them at once, others by a move."""

    def __init__(self, system: Any, path: str, url: str) -> None:
        self.system, self.path, self.url = system, path.rstrip("/"), url.rstrip("/")
        protocol = system.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._excludes: bool | None = True if "memory" in self._protocols else None  # seen by this process alone

    @property
    def is_object_store(self) -> bool:
        """Whether objects appear whole, and one of several writers can win."""
        return bool(self._protocols & OBJECT_STORES)

    def where(self, name: str = "") -> str:
        """The URL."""
        return f"{self.url}/{name}" if name else self.url

    def names(self, folder: str = "") -> list[str]:
        """Names in the folder, without those of half-written files."""
        return sorted(self.files(folder))

    def files(self, folder: str = "") -> dict[str, FileFacts]:
        """By one listing, of which an object store gives a thousand names a request."""
        try:
            self.system.invalidate_cache()
            infos = self.system.ls(self._at(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        named = {str(info["name"]).rstrip("/").rsplit("/", 1)[-1]: info for info in infos}
        return {
            name: FileFacts(int(info.get("size") or 0), _written(info))
            for name, info in named.items()
            if name and not name.startswith(".")
        }

    def size(self, name: str) -> int:
        """Bytes of the file."""
        self.system.invalidate_cache()
        return int(self.system.size(self._at(name)))

    def changed(self, name: str) -> float:
        """As the file system tells it."""
        return float(self.system.modified(self._at(name)).timestamp())

    def read(self, name: str) -> bytes:
        """All bytes, by one request: without a start some systems ask for the size first."""
        return bytes(self.system.cat_file(self._at(name), start=0))

    def opened(self, name: str) -> "RemoteFile":
        """Nothing is asked for yet."""
        return RemoteFile(self.system, self._at(name))

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """At once on an object store; elsewhere under a hidden name, then moved."""
        path = self._at(name)
        content = b"".join(bytes(memoryview(chunk).cast("B")) for chunk in chunks)
        if self.is_object_store:
            self.system.pipe_file(path, content)
            return
        hidden = self._at(f"{name.rpartition('/')[0]}/.{name.rpartition('/')[2]}.{secrets.token_hex(4)}")
        self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self.system.pipe_file(hidden, content)
            self.system.mv(hidden, path)
        except BaseException:
            with suppress(OSError):
                self.system.rm(hidden)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """By a conditional put on an object store. Others look first and write then: exact among threads."""
        path = self._at(name)
        if self.is_object_store:
            return self._put_new(path, content)
        with _CREATING:
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.system.invalidate_cache()
            if not self._put_new(path, content):
                return False
        return self.read(name) == content  # a system that ignores the condition: the last writer wins

    def _put_new(self, path: str, content: bytes) -> bool:
        try:
            self.system.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # Two at once: S3 answers 412 to the later one, or 409 while the other is not done yet.
            if any(word in str(error) for word in ("PreconditionFailed", "ConditionalRequestConflict")):
                return False
            raise
        return True

    def excludes(self) -> bool:
        """Asked of an object store once: a server that ignores the condition makes a file that is there again."""
        if self._excludes is None:
            probe = f"leases/.probe-{secrets.token_hex(8)}"
            self._excludes = self.is_object_store and self.create(probe, b"first") and not self.create(probe, b"again")
            if self.is_object_store:
                self.remove_file(probe)
        return self._excludes

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        self.system.invalidate_cache()
        with suppress(FileNotFoundError):
            self.system.rm(self._at(name), recursive=True)

    def remove_file(self, name: str) -> None:
        """By one request."""
        with suppress(FileNotFoundError):
            self.system.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}".rstrip("/")


def _written(info: dict[str, Any]) -> float:
    """When a file was written, in seconds since 1970; 0.0 where the listing does not say."""
    value = next((info[name] for name in WRITTEN if info.get(name) is not None), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return float(value.timestamp() if isinstance(value, datetime) else value)


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
