"""The contract of a feature store: where the cut's values live, one row per example."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from torch import Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A committed part of an entry: some rows of every tensor, complete and never changed again.

    name     unique in its entry; the same rows make the same name
    ids      (rows, 16) uint8, the id of each row
    tensors  what it holds, name → (dtype, shape) in safetensors' words: {"pool": ("F32", (2048, 512))}
    """

    name: str
    ids: np.ndarray = field(repr=False)
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.ids)


class Entry(ABC):
    """All rows that belong to one key. Parts are added whole and never changed, so that readers need no lock.

    key   the hash of everything that the rows depend on beside the example itself
    """

    key: str

    @abstractmethod
    def parts(self) -> list[Part]:
        """The parts that are committed now, ordered by name.

        Raises CacheError that names the file when a commit record or the size of what it commits is wrong.
        """

    @abstractmethod
    def commit(self, name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]) -> Part:
        """Add a part, all or nothing; when this returns, it survives a crash as far as the store can promise that.

        name     of the part; committing a name that is there already changes nothing
        ids      (rows, 16) uint8
        tensors  in memory, contiguous

        Raises CacheError when there is no room or no permission; parts committed before stay valid.
        """

    def lacking(self, names: Sequence[str]) -> set[str]:
        """Those of these parts that are not committed now, by whichever builder."""
        return set(names) - {part.name for part in self.parts()}

    @abstractmethod
    def read(self, part: Part, name: str, start: int, stop: int) -> Tensor:
        """Rows start … stop - 1 of one tensor of the part, on the CPU or the store's device; not to be written to.

        Checked against the part's checksums before any value is given out for the first time.
        Raises CacheError that names the file when the bytes are not those that were committed.
        """

    def read_into(self, out: Tensor, name: str, pieces: Sequence[tuple[Part, Sequence[tuple[int, int]]]]) -> None:
        """Fill `out` with runs of rows of one tensor, from several parts, one after the other.

        This is what reading a large cache is made of; a store of files overrides it to read into `out` and nowhere
        between.

        out     contiguous, on the CPU, of the stored dtype, with as many rows as the runs together
        pieces  each part with its runs (start, stop), ascending, none of them empty
        """
        position = 0
        for part, runs in pieces:
            for start, stop in runs:
                out[position : position + stop - start] = self.read(part, name, start, stop)
                position += stop - start

    @abstractmethod
    def lease(self, name: str) -> bool:
        """Whether this process may do the work called `name`: False while another living builder does it.

        A lease saves work and nothing else: two builders of the same part commit the same bytes.
        """

    @abstractmethod
    def release(self, name: str) -> None:
        """Give a lease back, whether the work was done or not."""

    def excludes(self) -> bool:
        """Whether a lease excludes the builders of other processes and machines."""
        return True

    def begin(self, work: str, facts: Mapping[str, object]) -> Mapping[str, Any]:
        """Note that the rows of a data set are being added, so that an interrupted build can be told later.

        Returns the facts that whoever began this work first has noted: all its builders go by them.
        """
        return facts

    def join_records(self) -> None:  # noqa: B027 a store may have no records
        """Make what this process has added quick to open: called at the end of a build, also of an unfinished one."""

    def finish(self, work: str, leases: Collection[str] = ()) -> None:  # noqa: B027 a store may have nothing to note
        """Note that all rows of that data set are there. Whatever is left of these leases is of no use."""


class Store(ABC):
    """A place for features. Subclasses are final. Prove an own store by inheriting `regraft.testing.StoreContract`.

    memory_bytes  features up to this size are held in memory whole, larger ones are streamed; None chooses a quarter
                  of the memory that is available
    """

    memory_bytes: int | None = None

    @abstractmethod
    def entry(self, key: str, manifest: Mapping[str, object]) -> Entry:
        """The entry of this key, made when there is none.

        manifest  plain data: everything that went into the key, in words, for people and for `regraft cache ls`

        Raises CacheError when an entry of this key has another manifest, or cannot be made.
        """

    def manifests(self) -> dict[str, Mapping[str, Any]]:
        """The manifest of each entry that is there, by its key; none where a store cannot list them."""
        return {}
