"""A look before building: is what the store has still true, what will the rest cost, and what does rounding cost."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.caches.building import Run, first_rows
from regraft.caches.costs import Cost
from regraft.caches.precision import SCALE, Difference, decode, difference, encode
from regraft.caches.rows import Index, StoredRows
from regraft.caches.sampling import Drawn, Draws
from regraft.errors import CacheError
from regraft.examples import Inputs
from regraft.tensors.fingerprints import as_bytes, input_ids
from regraft.tensors.trees import tensors_of

LOOK_ROWS = 16  # drawn at random to find stored rows, where ids are not known without reading
LEAST_S = 0.05  # a shorter measurement is repeated on a whole batch
# How far a row computed again may be from the stored one, relative to the largest value of its leaf: another batch
# size moved float32 features by 1e-5 (CACHING.md), rounding moves by half a step, TF32 and bfloat16 by their own.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3, "int8": 6e-3}
COMPUTE_TOLERANCE = {"float32": 0.0, "bfloat16": 3e-2, "float16": 5e-3}
DEVICE_TOLERANCE = 1e-3  # of a GPU, whose convolutions choose their algorithm by the batch


def tolerance_of(precision: str, compute: str, device: str) -> float:
    """How far a row that is computed again may be from the stored one, relative to its leaf's largest value."""
    return TOLERANCE[precision] + COMPUTE_TOLERANCE[compute] + (0.0 if device == "cpu" else DEVICE_TOLERANCE)


