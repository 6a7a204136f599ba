"""Features of a stream: its examples are read once, a group at a time, and known again by their content."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from regraft.caches.computing import Built, Computed, compute, kept_rows
from regraft.caches.options import Options
from regraft.caches.rows import HeldRows, Rows, StoredRows
from regraft.caches.sampling import Samples
from regraft.errors import CacheError
from regraft.examples import Examples
from regraft.labels import joined
from regraft.sources.source import Pair
from regraft.sources.streams import pairs_of
from regraft.splitting import FeatureComputer
from regraft.stores.memory import MemoryStore
from regraft.tensors.keeping import generator_states
from regraft.tensors.ragged import Column, column_of, rows_of
from regraft.tensors.trees import tensors_of

GROUP_BYTES = 256 << 20  # of inputs that are in memory at once
GROUP_ROWS = 4096

AsExamples = Callable[[list[Pair]], Examples]


def compute_stream(trunk: FeatureComputer, stream: object, options: Options, as_examples: AsExamples) -> Computed:
    """The features of all examples of a stream, in its order.

    as_examples  makes examples of a group of pairs

    At most 256 MiB of inputs, or 4,096 examples, are in memory at once. A second pass reads the stream again and
    computes what the store lacks. Raises CacheError for an empty stream, and when random numbers are drawn while it is
    read: it cannot be read twice to see whether its inputs depend on them.
    """
    if options.store is None and options.precision != "float32":
        options = replace(options, store=MemoryStore())
    started, parts, ids = time.perf_counter(), list[Computed](), list[np.ndarray]()
    for group in _groups(pairs_of(stream), options.batch_size):
        samples = Samples(as_examples(group), hashed=options.store is not None)
        part = compute(trunk, samples, options)
        ids.append(samples.ids)
        parts.append(part if options.store is None else replace(part, rows=HeldRows({}), positions=None))
        options = replace(options, tell=None, epochs=None)  # the first group has said what caching costs
    if not parts:
        raise CacheError("The stream has no example. A generator can be read only once: make it again, and pass it.")
    rows, positions = _all_rows(trunk, parts, np.concatenate(ids), options)
    labels = joined([part.labels for part in parts])
    return replace(
        parts[0],
        rows=rows,
        positions=positions,
        labels=labels,
        built=_built(parts, rows, time.perf_counter() - started),
    )


def _groups(pairs: Iterator[Pair], batch_size: int) -> Iterator[list[Pair]]:
    """The pairs in groups of whole batches; the last group has what remains."""
    first = next(pairs, None)
    if first is None:
        return
    row_bytes = max(1, sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(first[0])))
    count = max(1, min(GROUP_BYTES // row_bytes, GROUP_ROWS) // batch_size) * batch_size
    group = [first, *_read(pairs, count - 1)]
    while group:
        yield group
        group = _read(pairs, count)


def _read(pairs: Iterator[Pair], count: int) -> list[Pair]:
    before = generator_states()
    group = list(islice(pairs, count))
    if not before.same_as(generator_states()):
        raise CacheError(
            "Random numbers were drawn from a global generator while the stream was read, and a cache would keep one "
            "draw for ever.\nLeave out random transforms. For the order of the examples use a generator of its own, "
            "such as random.Random(0)."
        )
    return group


def _all_rows(
    trunk: FeatureComputer, parts: list[Computed], ids: np.ndarray, options: Options
) -> tuple[Rows, torch.Tensor | None]:
    """The rows of all groups, and each example's position there; None where that is its own number."""
    entry = parts[0].entry
    if options.store is None or entry is None:
        return HeldRows(_columns([part.rows for part in parts])), None
    rows = StoredRows(entry, trunk.cut.leaves)
    positions: np.ndarray = rows.index().find(ids)
    assert (positions >= 0).all(), "every row was built"
    return kept_rows(options.store, rows, torch.from_numpy(positions)[:, None], options.precision)


def _columns(groups: list[Rows]) -> Mapping[str, Column]:
    """Each leaf's rows, one group after the other."""
    held = [group.columns for group in groups if isinstance(group, HeldRows)]
    columns: dict[str, Column] = {}
    for leaf in held[0]:
        pieces = [group[leaf] for group in held]
        tensors = [piece for piece in pieces if isinstance(piece, torch.Tensor)]
        if len(tensors) == len(pieces) and len({piece.shape[1:] for piece in tensors}) == 1:
            columns[leaf] = torch.cat(tensors)
        else:
            columns[leaf] = column_of([row for piece in pieces for row in rows_of(piece)])
    return columns


def _built(parts: list[Computed], rows: Rows, seconds: float) -> Built:
    """What all groups did together."""
    computed, reused = sum(part.built.computed for part in parts), sum(part.built.reused for part in parts)
    return replace(parts[0].built, computed=computed, reused=reused, seconds=seconds, bytes=rows.bytes)
