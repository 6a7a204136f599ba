"""Places by their path or URL, and folders of this machine."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, final

from regraft.errors import CacheError
from regraft.foundation.files import sync_folder
from regraft.stores.place import Chunk, FileFacts, OpenFile, Place, Range
from regraft.stores.processes import machine, started
from regraft.stores.remote_place import RemotePlace

# What systems say that cannot link files (FAT, some network folders).
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
OPEN_FILES = 64  # that a place keeps open for reading: a cache may have more shards than a process may open


@final
class LocalPlace(Place):
    """A folder of this machine.

    Files are read, not mapped: the pages of a mapped file count as this process's own memory, and one that is cut
    short meanwhile ends the process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened = lru_cache(OPEN_FILES)(self._open)

    def __reduce__(self) -> tuple[Any, ...]:
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

    def files(self, folder: str = "") -> dict[str, FileFacts]:
        """As the system keeps them beside the names."""
        try:
            entries = [entry for entry in os.scandir(self.root / folder) if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        facts = dict[str, FileFacts]()
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                stat = entry.stat()
                facts[entry.name] = FileFacts(stat.st_size, stat.st_mtime)
        return facts

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
        if path.is_dir() and not path.is_symlink():
            hidden = self._temporary(path)
            path.rename(hidden)  # at once: nobody opens an entry of which half the parts are gone
            shutil.rmtree(hidden)
        else:
            path.unlink(missing_ok=True)
        self._opened.cache_clear()

    def remove_file(self, name: str) -> None:
        """Unlinked."""
        (self.root / name).unlink(missing_ok=True)
        self._opened.cache_clear()

    def excludes(self) -> bool:
        """A link or an exclusive creation has one winner, on network file systems too."""
        return True

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
        filled = 0
        with self._lock:
            for first, last in ranges:
                self._file.seek(first)
                end = filled + last - first
                while filled < end and (count := self._file.readinto(buffer[filled:end])):
                    filled += count
        return filled

    def stamp(self) -> Any:
        """Size and times as the system notes them; of a change it makes the note by itself."""
        stat = os.fstat(self._file.fileno())
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

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
    if isinstance(system, fsspec.get_filesystem_class("file")):
        return LocalPlace(Path(path))
    return RemotePlace(system, path, text)


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
