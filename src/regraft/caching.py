"""Compute the cut's values once for each example, and keep them where they can be trusted."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from regraft.building import Builder, positions_of, whole
from regraft.draws import Draws, own_randomness, refuse_own_randomness, refuse_random, seed_all
from regraft.errors import CacheError
from regraft.examples import Examples, Inputs, as_examples, call, map_tensors
from regraft.features import Built, Features, memory_budget
from regraft.fingerprints import hash_description, hash_tensors, input_ids
from regraft.precision import check_precision, rounding
from regraft.progress import progress_bar
from regraft.stored import HeldRows, StoredRows
from regraft.stores.folder import FolderStore
from regraft.stores.memory import MemoryStore
from regraft.stores.store import Entry, Store

LAYOUT = 1  # of the entry's folder; a change makes new entries
CANARIES = 4
# How far a row computed again may be from the stored one, relative to the largest value of its leaf: another batch
# size moved float32 features by 1e-5 (CACHING.md), rounding moves by half a step, TF32 and bfloat16 by their own.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3, "int8": 6e-3}
COMPUTE_TOLERANCE = {"float32": 0.0, "bfloat16": 3e-2, "float16": 5e-3}


class TrunkLike(Protocol):
    """What `split` gives as the trunk."""

    @property
    def cut(self) -> Any:
        """`.leaves`: name, shape, dtype and bytes per example of each tensor that crosses."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Leaf → one row per example."""

    def describe(self) -> dict:
        """Plain data that changes when the computation does: classes, sources, modes."""

    def frozen_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers that the features depend on."""


@final
@dataclass(frozen=True)
class Engine:
    """How the trunk is run.

    compute   "float32" runs the trunk as it is; "bfloat16" or "float16" under torch's autocast, which is faster on
              processors made for it and less exact: part of the key
    workers   threads that fetch examples; None chooses
    canaries  rows of the store that are computed again before it is trusted
    """

    compute: str = "float32"
    workers: int | None = None
    canaries: int = CANARIES


def cache_features(
    trunk: TrunkLike, dataset: Any, store: Store | str | os.PathLike | None = None, *, batch_size: int = 64,
    views: int = 1, precision: str = "float32", engine: Engine | None = None, data_id: str | None = None,
) -> Features:  # fmt: skip
    """The trunk's output for each example of a data set, computed once.

    dataset     a torch data set of (input, label) pairs, the pair of tensors (inputs, labels), or Examples
    store       None keeps the features in memory; a path or an fsspec URL in that folder; or a Store
    batch_size  of the trunk's runs; part of the key, since other sizes round differently
    views       stored augmented copies of each example, drawn with fixed seeds
    precision   "float32" is exact; "bfloat16", "float16", "int8" are smaller (see `features.built.rounding`)
    data_id     a promise: under this name, example i has the same input in every run. Only what is missing is read
                then. Without it every input is read and hashed, so that an edited one is noticed

    Features are bit for bit those of `trunk` over batches of `batch_size`; what the store has is not computed again.
    Labels come from the data set each time.

    Raises CacheError when the data set draws at random (and views is 1), when the store cannot be read or written, and
    when rows of the store are not what the trunk gives now.
    """
    check_precision(precision)
    if batch_size < 1 or views < 1:
        raise CacheError(f"batch_size={batch_size} and views={views}: both must be 1 or more.")
    engine = engine or Engine()
    if engine.compute not in COMPUTE_TOLERANCE:
        raise CacheError(f"No compute {engine.compute!r}. Choose one of {', '.join(COMPUTE_TOLERANCE)}.")
    with own_randomness():
        started = time.perf_counter()
        draws = _draws(as_examples(dataset), views, data_id, hashed=store is not None or precision != "float32")
        if store is None and precision == "float32":
            return _in_memory(trunk, draws, batch_size, engine, started)
        return _in_store(trunk, draws, as_store(store), batch_size, precision, engine, started)


def as_store(store: Store | str | os.PathLike | None) -> Store:
    """The store that is meant: itself, a folder for a path or URL, memory for None."""
    if store is None:
        return MemoryStore()
    return FolderStore(os.fspath(store)) if isinstance(store, (str, os.PathLike)) else store


def manifest_of(trunk: TrunkLike, *, batch_size: int, precision: str, engine: Engine) -> dict[str, Any]:
    """Everything that features depend on beside the example itself, as plain data; its hash is the key."""
    leaves = [[leaf.name, list(leaf.shape), str(leaf.dtype)] for leaf in trunk.cut.leaves]
    return {
        "layout": LAYOUT,
        "trunk": trunk.describe(),
        "frozen": hash_tensors(trunk.frozen_tensors()),
        "cut": leaves,
        "batch_size": batch_size,
        "precision": precision,
        "compute": engine.compute,
        "modes": modes(device_of(trunk)),
    }


def modes(device: torch.device) -> dict[str, Any]:
    """The switches of torch that change results, and its version."""
    return {
        "torch": torch.__version__.split("+")[0],
        "device": device.type,
        "autocast": str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else "",
        "float32_matmul": torch.get_float32_matmul_precision(),
        "tf32_convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "default_dtype": str(torch.get_default_dtype()),
    }


def device_of(trunk: TrunkLike) -> torch.device:
    """Where the trunk's tensors are; the CPU when it has none."""
    return next((tensor.device for tensor in trunk.frozen_tensors().values()), torch.device("cpu"))


