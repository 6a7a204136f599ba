"""Open a checkpoint: find out by content which format it has, and give its named arrays."""

from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path

from regraft.arrays import Checkpoint
from regraft.errors import CheckpointError
from regraft.formats.format import HEAD_BYTES, Format
from regraft.formats.hub_files import hub_file, is_hub_name
from regraft.formats.index_of_shards import INDEX_SUFFIX, is_shard, join_shards, read_index
from regraft.formats.readers import FORMATS
from regraft.formats.unknown import unknown
from regraft.foundation.wording import counted

_MOST_FILES = 1000  # of a folder that are looked at
_PREFERRED_INDEX = ".safetensors" + INDEX_SUFFIX  # a folder may hold the same weights in several forms


def open_checkpoint(path: str | PathLike[str], *, formats: Sequence[Format] | None = None) -> Checkpoint:
    """The named arrays of a checkpoint of any known framework; only names, shapes and dtypes are read.

    path      a file; a folder that holds one checkpoint; the prefix of a TensorFlow checkpoint's files; or hf:ID or
              timm:NAME for weights that these libraries have downloaded (an absent one is not downloaded)
    formats   the readers to choose from; None is all of `regraft.formats.readers.FORMATS`. For a reader of your own
              pass `(*FORMATS, Mine())`

    Nothing in the file is executed. Raises CheckpointError when there is no such file, its format is unknown, several
    readers or several files are possible, or the file is damaged or refused.
    """
    target = hub_file(str(path)) if is_hub_name(str(path)) and not Path(path).exists() else Path(path).expanduser()
    readers = FORMATS if formats is None else tuple(formats)
    if target.exists() and not target.is_file() and not target.is_dir():  # a named pipe would be waited for
        raise CheckpointError(f"{target} is neither a file nor a folder.")
    matches = _matches(target, readers)
    if not matches and target.is_dir():
        target, matches = _only_checkpoint_in(target, readers)
    if len(matches) > 1:
        raise _ambiguous(target, matches)
    if matches:
        return _opened(target, matches[0])
    if target.name.endswith(INDEX_SUFFIX) and target.is_file():
        return _open_shards(target, readers)
    raise unknown(target, _known(readers))


def _open_shards(index: Path, readers: Sequence[Format]) -> Checkpoint:
    """The checkpoint whose shards the index lists; each shard may have any format."""
    weight_map = read_index(index)
    files = sorted(set(weight_map.values()))
    return join_shards(
        index, weight_map, {file: open_checkpoint(index.parent / file, formats=readers) for file in files}
    )


def _ambiguous(path: Path, matches: Sequence[Format]) -> CheckpointError:
    """The error for a path that several readers recognise."""
    index = path.with_name(f"{path.name}.index")
    file_hint = (
        f"The name stands for two checkpoints: open {index.name} for the one of format V2, or move "
        f"{index.name} to another folder to open the file {path.name} itself.\n"
    )  # fmt: skip
    return CheckpointError(
        f"{path} can be read as {len(matches)} formats: {', '.join(reader.name for reader in matches)}.\n"
        + (file_hint if index.is_file() else "")
        + "In Python, pass one reader: open_checkpoint(path, formats=[reader])."
    )


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
    """(the one checkpoint of the folder, its readers); no readers for an index of shards.

    Raises CheckpointError when there are several or none.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())[:_MOST_FILES]
    preferred = [path for path in files if path.name.endswith(_PREFERRED_INDEX)]
    if preferred:
        return _only_one_of(folder, preferred), []
    matches = {path: recognising for path in files if (recognising := _matches(path, readers))}
    index = _index_of_all(files, matches)
    if index is not None:
        return index, []
    if not matches:
        raise CheckpointError(
            f"{folder} is a folder without a checkpoint that can be read. "
            + (f"It holds: {_listed(files)}." if files else "It holds no files.")
            + f"\nKnown formats: {_known(readers)}."
        )
    only = _only_one_of(folder, list(matches))
    return only, matches[only]


def _only_one_of(folder: Path, files: Sequence[Path]) -> Path:
    """The one file. Raises CheckpointError when there are several."""
    if len(files) > 1:
        raise _several(folder, files)
    return files[0]


def _index_of_all(files: Sequence[Path], checkpoints: Collection[Path]) -> Path | None:
    """The folder's one index of shards, when all checkpoints of the folder are its shards."""
    indexes = [path for path in files if path.name.endswith(INDEX_SUFFIX)]
    is_whole = len(indexes) == 1 and bool(checkpoints) and all(is_shard(path, indexes[0]) for path in checkpoints)
    return indexes[0] if is_whole else None


def _several(folder: Path, files: Sequence[Path]) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds {counted(len(files), 'checkpoint')}: {_listed(files)}.\nOpen one of them by its name."
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:20]) + (f", … ({len(paths) - 20} more)" if len(paths) > 20 else "")


def _known(readers: Sequence[Format]) -> str:
    return ", ".join(reader.name for reader in readers)
