"""Compute features: samples → key → build → rows."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from regraft.caches.building import Builder, columns_in_memory
from regraft.caches.canary import check_reused
from regraft.caches.costs import Cost, expected_cost
from regraft.caches.fast_trunk import FastTrunk
from regraft.caches.ids import Index
from regraft.caches.keys import key_of, manifest_of
from regraft.caches.options import Options
from regraft.caches.precision import Rounding, rounding
from regraft.caches.rows import HeldRows, Rows, StoredRows
from regraft.caches.running import Runner
from regraft.caches.runtimes import EXACT, Runtime, choose_runtime, fast_engine_note
from regraft.caches.sampling import Samples
from regraft.caches.worker_reports import Reporter
from regraft.cuts.cut import Cut
from regraft.errors import CacheError, DoesNotPayError
from regraft.foundation.progress import progress_bar
from regraft.foundation.wording import counted
from regraft.labels import Labels
from regraft.splitting import FeatureComputer
from regraft.stores.memory import MemoryStore
from regraft.stores.store import Entry, Store
from regraft.tensors.fingerprints import digest_of
from regraft.tensors.threads import threads_for


@final
@dataclass(frozen=True)
class Built:
    """What a call of `cache_features` did.

    computed  rows that the trunk computed now (a row is one view of one example)
    reused    rows that the store had
    seconds   from the first input to the last row, the canary included
    bytes     of all rows of these features, as they are kept
    rounding  what a lower precision or compute changed on a batch, for each leaf and output; empty when exact
    runtime   what ran the trunk, and how far the fast engine's features are from the exact ones
    cost      what the cache was expected to cost, where that was asked for; None when nothing had to be computed
    """

    computed: int
    reused: int
    seconds: float
    bytes: int
    rounding: dict[str, Rounding] = field(default_factory=dict)
    cost: Cost | None = None
    runtime: Runtime = EXACT


@final
@dataclass(frozen=True)
class Computed:
    """The rows of features with all that belongs to them.

    positions  (examples, views) int64 of each row among `rows`; None where that is the example's own number
    labels     of all examples, as columns
    key        of the store's entry; "" when the rows live in memory alone
    frozen     name → digest of each parameter and buffer that they were computed by
    options    that they were computed with, to compute deeper ones likewise
    classes    the names of the classes, where labels were given as texts
    entry      that holds the rows; None when they live in memory alone
    """

    rows: Rows
    positions: Tensor | None
    labels: Labels
    cut: Cut
    key: str
    built: Built
    frozen: Mapping[str, str]
    options: Options
    classes: tuple[str, ...] = ()
    entry: Entry | None = None


@final
@dataclass(frozen=True)
class Filled:
    """What a call of `fill_features` did.

    computed  rows that it computed
    missing   rows that other builders still compute; 0 when every row is in the store
    seconds   that it took
    key       of the store's entry
    """

    computed: int
    missing: int
    seconds: float
    key: str


def compute(trunk: FeatureComputer, samples: Samples, options: Options) -> Computed:
    """The features of the samples, computed or read from the options' store.

    Raises CacheError as `cache_features` does.
    """
    _refuse_dependent(trunk)
    frozen = _digests(trunk)
    started = time.perf_counter()
    with threads_for(trunk.step_work):
        trunk, runtime = choose_runtime(trunk, samples, options)
        if runtime.note and options.tell is not None:
            options.tell(runtime.note)
        run = Runner(trunk, options.engine.compute)
        if options.store is None and options.precision == "float32":
            computed = _in_memory(run, samples, options, started)
        else:
            computed = _in_store(run, samples, options.store or MemoryStore(), options, started)
    _refuse_changed(trunk, frozen, computed.key)
    return replace(computed, frozen=frozen, built=replace(computed.built, runtime=runtime))


def _refuse_dependent(trunk: FeatureComputer) -> None:
    """Raise CacheError when the trunk's values for an example depend on the others of its batch."""
    if not trunk.cut.by_row:
        raise CacheError(
            f"The features cannot be cached by example: {trunk.cut.note}\nTrain the model itself, or split it at an "
            'earlier layer, at="…".'
        )


def _refuse_changed(trunk: FeatureComputer, frozen: Mapping[str, str], key: str) -> None:
    """Raise CacheError when the frozen weights are not those that they were."""
    if _digests(trunk) != frozen:
        raise CacheError(
            "Frozen weights changed while the features were computed, so they match no state of the model.\n"
            f"{'Clear the entry ' + key + ', and call' if key else 'Call'} cache_features again."
        )


def _digests(trunk: FeatureComputer) -> dict[str, str]:
    return {name: digest_of(tensor) for name, tensor in trunk.frozen_tensors().items()}


def _in_memory(run: Runner, samples: Samples, options: Options, started: float) -> Computed:
    cost = _cost(run, samples, None, options)
    with progress_bar("features", len(samples)) as advance:
        rows = HeldRows(columns_in_memory(run, samples, options, advance=advance))
    positions = torch.arange(len(samples)).view(-1, samples.views) if samples.views > 1 else None
    differences = _rounding(run, samples, options)
    built = Built(len(samples), 0, time.perf_counter() - started, rows.bytes, differences, cost)
    return _computed(run, rows, positions, samples, "", built, options)


