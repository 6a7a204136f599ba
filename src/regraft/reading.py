"""Open a checkpoint: find out what it is, by content, and give its named arrays."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from regraft.arrays import Checkpoint
from regraft.errors import CheckpointError
from regraft.formats import FORMATS
from regraft.formats.format import HEAD_BYTES, Format
from regraft.formats.index_of_shards import INDEX_SUFFIX, is_shard, open_index
from regraft.formats.unknown import unknown

_MOST_FILES = 1000  # of a folder that are looked at


def open_checkpoint(path: str | PathLike[str], *, formats: Sequence[Format] | None = None) -> Checkpoint:
    """The named arrays of a checkpoint of any known framework; only names, shapes and dtypes are read.

    path      a file; a folder that holds one checkpoint; or the prefix of a TensorFlow checkpoint's files
    formats   the readers to choose from; None is all of `regraft.formats.FORMATS`. Own readers: `(*FORMATS, Mine())`

    Nothing of the file is executed. Raises CheckpointError when there is no such file, its format is unknown, several
    readers or several files are possible, or the file is damaged or refused.
    """
    target = Path(path).expanduser()
    readers = FORMATS if formats is None else tuple(formats)
    matches = _matches(target, readers)
    if not matches and target.is_dir():
        target, matches = _only_checkpoint_in(target, readers)
    if len(matches) > 1:
        names = ", ".join(reader.name for reader in matches)
        raise CheckpointError(
            f"{target} can be read as {len(matches)} formats: {names}.\n"
            "Choose the reader: open_checkpoint(path, formats=[…]) with one of regraft.formats."
        )
    if not matches:
        if target.name.endswith(INDEX_SUFFIX) and target.is_file():
            return open_index(target, lambda shard: open_checkpoint(shard, formats=readers))
        raise unknown(target, _known(readers))
    return _opened(target, matches[0])


def _opened(path: Path, reader: Format) -> Checkpoint:
    """The reader's checkpoint; what the system refuses becomes a CheckpointError."""
    try:
        return reader.open(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as {reader.name}: {error.strerror or error}.") from error


def _matches(path: Path, readers: Sequence[Format]) -> list[Format]:
    """The readers that recognise the path."""
    head = b""
    if path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    return [reader for reader in readers if reader.recognises(path, head)]


def _only_checkpoint_in(folder: Path, readers: Sequence[Format]) -> tuple[Path, list[Format]]:
    """(the one file of the folder that is a checkpoint, its readers). Raises when there are several or none."""
    files = sorted(path for path in folder.iterdir() if path.is_file())[:_MOST_FILES]
    found = {path: matches for path in files if (matches := _matches(path, readers))}
    indexes = [path for path in files if path.name.endswith(INDEX_SUFFIX)]
    if len(indexes) == 1 and found and all(is_shard(path, indexes[0]) for path in found):
        return indexes[0], []
    if not found:
        listed = f"It holds: {_listed(files)}." if files else "It holds no files."
        raise CheckpointError(
            f"{folder} is a folder without a checkpoint that can be read. {listed}\n"
            f"Name the file itself. Known formats: {_known(readers)}."
        )
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} holds {len(found)} checkpoints: {_listed(list(found))}.\nOpen one of them by its name."
        )
    return next(iter(found.items()))


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:20]) + (f", … ({len(paths) - 20} more)" if len(paths) > 20 else "")


def _known(readers: Sequence[Format]) -> str:
    return ", ".join(reader.name for reader in readers)