def _runner(trunk: TrunkLike, engine: Engine) -> Any:
    """The trunk as it is called: on its device, without gradients, in the engine's dtype, as the cut's dtypes."""
    device, leaves = device_of(trunk), trunk.cut.leaves

    def run(inputs: Inputs) -> dict[str, Tensor]:
        dtype = getattr(torch, engine.compute)
        mode = nullcontext() if engine.compute == "float32" else torch.autocast(device.type, dtype)
        with torch.no_grad(), mode:
            outputs = call(trunk, map_tensors(lambda tensor: tensor.to(device, non_blocking=True), inputs))
        if engine.compute == "float32":
            return outputs
        wanted = {leaf.name: leaf.dtype for leaf in leaves}
        return {name: rows.to(wanted.get(name, rows.dtype)) for name, rows in outputs.items()}

    return run


def _draws(examples: Examples, views: int, data_id: str | None, *, hashed: bool) -> Draws:
    """The rows of the data set, after a look whether they can be drawn again."""
    if views == 1:
        refuse_random(examples)
    draws = Draws(examples, views=views, names=_names(examples, data_id) if hashed else None, hashed=hashed)
    if views > 1:
        refuse_own_randomness(draws)
    return draws


def _in_memory(trunk: TrunkLike, draws: Draws, batch_size: int, engine: Engine, started: float) -> Features:
    with progress_bar("features", len(draws)) as advance:
        tensors, labels = whole(draws, _runner(trunk, engine), trunk.cut.leaves, batch_size=batch_size,
                                workers=engine.workers, advance=advance)  # fmt: skip
    rows = HeldRows(tensors)
    positions = torch.arange(len(draws)).view(-1, draws.views) if draws.views > 1 else None
    built = Built(len(draws), 0, time.perf_counter() - started, rows.bytes)
    return Features(rows, positions, labels, cut=trunk.cut, key="", built=built)


def _in_store(
    trunk: TrunkLike, draws: Draws, store: Store, batch_size: int, precision: str, engine: Engine, started: float
) -> Features:
    manifest = manifest_of(trunk, batch_size=batch_size, precision=precision, engine=engine)
    key = hash_description(manifest)[:32]
    entry = store.entry(key, manifest)
    builder, reused = _build(trunk, draws, entry, batch_size, precision, engine)
    rows = StoredRows(entry, trunk.cut.leaves)
    positions = positions_of(builder.ids, rows.index(), draws.views)
    if reused.any():
        _canary(trunk, draws, rows, positions, reused, precision, engine)
    return _features(trunk, store, rows, positions, builder, precision, key, started)


def _build(
    trunk: TrunkLike, draws: Draws, entry: Entry, batch_size: int, precision: str, engine: Engine
) -> tuple[Builder, np.ndarray]:
    """The builder after its work, and which rows the store had before."""
    before = StoredRows(entry, trunk.cut.leaves).index()
    labels = cheap_labels(draws.examples) if draws.ids is not None else None
    with progress_bar("features", len(draws)) as advance:
        builder = Builder(_runner(trunk, engine), draws, entry, trunk.cut.leaves, batch_size=batch_size,
                          precision=precision, labels=labels, workers=engine.workers, advance=advance)  # fmt: skip
        builder.build()
    return builder, before.find(builder.ids) >= 0


