"""Files that are whole or not there: atomic writes, whole folders, hashes."""

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from regraft.errors import SaveError


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
    """Write the file so that a reader sees the old content or the new one, never a part.

    Its folder is created where it is missing. Temporary file beside it → fsync → rename → fsync of the folder.
    Raises OSError with the system's reason and the name of this file; the old file is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    # Not mkstemp: it makes files that only their owner may read, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    overwrite   replace a folder that exists; it stays until the new one is complete

    Raises SaveError when `path` exists and `overwrite` is off: before the block, so nothing is computed in vain.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.part-"))
    temporary.chmod(0o755)  # mkdtemp's 0700 would hide the result from the user's colleagues
    try:
        yield temporary
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
            path.rename(old / path.name)
            try:
                temporary.rename(path)
            except BaseException:
                (old / path.name).rename(path)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise SaveError when `path` exists and may not be replaced, is a file, or cannot be created where it is."""
    if path.is_file():
        raise SaveError(f"{path} is a file; expected a folder to be created. Choose another name.")
    if path.exists() and not overwrite and any(path.iterdir()):
        raise SaveError(
            f"The folder {path} exists already; nothing was changed.\nChoose another folder, or allow it to be "
            "replaced: --overwrite on the command line, overwrite=True in Python."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.try-").cleanup()
    except OSError as error:
        raise SaveError(f"The folder {path} cannot be created: {error}. Choose another place.") from error
