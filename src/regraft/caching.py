"""Compute the cut's values once for each example, and keep them where they can be trusted."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from regraft.caches.building import Builder, positions_of, whole
from regraft.caches.canary import COMPUTE_TOLERANCE, check_reused, expected_cost, rounding, tolerance_of
from regraft.caches.costs import Cost
from regraft.caches.features import Again, Built, Features, memory_budget
from regraft.caches.keys import Engine, device_of, key_of, manifest_of, own_shapes, runner
from regraft.caches.precision import Difference, check_precision
from regraft.caches.rows import HeldRows, Index, StoredRows
from regraft.caches.sampling import Draws, names_of, own_randomness, refuse_own_randomness, refuse_random, renaming
from regraft.errors import CacheError, DoesNotPayError
from regraft.examples import Examples, as_examples
from regraft.progress import progress_bar
from regraft.splitting import FeatureExtractor
from regraft.stores.folder import FolderStore
from regraft.stores.memory import MemoryStore
from regraft.stores.store import Store
from regraft.tensors.fingerprints import digest_of


@dataclass(frozen=True)
class _Options:
    """The arguments of `cache_features` that are handed on."""

    batch_size: int
    precision: str
    engine: Engine
    head: Callable[[Any], Any] | None
    epochs: int | None
    tell: Callable[[str], None] | None
    again: Again


def cache_features(
    trunk: FeatureExtractor, dataset: Any, store: Store | str | os.PathLike | None = None, *, batch_size: int = 64,
    views: int = 1, precision: str = "float32", engine: Engine | None = None, data_id: str | None = None,
    head: Callable[[Any], Any] | None = None, epochs: int | None = None, tell: Callable[[str], None] | None = None,
) -> Features:  # fmt: skip
    """The trunk's output for each example of a data set, computed once.

    dataset     a torch data set of (input, label) pairs, the pair of tensors (inputs, labels), or Examples
    store       None keeps the features in memory; a path or an fsspec URL in that folder; or a Store
    batch_size  of the trunk's runs; part of the key, since other sizes round differently
    views       stored augmented copies of each example, drawn with fixed seeds
    precision   "float32" is exact; "bfloat16", "float16", "int8" are smaller (see `features.built.rounding`)
    data_id     a promise: under this name, example i has the same input in every run. Only what is missing is read
                then. Without it every input is read and hashed, so that an edited one is noticed
    head        with it, `features.built.rounding` tells what a lower precision changes at the head's outputs
    epochs      of the training to come: when caching takes longer than it saves, it is refused before the build
    tell        is given the cost in a sentence before the build, measured on a batch: bytes, seconds, when it pays

    Features are bit for bit those of `trunk` over batches of `batch_size`; what the store has is not computed again.
    Labels come from the data set each time.

    Raises CacheError when the data set draws at random (and views is 1), when the store cannot be read or written, and
    when rows of the store are not what the trunk gives now.
    """
    check_precision(precision)
    if batch_size < 1 or views < 1:
        raise CacheError(f"batch_size={batch_size} and views={views}: both must be 1 or more.")
    if not trunk.cut.by_row:
        raise CacheError(
            f"The features cannot be cached by example: {trunk.cut.note}\nTrain the model itself, or split it at an "
            'earlier layer, at="…".'
        )
    engine = engine or Engine()
    if engine.compute not in COMPUTE_TOLERANCE:
        raise CacheError(f"No compute {engine.compute!r}. Choose one of {', '.join(COMPUTE_TOLERANCE)}.")
    again = partial(cache_features, store=store, batch_size=batch_size, precision=precision, engine=engine)
    options = _Options(batch_size, precision, engine, head, epochs, tell, again)
    with own_randomness():
        started = time.perf_counter()
        draws = _draws(as_examples(dataset), views, data_id, hashed=store is not None or precision != "float32")
        frozen = _digests(trunk)
        if store is None and precision == "float32":
            features = _in_memory(trunk, draws, options, started)
        else:
            features = _in_store(trunk, draws, as_store(store), options, started)
        if _digests(trunk) != frozen:
            raise CacheError(
                "Frozen weights changed while the features were computed, so they belong to no model.\n"
                f"{'Clear the entry ' + features.key + ', and call' if features.key else 'Call'} cache_features again."
            )
        features.frozen = frozen
        return features


def _digests(trunk: FeatureExtractor) -> dict[str, str]:
    return {name: digest_of(tensor) for name, tensor in trunk.frozen_tensors().items()}


def as_store(store: Store | str | os.PathLike | None) -> Store:
    """The store that is meant: itself, a folder for a path or URL, memory for None."""
    if store is None:
        return MemoryStore()
    return FolderStore(os.fspath(store)) if isinstance(store, (str, os.PathLike)) else store


def _draws(examples: Examples, views: int, data_id: str | None, *, hashed: bool) -> Draws:
    """The rows of the data set, after a look whether they can be drawn again."""
    if views == 1:
        refuse_random(examples)
    names = names_of(examples, data_id) if hashed else None
    rename = None if data_id is not None or names is None else renaming(examples)
    draws = Draws(examples, views=views, names=names, rename=rename, hashed=hashed)
    if views > 1:
        refuse_own_randomness(draws)
    return draws


def _in_memory(trunk: FeatureExtractor, draws: Draws, options: "_Options", started: float) -> Features:
    run, cost = runner(trunk, options.engine.compute), _expect(trunk, draws, None, options)
    with progress_bar("features", len(draws)) as advance:
        columns, labels = whole(draws, run, trunk.cut.leaves, own_shapes(trunk), batch_size=options.batch_size,
                                workers=options.engine.workers, advance=advance)  # fmt: skip
    rows = HeldRows(columns)
    positions = torch.arange(len(draws)).view(-1, draws.views) if draws.views > 1 else None
    built = Built(len(draws), 0, time.perf_counter() - started, rows.bytes, _rounding(trunk, draws, options), cost)
    return Features(rows, positions, labels, cut=trunk.cut, key="", built=built, again=options.again)


def _in_store(trunk: FeatureExtractor, draws: Draws, store: Store, options: "_Options", started: float) -> Features:
    manifest = manifest_of(trunk, batch_size=options.batch_size, precision=options.precision, engine=options.engine)
    entry = store.entry(key_of(manifest), manifest)
    run, rows = runner(trunk, options.engine.compute), StoredRows(entry, trunk.cut.leaves)
    canaries = options.engine.canaries
    tolerance = tolerance_of(options.precision, options.engine.compute, device_of(trunk).type)
    before = rows.index()
    was_checked = check_reused(run, draws, rows, before, count=canaries, tolerance=tolerance)
    if not len(before) and options.tell is not None and (note := _outdated(store, manifest)):
        options.tell(note)
    cost = _expect(trunk, draws, before, options)
    labels = cheap_labels(draws.examples) if draws.ids is not None else None
    with progress_bar("features", len(draws)) as advance:
        builder = Builder(run, draws, entry, trunk.cut.leaves, batch_size=options.batch_size,
                          precision=options.precision, own=own_shapes(trunk), labels=labels,
                          workers=options.engine.workers, advance=advance)  # fmt: skip
        builder.build()
    rows.refresh()
    draws.ids = builder.ids
    if not was_checked:  # few rows were there, and the look before missed them
        check_reused(run, draws, rows, before, count=canaries, tolerance=tolerance)
    positions = positions_of(builder.ids, rows.index(), draws.views)
    kept, order = _kept(store, rows, positions, options.precision)
    built = Built(builder.computed, positions.numel() - builder.computed, time.perf_counter() - started, kept.bytes,
                  _rounding(trunk, draws, options), cost if builder.computed else None)  # fmt: skip
    assert builder.labels is not None, "every example was read, or its label was known"
    return Features(kept, order, builder.labels, cut=trunk.cut, key=entry.key, built=built, again=options.again)


def _outdated(store: Store, manifest: Mapping[str, Any]) -> str:
    """A sentence on entries of versions that stored otherwise; "" where there are none."""
    keys = [
        key for key, told in store.manifests().items() if told.get("layout", manifest["layout"]) != manifest["layout"]
    ]
    if not keys:
        return ""
    return (
        f"{len(keys)} stored {'entry is' if len(keys) == 1 else 'entries are'} of a version of regraft that stored "
        f"otherwise ({', '.join(sorted(keys))}): nothing of that is used, and what is needed is computed again. Remove "
        "it with regraft cache clear."
    )


def _expect(trunk: FeatureExtractor, draws: Draws, index: Index | None, options: "_Options") -> Cost | None:
    """Measure and tell the cost where somebody asks. Raises DoesNotPayError."""
    if options.tell is None and options.epochs is None:
        return None
    cost = expected_cost(runner(trunk, options.engine.compute), draws, index, batch_size=options.batch_size,
                         precision=options.precision, workers=options.engine.workers)  # fmt: skip
    if options.epochs is not None and cost.missing and not cost.pays(options.epochs):
        raise DoesNotPayError(f"{cost}\nThe training is of {options.epochs} epochs: train without a cache.")
    if options.tell is not None and cost.missing:
        options.tell(str(cost))
    return cost


def _rounding(trunk: FeatureExtractor, draws: Draws, options: "_Options") -> dict[str, Difference]:
    """What precision and compute cost on one batch; empty when both are exact."""
    compute = options.engine.compute
    if options.precision == compute == "float32":
        return {}
    inputs = draws.inputs_of(torch.arange(min(options.batch_size, len(draws))))
    return rounding(runner(trunk, compute), runner(trunk, "float32"), inputs, options.precision, options.head)


def _kept(store: Store, rows: StoredRows, positions: Tensor, precision: str) -> tuple[HeldRows | StoredRows, Any]:
    """The rows where they are used from, and each example's positions there; None where they are its own number."""
    size = positions.numel() * sum(leaf.bytes_per_example for leaf in rows.leaves)
    limit = memory_budget() if store.memory_bytes is None else store.memory_bytes
    exact = precision == "float32" or not isinstance(store, MemoryStore)  # else it would lie in memory twice
    rows.memory_bytes = min(rows.memory_bytes, limit)
    if size > limit or not exact:
        return rows, positions
    return rows.hold(positions.reshape(-1)), torch.arange(positions.numel()).view(positions.shape) if positions.shape[
        1
    ] > 1 else None


def cheap_labels(examples: Examples) -> Tensor | None:
    """The labels where the data set has them at hand (`.labels` or `.targets`) and they are the examples' own."""
    for holder in (examples, getattr(examples, "dataset", None)):
        for name in ("labels", "targets"):
            found = getattr(holder, name, None)
            if found is None or len(found) != len(examples):
                continue
            labels = torch.as_tensor(found)
            first = examples.gather(torch.tensor([0]))[1]  # a target_transform would change them
            if torch.equal(labels[:1].to(first), first):
                return labels.to(first.dtype)
    return None