def check_reused(
    run: Run, draws: Draws, rows: StoredRows, before: Index, *, count: int, tolerance: float
) -> bool:  # fmt: skip
    """Compute a few random rows of the store again: the canary. Returns whether there were any.

    before     the ids that the store had before this run
    count      rows to compute; 0 trusts the store
    tolerance  see `tolerance_of`

    Raises CacheError when one is not what the trunk gives now.
    """
    # Fresh randomness each run: over many runs every row gets its turn.
    order = torch.from_numpy(np.random.default_rng().permutation(len(draws)))
    if draws.ids is None:
        order = order[:LOOK_ROWS]
    ids = draws.ids[order.numpy()] if draws.ids is not None else draws.drawn(order).ids
    chosen = np.flatnonzero(before.find(ids) >= 0)[:count]
    if not len(chosen):
        return False
    picked, positions = order[torch.from_numpy(chosen)], torch.from_numpy(rows.index().find(ids[chosen]))
    # Rows of varying length are computed alone: what stands where a batch filled them up is not theirs.
    size = 1 if any(leaf.varying for leaf in rows.leaves) else len(picked)
    problems = []
    for some, where in zip(picked.split(size), positions.split(size), strict=True):
        problems += differences(rows.gather(where), run(draws.inputs_of(some)), some // draws.views, tolerance)
    if problems:
        raise CacheError(
            f"The stored features are not those of this trunk and data ({rows.entry.key}).\n"
            + "\n".join(problems)
            + "\nSomething changed that the key cannot see (a function outside the model, or data under the same "
            "data_id). Clear the entry and run again, or give the data another data_id."
        )
    return True


def differences(stored: Mapping[str, Tensor], fresh: Mapping[str, Tensor], examples: Tensor, limit: float) -> list[str]:
    """A sentence for each row that is farther away than `limit` times the largest value of its leaf."""
    problems = []
    for leaf, rows in stored.items():
        now = fresh[leaf].to(rows.device)
        allowed = limit * max(now.abs().max().item(), 1e-12) if now.is_floating_point() else 0
        both = tuple(slice(min(sizes)) for sizes in zip(rows.shape, now.shape, strict=True))  # padded differently
        for example, then, again in zip(examples.tolist(), rows[both], now[both], strict=True):
            apart = (then.double() - again.double()).abs().nan_to_num(nan=0.0 if _same_gaps(then, again) else np.inf)
            if apart.numel() and apart.max().item() > allowed:
                problems.append(
                    f"  example {example}, {leaf}: stored and computed again differ by {apart.max().item():.3g}, "
                    f"allowed {allowed:.3g}"
                )
    return problems


def _same_gaps(then: Tensor, again: Tensor) -> bool:
    return torch.equal(then.isnan(), again.isnan()) and torch.equal(then.isinf(), again.isinf())


def expected_cost(
    run: Run, draws: Draws, index: Index | None, *, batch_size: int, precision: str, workers: int | None = None
) -> Cost:
    """What computing the missing rows will cost, measured on one random batch.

    index  of the rows that the store has; None for no store

    Without known ids the part that is missing is estimated from the batch.
    """
    rows = torch.randperm(len(draws), generator=torch.Generator().manual_seed(0))[:batch_size]
    started = time.perf_counter()
    inputs, ids = _fetched(draws, rows, workers)
    fetch = time.perf_counter() - started
    hashing = _seconds(lambda: input_ids(inputs, len(rows))) if draws.hashed and draws.ids is None else 0.0
    trunk, outputs = _trunk_seconds(run, inputs, len(rows))
    count = len(next(iter(outputs.values())))
    encoded = {leaf: encode(leaf, values, precision) for leaf, values in outputs.items()}
    stored = [tensor for tensors in encoded.values() for name, tensor in tensors.items() if not name.endswith(SCALE)]
    known = draws.ids if draws.ids is not None else ids
    missing = 1.0 if index is None else float((index.find(known) < 0).mean())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return Cost(
        count=len(draws.examples),
        views=draws.views,
        missing=round(missing * len(draws)),
        fetched=round(missing * len(draws)) if draws.ids is not None else len(draws),
        bytes=round(sum(tensor.numel() * tensor.element_size() for tensor in stored) / count * len(draws)),
        fetch_s=max(0.0, fetch - hashing) / len(rows),
        trunk_s=trunk,
        write_s=hashing / len(rows) + _seconds(lambda: _written(outputs, precision)) / count,
        read_s=_seconds(lambda: _read(outputs, encoded, order)) / count,
    )


def _fetched(draws: Draws, rows: Tensor, workers: int | None) -> tuple[Inputs, np.ndarray]:
    """The inputs and ids of these rows, fetched in small blocks by as many threads as the build has."""
    drawn = Drawn.joined([*draws.batches(rows, max(1, len(rows) // 8), workers=workers)])
    return drawn.inputs, drawn.ids


def _trunk_seconds(run: Run, inputs: Inputs, count: int) -> tuple[float, dict[str, Tensor]]:
    """Seconds of the trunk for one row, and outputs. A dear trunk is measured on few rows."""
    run(first_rows(inputs, 0, min(2, count)))  # the first run of a shape plans and allocates
    for size in (min(LOOK_ROWS, count), count):
        started = time.perf_counter()
        outputs = {leaf: rows.cpu() for leaf, rows in run(first_rows(inputs, 0, size)).items()}
        seconds = time.perf_counter() - started
        if seconds > LEAST_S:
            break
    return seconds / size, outputs


def _written(outputs: Mapping[str, Tensor], precision: str) -> None:
    for leaf, rows in outputs.items():
        for tensor in encode(leaf, rows, precision).values():
            hashlib.sha256(as_bytes(tensor).data)


def _read(outputs: Mapping[str, Tensor], encoded: Mapping[str, Mapping[str, Tensor]], order: Tensor) -> None:
    for leaf, rows in outputs.items():
        decode(encoded[leaf][leaf].index_select(0, order), rows.dtype, encoded[leaf].get(leaf + SCALE))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounding(
    run: Run, exact_run: Run, inputs: Inputs, precision: str, head: Callable[[Any], Any] | None = None
) -> dict[str, Difference]:
    """How far stored features are from exact ones, for each leaf, and for each of the head's outputs.

    run        the trunk as the features are computed
    exact_run  the trunk in float32
    head       called in evaluation mode; its mode is left as it was
    """
    exact, measured = exact_run(inputs), {}
    stored = {}
    for leaf, rows in run(inputs).items():
        parts = encode(leaf, rows, precision)
        stored[leaf] = decode(parts[leaf], rows.dtype, parts.get(leaf + SCALE))
        measured[leaf] = difference(exact[leaf], stored[leaf])
    if head is not None:
        outputs = zip(_outputs(head, exact), _outputs(head, stored), strict=True)
        for number, (expected, got) in enumerate(outputs):
            measured["output" if number == 0 else f"output {number}"] = difference(expected, got)
    return measured


def _outputs(head: Any, features: Mapping[str, Tensor]) -> list[Tensor]:
    was_training = getattr(head, "training", False)
    if was_training:
        head.eval()
    try:
        with torch.no_grad():
            return [tensor for tensor in tensors_of(head(dict(features))) if tensor.is_floating_point()]
    finally:
        if was_training:
            head.train()