def _in_store(run: Runner, samples: Samples, store: Store, options: Options, started: float) -> Computed:
    manifest = manifest_of(run.trunk, options)
    entry = store.entry(key_of(manifest), manifest)
    rows = StoredRows(entry, run.leaves)
    before = rows.index()
    was_checked = check_reused(run, samples, rows, before, options)
    if not len(before) and options.tell is not None and (note := _outdated(store, manifest)):
        options.tell(note)
    cost = _cost(run, samples, before, options)
    with _reported(entry, samples, before, options) as report:
        builder = Builder(run, samples, entry, options, stored=before, advance=report.advance)
        report.computed = lambda: builder.computed
        builder.build()
    samples.fetch_labels(options.engine.workers)
    rows.refresh()
    if not was_checked:  # few rows were there, and the look before missed them
        check_reused(run, samples, rows, before, options)
    kept, positions = kept_rows(store, rows, positions_of(samples, rows.index()), options.precision)
    reused, seconds = len(samples) - builder.computed, time.perf_counter() - started
    differences = _rounding(run, samples, options)
    built = Built(builder.computed, reused, seconds, kept.bytes, differences, cost if builder.computed else None)
    return replace(_computed(run, kept, positions, samples, entry.key, built, options), entry=entry)


@contextmanager
def _reported(entry: Entry, samples: Samples, stored: Index, options: Options) -> Iterator[Reporter]:
    """What the builder of the block does is shown here, and reported in the entry for other processes."""
    with (
        progress_bar("features", len(samples)) as advance,
        Reporter(entry, samples, stored=len(stored), share=options.engine.share, advance=advance) as report,
    ):
        yield report


def fill(trunk: FeatureComputer, samples: Samples, options: Options, *, wait: bool) -> Filled:
    """Compute a share of what the options' store lacks, and hold nothing.

    Raises CacheError as `fill_features` does.
    """
    started = time.perf_counter()
    _refuse_dependent(trunk)
    assert options.store is not None, "a worker fills a store"
    frozen = _digests(trunk)
    trunk, _ = choose_runtime(trunk, samples, options)
    run, manifest = Runner(trunk, options.engine.compute), manifest_of(trunk, options)
    entry = options.store.entry(key_of(manifest), manifest)
    rows = StoredRows(entry, run.leaves)
    stored = rows.index()
    check_reused(run, samples, rows, stored, options)
    with _reported(entry, samples, stored, options) as report:
        builder = Builder(run, samples, entry, options, stored=stored, advance=report.advance)
        report.computed = lambda: builder.computed
        missing = sum(len(part.rows) for part in builder.build(wait=wait))
    _refuse_changed(trunk, frozen, entry.key)
    return Filled(builder.computed, missing, time.perf_counter() - started, entry.key)


def _computed(
    run: Runner, rows: Rows, positions: Tensor | None, samples: Samples, key: str, built: Built, options: Options
) -> Computed:
    options = replace(options, head=None, tell=None, epochs=None)
    cut, classes = run.trunk.cut_for(options.batch_size), samples.examples.classes
    return Computed(rows, positions, samples.labels, cut, key, built, {}, options, classes)


def _outdated(store: Store, manifest: Mapping[str, object]) -> str:
    """A sentence on entries of versions that stored otherwise; "" where there are none."""
    layout = manifest["layout"]
    keys = sorted(key for key, other in store.manifests().items() if other.get("layout", layout) != layout)
    if not keys:
        return ""
    return (
        f"{counted(len(keys), 'stored entry is/stored entries are')} of a version of regraft that stored otherwise "
        f"({', '.join(keys)}): nothing of that is used, and what is needed is computed again. Remove it with regraft "
        "cache clear."
    )


def _cost(run: Runner, samples: Samples, index: Index | None, options: Options) -> Cost | None:
    """Measure the cost and pass it to the caller, where it was asked for. Raises DoesNotPayError."""
    if options.tell is None and options.epochs is None:
        return None
    cost = expected_cost(run, samples, index, options)
    if not cost.missing:
        return cost
    if options.epochs is not None and not cost.pays(options.epochs):
        raise DoesNotPayError(f"{cost}\nThe training takes {counted(options.epochs, 'epoch')}: train without a cache.")
    if options.tell is not None:
        options.tell(str(cost))
        if note := fast_engine_note(run.trunk, samples, cost, options):
            options.tell(note)
    return cost


def _rounding(run: Runner, samples: Samples, options: Options) -> dict[str, Rounding]:
    """What precision and compute change on one batch; empty when both are exact."""
    if options.is_exact:
        return {}
    inputs = samples.inputs_of(torch.arange(min(options.batch_size, len(samples))))
    exact = Runner(run.trunk.exact if isinstance(run.trunk, FastTrunk) else run.trunk)(inputs)
    return rounding(exact, run(inputs), options.precision, options.head)


def kept_rows(store: Store, rows: StoredRows, positions: Tensor, precision: str) -> tuple[Rows, Tensor | None]:
    """The rows where they are used from, and each example's positions there; None where they are its own number."""
    size = positions.numel() * sum(leaf.bytes_per_example for leaf in rows.leaves)
    limit = memory_budget() if store.memory_bytes is None else store.memory_bytes
    exact = precision == "float32" or not isinstance(store, MemoryStore)  # else it would lie in memory twice
    rows.memory_bytes = min(rows.memory_bytes, limit)
    if size > limit or not exact:
        return rows, positions
    in_order = torch.arange(positions.numel()).view(positions.shape)
    return rows.hold(positions.reshape(-1)), in_order if positions.shape[1] > 1 else None


def positions_of(samples: Samples, index: Index) -> Tensor:
    """Where the row of each example and view lies: (examples, views) int64."""
    positions = index.find(samples.ids)
    assert (positions >= 0).all(), "every row was built"
    return torch.from_numpy(positions).view(-1, samples.views)


def memory_budget() -> int:
    """Bytes that features may take when nobody says: a quarter of what the machine, or the container, has left."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 30
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass  # other systems: the free pages, which is less
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(0, int(limit) - used)) if limit != "max" else free
    except (OSError, ValueError):
        pass  # no container
    return free // 4