def _features(
    trunk: TrunkLike, store: Store, rows: StoredRows, positions: Tensor, builder: Builder, precision: str, key: str,
    started: float,
) -> Features:  # fmt: skip
    assert builder.labels is not None, "every example was read, or its label was known"
    kept: HeldRows | StoredRows = rows
    size = positions.numel() * sum(leaf.bytes_per_example for leaf in trunk.cut.leaves)
    limit = memory_budget() if store.memory_bytes is None else store.memory_bytes
    exact = precision == "float32" or not isinstance(store, MemoryStore)  # else it would lie in memory twice
    if size <= limit and exact:
        kept = HeldRows(rows.gather(positions.reshape(-1)))
        rows.entry.forget()
    order = None if kept is not rows and positions.shape[1] == 1 else positions
    if kept is not rows and positions.shape[1] > 1:
        order = torch.arange(positions.numel()).view(positions.shape)
    lossy = rounding(builder.sample, precision) if builder.sample and precision != "float32" else {}
    built = Built(builder.computed, positions.numel() - builder.computed, time.perf_counter() - started, kept.bytes,
                  lossy)  # fmt: skip
    return Features(kept, order, builder.labels, cut=trunk.cut, key=key, built=built)


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


def _names(examples: Examples, data_id: str | None) -> Sequence[str] | None:
    """A text for each example that changes when its input does, where somebody vouches for that."""
    if data_id is not None:
        seed_all(b"probe")
        probe = input_ids(examples.gather(torch.arange(1))[0], 1).tobytes().hex()
        return [f"{data_id}\0{probe}\0{index}" for index in range(len(examples))]
    vouched = getattr(examples, "content_ids", None) or getattr(getattr(examples, "dataset", None), "content_ids", None)
    return vouched() if vouched else None


def _canary(
    trunk: TrunkLike, draws: Draws, rows: StoredRows, positions: Tensor, reused: np.ndarray, precision: str,
    engine: Engine,
) -> None:  # fmt: skip
    """Compute a few random rows of the store again. Raises CacheError when one is not what the trunk gives now."""
    candidates = np.flatnonzero(reused)
    # Fresh randomness each run: over many runs every row gets its turn.
    chosen = np.random.default_rng().choice(candidates, min(engine.canaries, len(candidates)), replace=False)
    picked = torch.from_numpy(np.sort(chosen))
    stored = rows.gather(positions.reshape(-1)[picked])
    fresh = _runner(trunk, engine)(draws.inputs_of(picked))
    limit = TOLERANCE[precision] + COMPUTE_TOLERANCE[engine.compute] + (1e-3 if device_of(trunk).type == "cuda" else 0)
    problems = _differences(stored, fresh, picked // draws.views, limit)
    if problems:
        raise CacheError(
            f"The stored features are not those of this trunk and data ({rows.entry.key}).\n"
            + "\n".join(problems)
            + "\nSomething changed that the key cannot see (a function outside the model, or data under the same "
            "data_id). Clear the entry and run again, or give the data another data_id."
        )


def _differences(
    stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor], examples: Tensor, limit: float
) -> list[str]:
    problems = []
    for leaf, rows in stored.items():
        now = fresh[leaf].to(rows.device)
        allowed = limit * max(now.abs().max().item(), 1e-12) if now.is_floating_point() else 0
        for example, then, again in zip(examples.tolist(), rows, now, strict=True):
            apart = (then.double() - again.double()).abs().nan_to_num(nan=0.0 if _same_gaps(then, again) else np.inf)
            if apart.numel() and apart.max().item() > allowed:
                problems.append(
                    f"  example {example}, {leaf}: stored and computed again differ by {apart.max().item():.3g}, "
                    f"allowed {allowed:.3g}"
                )
    return problems


def _same_gaps(then: Tensor, again: Tensor) -> bool:
    return torch.equal(then.isnan(), again.isnan()) and torch.equal(then.isinf(), again.isinf())
