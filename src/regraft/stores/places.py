"""Places: a folder on this machine or a remote one, with the few verbs that a folder store needs."""

import mmap
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.errors import CacheError
from regraft.files import sync_folder

Chunk = bytes | memoryview


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
    def view(self, name: str, start: int, stop: int) -> np.ndarray:
        """The bytes start … stop - 1 as uint8, without a copy where the place allows it; fewer when it ends before."""

    @abstractmethod
    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Write the file whole: a reader sees nothing or all of it, and a crash leaves nothing or all of it."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless it is there; whether this call made it. Of several callers at once one wins."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file or the folder with all in it; nothing when it is not there."""

    def forget(self) -> None:  # noqa: B027 only mapped files have pages to give back
        """Give memory back that viewing has filled."""


@final
class LocalPlace(Place):
    """A folder of this machine; files are mapped into memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._maps: dict[str, mmap.mmap] = {}

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

    def view(self, name: str, start: int, stop: int) -> np.ndarray:
        """A part of the mapped file."""
        if name not in self._maps:
            with (self.root / name).open("rb") as file:
                # ACCESS_COPY: a caller that writes by mistake changes its own memory, never the file.
                self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        mapped = self._maps[name]
        stop = min(stop, len(mapped))
        return np.frombuffer(mapped, np.uint8, max(0, stop - start), min(start, stop))

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Temporary file beside it → fsync → rename → fsync of the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp: it makes files that only their owner may read, and caches are shared by a group.
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
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
        self._maps.pop(name, None)
        sync_folder(path.parent)

    def create(self, name: str, content: bytes) -> bool:
        """Exclusive creation by the file system."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file or a folder; a folder vanishes from sight at once."""
        path = self.root / name
        if path.is_dir():
            import shutil

            hidden = path.with_name(f".{path.name}.removed-{secrets.token_hex(4)}")
            path.rename(hidden)  # at once: nobody opens an entry of which half the parts are gone
            shutil.rmtree(hidden)
        else:
            path.unlink(missing_ok=True)
        for mapped in [mapped for mapped in self._maps if mapped == name or mapped.startswith(f"{name}/")]:
            self._maps.pop(mapped)

    def forget(self) -> None:
        """Tell the system that the pages read so far are not needed; they are read again when they are."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)


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

    def view(self, name: str, start: int, stop: int) -> np.ndarray:
        """A ranged request."""
        return np.frombuffer(bytearray(self.system.cat_file(self._at(name), start=start, end=stop)), np.uint8)

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


def _write_all(file: Any, view: memoryview) -> None:
    """Unbuffered writes may take a part only."""
    while view:
        view = view[file.write(view) :]
