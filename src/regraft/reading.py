"""Open a checkpoint: find out what it is, by content, and give its named arrays."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from regraft.arrays import Checkpoint
from regraft.errors import CheckpointError, near_names
from regraft.formats import FORMATS
from regraft.formats.format import HEAD_BYTES, Format

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
        raise _unknown(target, readers)
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


def _unknown(path: Path, readers: Sequence[Format]) -> CheckpointError:
    """Why a path that nobody recognises cannot be opened, and what to do."""
    if not path.exists():
        folder = path.parent
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        there = f"In {folder}: {near_names(path.name, names)}" if names else f"The folder {folder} is empty or missing."
        return CheckpointError(f"There is no checkpoint {path}. {there}")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return CheckpointError(f"{path} {_what_it_is(head)}\nKnown formats: {_known(readers)}.")


def _what_it_is(head: bytes) -> str:
    """A sentence on files that people take for checkpoints."""
    if not head:
        return "is empty. The download was probably broken off: fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "is only a Git LFS pointer, not the checkpoint. Fetch the file itself: git lfs pull."
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a checkpoint. The download gave an error or a login page: fetch it again."
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return "is a compressed file. Unpack it first."
    if head[257:262] == b"ustar":
        return "is a tar archive. Unpack it first."
    return f"is of no known format; it begins with {head[:16]!r}."


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:20]) + (f", … ({len(paths) - 20} more)" if len(paths) > 20 else "")


def _known(readers: Sequence[Format]) -> str:
    return ", ".join(reader.name for reader in readers)
