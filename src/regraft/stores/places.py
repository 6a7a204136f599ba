"""Places: a folder on this machine or a remote one, with the few verbs that a folder store needs."""

import errno
import hashlib
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, final

from regraft.errors import CacheError
from regraft.files import sync_folder
from regraft.stores.processes import machine, started

Chunk = bytes | memoryview
Range = tuple[int, int]  # first byte, and the byte after the last one

# What systems say that cannot link files (FAT, some network folders).
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
OPEN_FILES = 64  # that a place keeps open for reading: a cache may have more shards than a process may open
GAP_BYTES = 1 << 20  # of a remote file: reading so much in vain is quicker than another request
SPAN_BYTES = 2 << 20  # of a remote file that one request asks for, where a range is no longer itself
SPANS = 8  # requests at once


class Place(ABC):
    """Files under one root, by their names relative to it ("parts/p1.json"). Raises OSError as the system gives it."""

    @abstractmethod
    def where(self, name: str = "") -> str:
        """The full path or URL, for people."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """The names of the files and folders directly in `folder`, sorted; none when it does not exist."""

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


@final
class LocalPlace(Place):
    """A folder of this machine.

    Files are read, not mapped: the pages of a mapped file count as this process's own memory, and one that is cut
    short meanwhile ends the process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened = lru_cache(OPEN_FILES)(self._open)

    def __reduce__(self) -> tuple:
        return LocalPlace, (self.root,)

    def where(self, name: str = "") -> str:
        """The path."""
        return str(self.root / name)

    def names(self, folder: str = "") -> list[str]:
        """Names in the folder, without those of half-written files."""
        try:
            return sorted(entry.name for entry in (self.root / folder).iterdir() if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int:
        """Bytes of the file."""
        return (self.root / name).stat().st_size

    def changed(self, name: str) -> float:
        """The file's time of modification."""
        return (self.root / name).stat().st_mtime

    def read(self, name: str) -> bytes:
        """All bytes."""
        return (self.root / name).read_bytes()

    def opened(self, name: str) -> "LocalFile":
        """The file, which stays open for the next time."""
        return self._opened(name, os.getpid())

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Temporary file beside it → fsync → rename → fsync of the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp: it makes files that only their owner may read, and caches are shared by a group.
        temporary = self._temporary(path)
        try:
            with temporary.open("xb", buffering=0) as file:
                for chunk in chunks:
                    _write_all(file, memoryview(chunk).cast("B"))
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._opened.cache_clear()
        sync_folder(path.parent)

    def create(self, name: str, content: bytes) -> bool:
        """Exclusive creation by the file system, whole at once: who finds the file finds its content."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(path)
        try:
            temporary.write_bytes(content)
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_in_two_steps(path, content)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def sweep(self, folder: str) -> None:
        """Remove what writers of this machine that no longer run have left half-written in the folder."""
        here = _machine_tag()
        for path in self.root.joinpath(folder).glob(f".*.{here}-*"):
            number = path.name.rpartition(f".{here}-")[2].partition("-")[0]
            if number.isdecimal() and not started(int(number)):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _temporary(self, path: Path) -> Path:
        """A hidden name beside the file that tells whose it is."""
        return path.with_name(f".{path.name}.{_machine_tag()}-{os.getpid()}-{secrets.token_hex(4)}")

    def remove(self, name: str) -> None:
        """Remove a file or a folder; a folder vanishes from sight at once."""
        path = self.root / name
        if path.is_dir():
            hidden = self._temporary(path)
            path.rename(hidden)  # at once: nobody opens an entry of which half the parts are gone
            shutil.rmtree(hidden)
        else:
            path.unlink(missing_ok=True)
        self._opened.cache_clear()

    def _open(self, name: str, _process: int) -> "LocalFile":
        """Each process opens files of its own: a forked one would share the place where the next read begins."""
        return LocalFile(self.root / name)


@final
class LocalFile(OpenFile):
    """A file that is open until nobody uses it; threads take turns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = Lock()

    def read_into(self, buffer: memoryview, ranges: Sequence[Range]) -> int:
        """One read for each range."""
        at = 0
        with self._lock:
            for first, last in ranges:
                self._file.seek(first)
                end = at + last - first
                while at < end and (count := self._file.readinto(buffer[at:end])):
                    at += count
        return at

    def stamp(self) -> Any:
        """Size and times as the system notes them; of a change it makes the note by itself."""
        told = os.fstat(self._file.fileno())
        return told.st_size, told.st_mtime_ns, told.st_ctime_ns

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def place_of(root: str | Path) -> Place:
    """The place of a path, or of a URL that fsspec knows: "s3://bucket/features", "memory://features" …

    Raises CacheError when fsspec is not installed or does not know the URL.
    """
    text = str(root)
    if "://" not in text:
        return LocalPlace(Path(root).expanduser())
    try:
        import fsspec
    except ImportError as error:
        raise CacheError(
            f"{text} is a remote folder; reading it needs fsspec: pip install 'regraft[remote]'"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise CacheError(f"fsspec cannot open {text}: {error}") from error
    return RemotePlace(system, path, text)


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
            found = [
                str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.system.ls(self._at(folder), detail=False)
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name and not name.startswith("."))

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
        """Best effort: where the system cannot create exclusively, two callers may both win, and both do the work."""
        path = self._at(name)
        self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.system.invalidate_cache()
        if self.system.exists(path):
            return False
        self.system.pipe_file(path, content)
        return True

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        self.system.invalidate_cache()
        with suppress(FileNotFoundError):
            self.system.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}".rstrip("/")


@final
class RemoteFile(OpenFile):
    """A file of an fsspec file system."""

    def __init__(self, system: Any, path: str) -> None:
        self.system, self.path = system, path

    def read_into(self, buffer: memoryview, ranges: Sequence[Range]) -> int:
        """Ranged requests, some at a time, side by side where the system can; neighbouring ranges share one."""
        waiting, at = deque(ranges), 0
        while waiting:
            spans = _spans(waiting)
            starts, ends = [first for first, _ in spans], [last for _, last in spans]
            answers = self.system.cat_ranges([self.path] * len(spans), starts, ends, on_error="raise")
            for (start, end), answer in zip(spans, answers, strict=True):
                while waiting and waiting[0][1] <= end:
                    first, last = waiting.popleft()
                    piece = memoryview(answer)[first - start : last - start]
                    buffer[at : at + len(piece)] = piece
                    at += len(piece)
        return at


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


def _machine_tag() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def _create_in_two_steps(path: Path, content: bytes) -> bool:
    """For file systems without links: a crash between the two leaves an empty file."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _write_all(file: Any, view: memoryview) -> None:
    """Unbuffered writes may take a part only."""
    while view:
        view = view[file.write(view) :]
