"""An epoch over rows that do not fit into memory: an order that is random and cheap to read, read ahead by a thread."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

from regraft.caches.rows import HeldRows, StoredRows
from regraft.tensors.padding import padded_cat

BLOCK_BYTES = 2 << 20  # that are read at once at most: long enough for a disk, short enough for a good shuffle
# A group lies in memory while it is used, and the next one while it is read. Larger ones shuffle no better, for the
# store's order is random already, and fall out of the processor's cache (benchmarks/streaming.py, 2026-11).
GROUP_BYTES = 16 << 20
GROUP_SHARE = 4  # of the memory that streaming may use, a group takes one part of so many
BLOCKS = 32  # that a group is made of, from all over the store

Rows = dict[str, Tensor]


def group_bytes(rows: StoredRows) -> int:
    """Bytes of the rows that are read, and shuffled, together."""
    return max(BLOCK_BYTES, min(GROUP_BYTES, rows.memory_bytes // GROUP_SHARE))


def shuffled_groups(rows: StoredRows, in_storage_order: Tensor, positions: Tensor, seed: int) -> list[Tensor]:
    """A random order of examples, in the groups that are read together.

    in_storage_order  (count,) the examples, in the order in which their rows lie
    positions         (count,) of those rows

    Blocks of neighbouring rows (which the store holds in random order) are permuted, and the rows of each group of
    blocks shuffled.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = rows.row_bytes(positions).cumsum(0)
    limit, count = _group_limit(rows, ends), block_rows(rows, positions)
    blocks, permuted = (
        torch.split(in_storage_order, count),
        torch.randperm(-(-len(ends) // count), generator=generator),
    )
    block_ends = ends[torch.arange(count, len(ends) + count, count).clamp(max=len(ends)) - 1]
    block_bytes = block_ends.diff(prepend=torch.zeros(1, dtype=torch.int64))[permuted]
    groups: list[Tensor] = []
    for chosen in torch.split(permuted, _packed(block_bytes, limit)):
        group = torch.cat([blocks[block] for block in chosen.tolist()])
        groups.append(group[torch.randperm(len(group), generator=generator)])
    return groups


def block_rows(rows: StoredRows, positions: Tensor) -> int:
    """How many neighbouring rows of these are permuted, and read, as one."""
    ends = rows.row_bytes(positions).cumsum(0)
    return max(1, min(BLOCK_BYTES, _group_limit(rows, ends) // BLOCKS) // _mean_of(ends))


def _group_limit(rows: StoredRows, ends: Tensor) -> int:
    return max(BLOCK_BYTES, min(group_bytes(rows), _mean_of(ends) * len(ends) // 16))


def _mean_of(ends: Tensor) -> int:
    """Bytes of a row; `ends` are those of all rows, added up."""
    return max(1, -(-int(ends[-1]) // len(ends)))


def groups_of(rows: StoredRows, positions: Tensor) -> list[int]:
    """How many rows of a given order to read together, one count for each group."""
    return _packed(rows.row_bytes(positions), group_bytes(rows))


def streamed(
    rows: StoredRows, groups: Sequence[Tensor], batch_sizes: Sequence[int], positions: Callable[[Tensor], Tensor]
) -> Iterator[Rows]:
    """The rows of the groups one after the other, cut into batches; each group is read while the one before is used.

    positions  examples (count,) → positions of their rows
    """
    sizes = iter(batch_sizes)
    missing, pieces = next(sizes, 0), list[Rows]()
    for block in _read_ahead(rows, groups, positions):
        start = 0
        while missing and start < len(block):
            taken = min(missing, len(block) - start)
            pieces.append(block.gather(start, start + taken))
            start, missing = start + taken, missing - taken
            if not missing:
                yield pieces[0] if len(pieces) == 1 else _joined(pieces)
                missing, pieces = next(sizes, 0), []


@final
class _Block:
    """A group as it was read, in the store's order; its own order is made batch by batch."""

    def __init__(self, rows: HeldRows, indices: Tensor) -> None:
        self.rows, self.indices = rows, indices

    def __len__(self) -> int:
        return len(self.indices)

    def gather(self, start: int, stop: int) -> Rows:
        """The rows start … stop - 1 of the group, copied."""
        return self.rows.gather(self.indices[start:stop])


def _read_ahead(
    rows: StoredRows, groups: Sequence[Tensor], positions: Callable[[Tensor], Tensor]
) -> Iterator[_Block]:  # fmt: skip
    """Each group; the next one is being read meanwhile, into the memory of the one before."""
    longest = max(map(len, groups), default=0)
    buffers = [rows.buffers(longest) for _ in groups[:2]]

    def read(number: int) -> _Block:
        columns, indices = rows.read(positions(groups[number]), buffers[number % 2])
        return _Block(HeldRows(columns), indices)

    with ThreadPoolExecutor(1, thread_name_prefix="regraft-features") as reader:
        ahead = reader.submit(read, 0) if groups else None
        for number in range(1, len(groups) + 1):
            assert ahead is not None
            block = ahead.result()
            ahead = reader.submit(read, number) if number < len(groups) else None
            yield block


def _joined(pieces: Sequence[Rows]) -> Rows:
    return {leaf: padded_cat([piece[leaf] for piece in pieces]) for leaf in pieces[0]}


def _packed(sizes: Tensor, limit: int) -> list[int]:
    """How many consecutive ones fit into the limit together, one at least; again and again up to the end."""
    ends, counts, start, before = sizes.cumsum(0), list[int](), 0, 0
    while start < len(sizes):
        stop = max(start + 1, int(torch.searchsorted(ends, before + limit, right=True)))
        counts.append(stop - start)
        start, before = stop, int(ends[stop - 1])
    return counts
