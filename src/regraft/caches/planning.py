"""Which rows make which part: the same parts for every builder of the same data, known before anything is read."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.options import Share
from regraft.cuts.cut import Leaf

PART_BYTES = 32 << 20  # of a part at most: few requests on an object store, and little work that a crash can cost
READ_ROWS = 2048  # of a part of data that one builder reads through: with 10 ms a row a crash loses at most 20 s
LEAST_PARTS = 64  # of a data set, so that several builders can share a small one too


@final
@dataclass(frozen=True, eq=False)
class PlannedPart:
    """Missing rows that become one part.

    rows   (count,) int64, in the order in which they are stored
    lease  the name of the lease of whoever computes it
    name   of the part: the same rows, the same name, whoever computes them
    """

    rows: Tensor
    lease: str
    name: str

    @staticmethod
    def of(rows: Tensor, ids: np.ndarray) -> "PlannedPart":
        """The part of these rows, by their ids (count, 16) uint8."""
        return PlannedPart(rows, lease_of(ids), "p" + hashlib.sha256(ids.tobytes()).hexdigest()[:16])

    def batches(self, full: int, batch_size: int, rest: int) -> Iterator[tuple[Tensor, int]]:
        """The rows of each batch, and the size at which the trunk runs it.

        full  rows of the data set that lie in whole batches; the `rest` after them are one batch
        """
        for rows, size in ((self.rows[self.rows < full], batch_size), (self.rows[self.rows >= full], rest)):
            for batch in rows.split(size) if len(rows) else ():
                yield batch, size


def lease_of(ids: np.ndarray) -> str:
    """The name of a part's lease: known as soon as the id of its first row is."""
    return bytes(ids[0]).hex()


def part_rows(leaves: Sequence[Leaf], batch_size: int, count: int, *, is_shared: bool = True) -> int:
    """Rows of a part: whole batches, the same for every builder of the same cut, batch size and number of rows.

    is_shared  whether several builders can share the data; else a part is not cut smaller for them
    """
    row_bytes = max(1, sum(leaf.bytes_per_example for leaf in leaves))
    share = count // LEAST_PARTS if is_shared else max(READ_ROWS, count // LEAST_PARTS)
    return max(1, min(PART_BYTES // row_bytes, share) // batch_size) * batch_size


def storage_order(count: int, batch_size: int) -> Tensor:
    """A fixed random order of the rows, the last batch of what remains at its end.

    Random, so that a block of neighbouring rows is a fair sample of the data (a data set is often sorted by class).
    """
    full = count - count % batch_size
    return torch.cat([torch.randperm(full, generator=torch.Generator().manual_seed(0)), torch.arange(full, count)])


def planned_parts(rows: Tensor, ids: np.ndarray, *, full: int, size: int) -> list[PlannedPart]:
    """The parts that missing rows make.

    rows  (count,) int64, in the storage order
    ids   (all rows, 16) uint8
    full  rows of the data set that lie in whole batches; those after them go with the last part that is not full
    size  rows of a part
    """
    whole, rest = rows[rows < full], rows[rows >= full]
    groups = list(whole.split(size)) if len(whole) else []
    if groups and len(groups[-1]) < size:
        groups[-1] = torch.cat([groups[-1], rest])
    elif len(rest):
        groups.append(rest)
    return [PlannedPart.of(group, ids[group.numpy()]) for group in groups]


def beginning_at(parts: Sequence[PlannedPart], share: Share) -> list[PlannedPart]:
    """The parts in the order in which a builder tries them: from where its share begins to the end, then the others."""
    first = share.first(len(parts))
    return [*parts[first:], *parts[:first]]
