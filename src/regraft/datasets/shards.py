"""Tar shards in WebDataset's form as columns: the files of an example have one name, 0001.jpg and 0001.cls."""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final, overload

from regraft.errors import DataError
from regraft.foundation.wording import counted, listed
from regraft.inputs import is_image

SUFFIX = ".tar"
IMAGE, LABEL, TEXT = "image", "label", "text"  # columns for any image file, .cls and .txt
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class ShardMember:
    """A file in a shard: where its bytes are.

    mark  of the shard when it was opened: its size and time of change
    """

    shard: Path
    name: str
    offset: int
    size: int
    mark: str

    def read(self) -> bytes:
        """Its bytes. Raises DataError when the shard cannot be read, or has changed since it was opened."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.shard} cannot be read: {error.strerror or error}.") from error
        if self.mark != _mark_of(self.shard):
            raise DataError(
                f"{self.shard} has changed since it was opened, so {self.name} may be elsewhere. Run again."
            )
        if len(content) != self.size:
            raise DataError(f"{self.shard}: {self.name} is cut off at the end of the file. Download the shard again.")
        return content


@final
class ShardFiles(Sequence[bytes]):
    """The files of one column, read by their place in a shard when asked for."""

    def __init__(self, members: Sequence[ShardMember]) -> None:
        self.members = list(members)

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [member.read() for member in self.members[index]]
        return self.members[index].read()

    @property
    def paths(self) -> list[Path]:
        """The shard and the name of each file, for messages."""
        return [member.shard / member.name for member in self.members]

    def content_id(self, index: int) -> str:
        """A text that changes whenever the file does: its place, and the size and time of change of its shard.

        Asked of the disk each time, so that a shard that is written again is noticed.
        """
        member = self.members[index]
        return f"tar {_mark_of(member.shard)} {member.name} {member.offset} {member.size}"


def shards_of(path: Path) -> list[Path]:
    """The shards at a path, by name: a .tar file, those of a folder, or those of a pattern; [] for anything else.

    A folder with folders of images holds classes. A pattern has * ? or braces in its last part: train-*.tar,
    train-{000..011}.tar, {a,b}.tar.
    """
    if path.is_dir():
        shards = sorted(path.glob(f"*{SUFFIX}"))
        return [] if shards and _has_class_folders(path) else shards
    if path.suffix.lower() != SUFFIX:
        return []
    return [path] if path.is_file() else _of_pattern(path)


def _of_pattern(path: Path) -> list[Path]:
    """The shards that a pattern names; [] where the name is none."""
    names = list(_expanded(path.name))
    if any(mark in path.name for mark in "*?["):
        return sorted({shard for name in names for shard in path.parent.glob(name)})
    return [path.parent / name for name in names] if len(names) > 1 else []


def _has_class_folders(folder: Path) -> bool:
    """Whether images lie in its folders: it holds classes, and beside them the archive that they came from."""
    folders = (entry for entry in folder.iterdir() if entry.is_dir())
    return any(is_image(file) for inner in folders for file in inner.iterdir())


def is_shards(path: Path) -> bool:
    """Whether data at this path are tar shards, all of which exist."""
    shards = shards_of(path)
    return bool(shards) and all(shard.is_file() for shard in shards)


def read_shards(path: Path) -> dict[str, Sequence[Any]]:
    """The columns of all examples: images as files that are read when asked for, all else as values.

    Image files are `image`, .cls `label`, .txt `text`, the values of a .json file go by their own names; others by
    their suffix, unread. Raises DataError for a damaged shard, and for examples that lack a column that others have.
    """
    examples = [example for shard in shards_of(path) for example in _examples_of(shard)]
    if not examples:
        raise DataError(f"{path} has no examples. Expected files such as 0001.jpg and 0001.cls.")
    rows = [_row_of(example) for example in examples]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column(name, rows, examples, path) for name in names}


def _expanded(name: str) -> Iterator[str]:
    """A name with braces as all names that it stands for."""
    parts = _BRACES.split(name)
    choices = [_choices(part) if number % 2 else [part] for number, part in enumerate(parts)]
    return map("".join, product(*choices))


def _choices(inside: str) -> list[str]:
    if whole := _RANGE.fullmatch(inside):
        first, last = whole[1], whole[2]
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return inside.split(",")


def _mark_of(shard: Path) -> str:
    try:
        facts = shard.stat()
    except OSError as error:
        raise DataError(f"{shard} cannot be read: {error.strerror or error}.") from error
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _examples_of(shard: Path) -> list[dict[str, ShardMember]]:
    """Suffix → file, for each example of a shard in its order."""
    examples: dict[str, dict[str, ShardMember]] = {}
    mark = _mark_of(shard)
    try:
        with tarfile.open(shard, "r:") as tar:
            for info in tar:
                if not info.isreg() or info.issparse() or Path(info.name).name.startswith("."):
                    continue
                folder, _, base = info.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                files = examples.setdefault(f"{folder}/{stem}", {})
                if suffix.lower() in files:
                    raise DataError(f"{shard} has {info.name} twice. Each file of an example needs its own suffix.")
                files[suffix.lower()] = ShardMember(shard, info.name, info.offset_data, info.size, mark)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"{shard} cannot be read as a tar file: {error}. A compressed one has to be unpacked: gunzip {shard.name}."
        ) from error
    return list(examples.values())


def _row_of(files: Mapping[str, ShardMember]) -> dict[str, Any]:
    """Column → value of an example; a file that is not read stays a Member."""
    row: dict[str, Any] = {}
    for suffix, member in files.items():
        if "." not in suffix and is_image(Path(f"x.{suffix}")):
            if IMAGE in row:
                raise DataError(f"{member.shard}: {member.name} is the second image of its example; expected one.")
            row[IMAGE] = member
        elif suffix in ("cls", "txt"):
            row[LABEL if suffix == "cls" else TEXT] = _text(member)
        elif suffix != "json":
            row[suffix] = member
    if "json" in files:
        values = _values(files["json"])
        row |= {(f"json.{name}" if name in row else name): value for name, value in values.items()}
    return row


def _text(member: ShardMember) -> str:
    try:
        return member.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{member.shard}: {member.name} is no text in UTF-8: {error}.") from error


def _values(member: ShardMember) -> dict[str, Any]:
    try:
        values = json.loads(_text(member))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{member.shard}: {member.name} is no JSON: {error}.") from error
    if not isinstance(values, dict):
        raise DataError(f"{member.shard}: {member.name} is a {type(values).__name__}, expected an object with values.")
    return values


def _column(
    name: str, rows: Sequence[Mapping[str, object]], examples: Sequence[Mapping[str, ShardMember]], path: Path
) -> Sequence[Any]:
    lacking = [index for index, row in enumerate(rows) if name not in row]
    if lacking and name in (IMAGE, LABEL, TEXT):
        names = [str(next(iter(examples[index].values())).name) for index in lacking]
        raise DataError(
            f"{path}: {counted(len(lacking), 'example', 'has/have')} no {name}, which others have: "
            f"{listed(names, count=5)}."
        )
    values = [row.get(name) for row in rows]
    members = [value for value in values if isinstance(value, ShardMember)]
    return ShardFiles(members) if len(members) == len(values) else values
