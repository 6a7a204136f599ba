"""Fetch blocks of examples ahead: in threads, or in processes where the work holds the interpreter's lock."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from regraft.labels import Labels

T = TypeVar("T")


@final
class _Blocks(Dataset[bytes]):
    """Blocks of rows as a data set of what is fetched for them, in bytes: these need no shared memory."""

    def __init__(self, fetch: Callable[[Tensor], object]) -> None:
        self.fetch = fetch

    def __getitem__(self, rows: list[int]) -> bytes:
        return pickle.dumps(self.fetch(torch.tensor(rows)))


def in_processes(
    fetch: Callable[[Tensor], T], blocks: Iterable[Tensor], num_workers: int, **options: Any
) -> Iterator[T]:
    """What is fetched for each block, in their order; by so many processes, 0 for this one.

    The blocks are asked for while the ones before are fetched.

    options  of the DataLoader that starts the processes
    """
    if num_workers < 1:
        yield from map(fetch, blocks)
        return
    rows = (block.tolist() for block in blocks)
    for content in DataLoader(_Blocks(fetch), batch_size=None, sampler=rows, num_workers=num_workers, **options):
        yield pickle.loads(content)  # noqa: S301 - from a process of our own


def fetched_ahead(
    gather: Callable[[Tensor], tuple[T, Labels]], blocks: Iterable[Tensor], workers: int
) -> Iterator[tuple[Tensor, T, Labels]]:
    """(indices, inputs, labels) for each block, fetched by `gather` in so many threads; 0 fetches when asked."""
    if workers == 0:
        yield from ((block, *gather(block)) for block in blocks)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="regraft-examples") as pool:
        ahead: deque[tuple[Tensor, Future[tuple[T, Labels]]]] = deque()
        try:
            for block in blocks:
                ahead.append((block, pool.submit(gather, block)))
                if len(ahead) > 2 * workers:  # bounds memory: at most this many batches wait
                    ready, future = ahead.popleft()
                    yield (ready, *future.result())
            while ahead:
                ready, future = ahead.popleft()
                yield (ready, *future.result())
        finally:
            for _, future in ahead:
                future.cancel()
