"""Where Orbax keeps its Zarr arrays: a folder for each, or all in one key-value store (OCDBT)."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from regraft.containers.spans import Span
from regraft.containers.zarr_array import ArrayStore, tensorstore
from regraft.errors import CheckpointError

METADATA = (".zarray", "zarr.json")
MANIFEST = "manifest.ocdbt"
_MOST_FILES = 1_000_000


class Folders(ArrayStore):
    """A folder for each array, named by its keys joined with dots; links out of the checkpoint are not followed."""

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, files_below(path)
        self.size = sum(file.stat().st_size for file in self.files)
        self._keys: dict[str, list[str]] = defaultdict(list)
        homes = {file.parent for file in self.files if file.name in METADATA}
        for file in self.files:
            home = _home(file, homes, path)
            if home is not None:
                self._keys[home.relative_to(path).as_posix()].append(file.relative_to(home).as_posix())

    def names(self) -> list[str]:
        """The arrays."""
        return sorted(self._keys)

    def keys(self, name: str) -> Collection[str]:
        """The files of one array, by their paths in its folder."""
        return self._keys[name]

    def read(self, name: str, key: str) -> bytes:
        """One file."""
        file = self.path / name / key
        return bytes(Span(file, 0, file.stat().st_size).read())

    def spec(self, name: str) -> dict[str, object]:
        """For tensorstore."""
        return {"driver": "file", "path": f"{(self.path / name).resolve()}/"}


class KeyValues(ArrayStore):
    """One store for all arrays. Raises MissingLibraryError without tensorstore."""

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, files_below(path)
        self.size = sum(file.stat().st_size for file in self.files)
        library = tensorstore(path, "it is kept in a key-value store (OCDBT)")
        self._store = self._tried(lambda: library.KvStore.open(self._base()).result())
        self._keys: dict[str, list[str]] = defaultdict(list)
        listed = [
            PurePosixPath(raw.decode("utf-8", "replace")) for raw in self._tried(lambda: self._store.list().result())
        ]
        homes = {key.parent for key in listed if key.name in METADATA}
        for key in listed:
            home = next((parent for parent in key.parents if parent in homes), None)
            if home is not None:
                self._keys[str(home)].append(str(key.relative_to(home)))

    def names(self) -> list[str]:
        """The arrays."""
        return sorted(self._keys)

    def keys(self, name: str) -> Collection[str]:
        """The keys of one array."""
        return self._keys[name]

    def read(self, name: str, key: str) -> bytes:
        """One value."""
        content: bytes = self._tried(lambda: self._store.read(f"{name}/{key}").result().value)
        return content

    def spec(self, name: str) -> dict[str, object]:
        """For tensorstore."""
        return {**self._base(), "path": f"{name}/"}

    def _base(self) -> dict[str, object]:
        return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{self.path.resolve()}/"}}

    def _tried(self, action: Any) -> Any:
        """What the action gives; what tensorstore refuses becomes a CheckpointError."""
        try:
            return action()
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            message = str(error).splitlines()[0][:300]
            raise CheckpointError(f"{self.path}: the key-value store is damaged or cut short: {message}.") from error


def _home(file: Path, homes: Collection[Path], root: Path) -> Path | None:
    """The nearest folder above a file that is an array's, within the checkpoint."""
    for folder in file.parents:
        if folder in homes:
            return folder
        if folder == root:
            break
    return None


def files_below(path: Path) -> list[Path]:
    """All plain files of a folder, sorted. Raises CheckpointError for links: they may lead anywhere."""
    files: list[Path] = []
    for entry in path.rglob("*"):
        if entry.is_symlink():
            raise CheckpointError(
                f"{path}: refused to follow the link {entry.name}: only the folder's own files are read."
            )
        if entry.is_file():
            files.append(entry)
        if len(files) > _MOST_FILES:
            raise CheckpointError(f"{path} holds more than {_MOST_FILES} files. It is not a checkpoint.")
    return sorted(files)
