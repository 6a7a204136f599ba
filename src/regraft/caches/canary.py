"""The canary: a few rows of a store are computed again before the store is trusted."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from regraft.caches.ids import Index
from regraft.caches.options import Options
from regraft.caches.rows import StoredRows
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.errors import CacheError

LOOK_ROWS = 16  # fetched at random to find stored rows, where ids are not known without reading
SAMPLE_ROWS, SAMPLE_BYTES = 256, 16 << 20  # of stored rows, among which the extreme ones are looked for
# How far a value computed again may be from the stored one, relative to itself or to FEW of its row's typical values,
# whichever is more. Another batch size moved float32 features by 1e-5 of the leaf's largest value (CACHING.md), which
# is a few typical ones; TF32 and bfloat16 move them by more.
TOLERANCE = 1e-4
COMPUTE_TOLERANCE = {"float32": 0.0, "bfloat16": 3e-2, "float16": 5e-3}
DEVICE_TOLERANCE = 1e-3  # of a GPU, whose convolutions choose their algorithm by the batch
FEW = 4
# What storing in a lower precision moves a value by, relative to itself: half a step of its significand. int8 moves it
# by half a step of its channel or row.
ROUNDING = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11, "int8": 0.0}
SMALLEST_HALF = 6e-8  # float16 has no smaller step


def tolerance_of(compute: str, device: str) -> float:
    """How far a value that is computed again may be from the one before, beside the rounding of its storage."""
    return TOLERANCE + COMPUTE_TOLERANCE[compute] + (0.0 if device == "cpu" else DEVICE_TOLERANCE)


def check_reused(run: Runner, samples: Samples, rows: StoredRows, before: Index, options: Options) -> bool:
    """Compute a few rows of the store again. Returns whether there were any.

    before  the ids that the store had before this run

    Raises CacheError when one is not what the trunk gives now.
    """
    # Fresh randomness each run: over many runs every row gets its turn.
    order = torch.from_numpy(np.random.default_rng().permutation(len(samples)))
    if not samples.ids_known:
        order = order[:LOOK_ROWS]
    ids = samples.ids[order.numpy()] if samples.ids_known else samples.fetch(order).ids
    stored = torch.from_numpy(np.flatnonzero(before.find(ids) >= 0)[:SAMPLE_ROWS])
    if not len(stored) or options.engine.canaries < 1:
        return False
    positions = torch.from_numpy(rows.index().find(ids[stored.numpy()]))
    chosen = choose_rows(rows, positions, options.engine.canaries)
    picked, positions = order[stored[chosen]], positions[chosen]
    # Rows of varying length are computed alone: what stands where a batch filled them up is not theirs.
    size = 1 if run.ragged else len(picked)
    # The rows are computed in another batch, so at another index, than when they were stored.
    tolerance = tolerance_of(options.engine.compute, run.device.type) + run.trunk.cut.row_tolerance
    problems = []
    for some, where in zip(picked.split(size), positions.split(size), strict=True):
        fresh, steps = run(samples.inputs_of(some)), rows.steps(where)
        for leaf, values in rows.gather(where).items():
            allowed = allowed_differences(fresh[leaf].cpu(), tolerance, options.precision, steps.get(leaf))
            problems += differences(leaf, values, fresh[leaf].cpu(), allowed, some // samples.views)
    if problems:
        raise CacheError(
            f"The stored features are not those of this trunk and data ({rows.entry.key}).\n"
            + "\n".join(problems)
            + "\nSomething changed that the key cannot see (a function outside the model, or data under the same "
            "data_id). Clear the entry and run again, or give the data another data_id."
        )
    return True


def choose_rows(rows: StoredRows, positions: Tensor, count: int) -> Tensor:
    """Which of these rows to compute again: half of them the first ones, then the longest and the largest.

    What changes few examples (another bound, another greatest length) mostly changes the extreme ones.
    """
    size = max(1, SAMPLE_BYTES // max(1, sum(leaf.bytes_per_example for leaf in rows.leaves)))
    sample = positions[: max(count, size)]
    lengths = rows.row_bytes(sample).argsort(descending=True, stable=True)
    largest = _largest_values(rows.gather(sample)).argsort(descending=True, stable=True)
    order = [*range((count + 1) // 2), *(int(row) for pair in zip(largest, lengths, strict=True) for row in pair)]
    return torch.tensor(list(dict.fromkeys(row for row in order if row < len(sample)))[:count])


def allowed_differences(fresh: Tensor, tolerance: float, precision: str, steps: Tensor | None) -> Tensor:
    """How far each stored value may be from the one computed now, of the same shape.

    Relative to the value itself and to its own row: one large value, in this row or another, hides nothing.

    steps  of int8, to be broadcast; None for other precisions
    """
    if not fresh.is_floating_point():
        return torch.zeros_like(fresh, dtype=torch.float64)
    sizes = fresh.double().abs().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    typical = torch.stack([_typical(row) for row in sizes])
    typical = typical.clamp(min=1e-3 * float(typical.max()))  # a row of zeros is no more exact than the others
    shape = [-1] + [1] * (fresh.ndim - 1)
    allowed = tolerance * torch.maximum(sizes, FEW * typical.view(shape)) + 1e-12
    allowed += ROUNDING[precision] * sizes + (SMALLEST_HALF if precision == "float16" else 0.0)
    if steps is None:
        return allowed
    middle = [1] * (fresh.ndim - steps.ndim)  # of tokens: (rows, tokens, channels)
    return allowed + 0.51 * steps.double().view(len(steps), *middle, *steps.shape[1:])  # half, and its own rounding


def differences(leaf: str, stored: Tensor, fresh: Tensor, allowed: Tensor, examples: Tensor) -> list[str]:
    """A sentence for each row with a value that is farther away than allowed."""
    common = tuple(slice(min(sizes)) for sizes in zip(stored.shape, fresh.shape, strict=True))  # padded differently
    problems = []
    for example, then, now, limit in zip(
        examples.tolist(), stored[common], fresh[common], allowed[common], strict=True
    ):
        apart = (then.double() - now.double()).abs()
        apart = torch.where(_same_gaps(then, now), 0.0, apart).nan_to_num(nan=torch.inf)
        excess = apart - limit
        if excess.numel() and excess.max() > 0:
            worst = excess.argmax()
            problems.append(
                f"  example {example}, {leaf}: stored and computed again differ by {apart.flatten()[worst]:.3g}, "
                f"allowed {limit.flatten()[worst]:.3g}"
            )
    return problems


def _typical(sizes: Tensor) -> Tensor:
    """The mean of a row's absolute values that are not zero, of which few very large ones count as tenfold."""
    nonzero = sizes[sizes > 0]
    return nonzero.clamp(max=10 * nonzero.median()).mean() if len(nonzero) else sizes.new_zeros(())


def _largest_values(rows: Mapping[str, Tensor]) -> Tensor:
    """The largest absolute value of each row (rows,), infinity for a row with a gap."""
    columns = [values.double().abs().nan_to_num(nan=torch.inf).reshape(len(values), -1) for values in rows.values()]
    return torch.stack([values.amax(1) if values.shape[1] else values.sum(1) for values in columns]).amax(0)


def _same_gaps(then: Tensor, now: Tensor) -> Tensor:
    """Where both are the same gap: no number, or the same infinity."""
    return (then.isnan() & now.isnan()) | (then.isinf() & (then == now))
