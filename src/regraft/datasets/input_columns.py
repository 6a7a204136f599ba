"""The inputs of examples, one column for each kind: files that are decoded when asked for, tokens, numbers."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import PIL
import torch
from torch import Tensor

from regraft.contracts.sound import SoundContract
from regraft.contracts.text import Tokens
from regraft.datasets.shards import ShardFiles
from regraft.errors import Advice, DataError
from regraft.foundation.files import sha256_of
from regraft.inputs import InputContract
from regraft.tensors.trees import Inputs


class InputColumn(ABC):
    """One kind of input for every example.

    notes  what was cut or assumed, in sentences
    """

    notes: tuple[str, ...] = ()

    @abstractmethod
    def __getitem__(self, index: int) -> Inputs:
        """The input of this kind for one example. Raises DataError that names the file for an unreadable one."""

    @abstractmethod
    def content_ids(self, indices: Sequence[int]) -> list[str]:
        """A text for each of these examples that changes whenever its input does; nothing is decoded for it."""

    def unreadable(self) -> list[int]:
        """The examples whose file cannot be read; all files are decoded for it."""
        return []


@final
class FileColumn(InputColumn):
    """Inputs in files.

    paths     one for each example
    read      path and content → the input; the content is None for a file on disk
    how       what the inputs depend on beside the files: contract and decoder, as text
    noun      "image" or "sound", for messages
    contents  the bytes of files that are stored in a data set, None for files on disk; or files in shards, which are
              known by their place
    """

    def __init__(
        self, paths: Sequence[Path], read: Callable[[Path, bytes | None], np.ndarray], *, how: str, noun: str,
        contents: Sequence[bytes | None] | None = None,
    ) -> None:  # fmt: skip
        self.paths, self.read, self.how, self.noun = list(paths), read, how, noun
        self.contents: Sequence[bytes | None] = contents if contents is not None else [None] * len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        try:
            return torch.from_numpy(self.read(self.paths[index], self.contents[index]))
        except DataError as error:
            raise self._all_problems(error) from error

    def content_ids(self, indices: Sequence[int]) -> list[str]:
        """Each file's SHA-256, or its place in a shard, with `how`. Reads files, decodes none."""
        with ThreadPoolExecutor() as pool:
            return [f"{digest} {self.how}" for digest in pool.map(self._digest, indices)]

    def unreadable(self) -> list[int]:
        """The indices of the files that cannot be decoded."""
        with ThreadPoolExecutor() as pool:
            return [index for index, bad in enumerate(pool.map(self._is_unreadable, range(len(self.paths)))) if bad]

    def _digest(self, index: int) -> str:
        if isinstance(self.contents, ShardFiles):
            return self.contents.content_id(index)
        content = self.contents[index]
        if content is not None:
            return hashlib.sha256(content).hexdigest()
        try:
            return sha256_of(self.paths[index])
        except OSError as error:
            raise DataError(f"{self.paths[index]} cannot be read: {error.strerror or error}.") from error

    def _is_unreadable(self, index: int) -> bool:
        try:
            self.read(self.paths[index], self.contents[index])
        except DataError:
            return True
        return False

    def _all_problems(self, first: DataError) -> DataError:
        """One error for all unreadable files: mending them one run at a time would waste hours."""
        bad = [self.paths[index] for index in self.unreadable()]
        if len(bad) < 2:
            return first
        named = "\n".join(f"  {path}" for path in bad[:20]) + (f"\n  … and {len(bad) - 20} more" if bad[20:] else "")
        return DataError(
            f"{len(bad)} of {len(self.paths)} files cannot be read as {self.noun}s:\n{named}\nRepair or remove them.",
            advice=[Advice("skip_unreadable", True, "go on without such files")],
        )


def image_column(
    paths: Sequence[Path], contract: InputContract, contents: Sequence[bytes | None] | None = None
) -> FileColumn:
    """Images under the input contract, (channels, height, width) each."""
    how = json.dumps(contract.to_dict(), sort_keys=True) + f" Pillow {PIL.__version__}"
    return FileColumn(paths, contract.from_file, how=how, noun="image", contents=contents)


def sound_column(paths: Sequence[Path], contract: SoundContract) -> FileColumn:
    """Waveforms under the contract, (samples,) each."""
    how = json.dumps(contract.to_dict(), sort_keys=True)
    return FileColumn(paths, lambda path, _: contract.from_file(path), how=how, noun="sound")


@final
class TokenColumn(InputColumn):
    """Texts that a tokenizer has encoded: argument of the model → (tokens,) int64, for each example."""

    def __init__(self, tokens: Sequence[Tokens], notes: Sequence[str] = ()) -> None:
        self.tokens, self.notes = list(tokens), tuple(notes)

    def __getitem__(self, index: int) -> Tokens:
        return self.tokens[index]

    def content_ids(self, indices: Sequence[int]) -> list[str]:
        """The hash of the numbers."""
        return [_digest_of(self.tokens[index]) for index in indices]


@final
class NumberColumn(InputColumn):
    """Rows of numbers, (columns,) float32 each."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = torch.from_numpy(rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]

    def content_ids(self, indices: Sequence[int]) -> list[str]:
        """The hash of the numbers."""
        return [_digest_of({"numbers": self.rows[index]}) for index in indices]


def _digest_of(tensors: Tokens) -> str:
    parts = [f"{name} {tensor.dtype}".encode() + tensor.numpy().tobytes() for name, tensor in tensors.items()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
