"""Files that are whole or not there: atomic writes, whole folders, hashes."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from regraft.errors import Advice, SaveError
from regraft.foundation.wording import listed

NAMED = 6  # entries of a folder that an error lists


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (a rename, say) survive a power cut, where the system can."""
    with suppress(OSError):  # some remote and Windows file systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write the file so that a reader sees the old content or the new one, never a part. As `atomic_file`."""
    with atomic_file(path) as file:
        file.write(utf8(content) if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """An open file that becomes `path` when the block ends well, and vanishes when it does not.

    Its folder is created where it is missing. Temporary file beside it → fsync → rename → fsync of the folder.
    Raises OSError with the system's reason and the name of this file; the old file is then untouched.
    """
    # Not mkstemp: it makes files that only their owner may read, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:  # after Ctrl-C too; it is gone where all went well
        with suppress(OSError):
            temporary.unlink()
    sync_folder(path.parent)


def utf8(text: str) -> bytes:
    """The text in UTF-8, whatever the locale; what UTF-8 cannot hold as escapes, which are JSON's own.

    A file name that is not valid UTF-8 reaches Python as lone surrogates.
    """
    return text.encode("utf-8", "backslashreplace")


def all_entries(folder: Path) -> list[str]:
    """The names in a folder: nothing of a folder that nobody knows may be replaced."""
    return sorted(entry.name for entry in folder.iterdir())


@contextmanager
def whole_folder(
    path: Path,
    *,
    overwrite: bool = False,
    foreign: Callable[[Path], list[str]] = all_entries,
    keep: Mapping[str, Path] | None = None,
) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    overwrite, foreign, keep   as in `refuse_existing`; the old folder stays until the new one is complete

    Raises SaveError when `path` may not be replaced: before the block, so nothing is computed in vain. A folder that
    was created or filled during the block is not replaced either; the new one is then kept beside it.
    """
    refuse_existing(path, overwrite=overwrite, foreign=foreign, keep=keep)
    path = Path(os.path.abspath(path))  # without "..", and the same when the working directory changes
    temporary = _beside(path, "part")
    try:
        temporary.mkdir()  # not mkdtemp, whose 0700 would hide the result from the user's colleagues
        yield temporary
        try:
            refuse_existing(path, overwrite=overwrite, foreign=foreign, keep=keep)
        except SaveError as error:
            kept = _beside(path, "new", hidden="")
            temporary.rename(kept)
            raise SaveError(f"{error.text}\nThe new folder was kept as {kept}.", advice=error.advice) from error
        _put(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(
    path: Path,
    *,
    overwrite: bool,
    foreign: Callable[[Path], list[str]] = all_entries,
    keep: Mapping[str, Path] | None = None,
) -> None:
    """Raise SaveError when `path` exists and may not be replaced, is no folder, or cannot be created where it is.

    overwrite   replace a folder that exists
    foreign     gives what a folder holds that its writer did not write; a folder with any of it is never replaced
    keep        what must not be lost, by what it is ("the data"): a folder that holds one of these paths, or the
                working directory, is never replaced
    """
    if path.exists() and not path.is_dir():
        raise SaveError(f"{path} is a file; expected a folder to be created. Choose another name.")
    if path.is_dir():
        _refuse_to_replace(path, overwrite, foreign, {"the working directory": Path.cwd(), **(keep or {})})
    probe = _beside(path, "try")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.mkdir()
    except OSError as error:
        raise SaveError(f"The folder {path} cannot be created: {error}. Choose another folder.") from error
    finally:  # after Ctrl-C too
        with suppress(OSError):
            probe.rmdir()


def _refuse_to_replace(
    path: Path, overwrite: bool, foreign: Callable[[Path], list[str]], keep: Mapping[str, Path]
) -> None:
    whole = path.resolve()
    for name, kept in keep.items():
        if kept.resolve().is_relative_to(whole):
            raise SaveError(
                f"The folder {path} is not replaced, because it holds {name}: {kept}. Choose another folder."
            )
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise SaveError(
            f"The folder {path} exists already; nothing was changed. Choose another folder.",
            advice=[Advice("overwrite", True, "replace it")],
        )
    entries = foreign(path)
    if entries:
        raise SaveError(
            f"The folder {path} is not replaced, because it holds what regraft did not write there: "
            f"{listed(entries, count=NAMED)}.\nMove these, or choose another folder."
        )


def _put(new: Path, path: Path) -> None:
    """Rename the new folder to `path`; an old one goes only when the new one is there."""
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path, "old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    if old.is_symlink():
        old.unlink()  # the folder that it points to stays
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, kind: str, *, hidden: str = ".") -> Path:
    """A name beside the path that nobody has."""
    path = Path(os.path.abspath(path))
    return path.with_name(f"{hidden}{path.name}.{kind}-{secrets.token_hex(4)}")
