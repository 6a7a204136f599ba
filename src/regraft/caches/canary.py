"""The canary: a few random rows of a store are computed again before the store is trusted."""

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
# How far a row computed again may be from the stored one, relative to the largest value of its leaf: another batch
# size moved float32 features by 1e-5 (CACHING.md), rounding moves by half a step, TF32 and bfloat16 by their own.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3, "int8": 6e-3}
COMPUTE_TOLERANCE = {"float32": 0.0, "bfloat16": 3e-2, "float16": 5e-3}
DEVICE_TOLERANCE = 1e-3  # of a GPU, whose convolutions choose their algorithm by the batch


def tolerance_of(precision: str, compute: str, device: str) -> float:
    """How far a row that is computed again may be from the stored one, relative to its leaf's largest value."""
    return TOLERANCE[precision] + COMPUTE_TOLERANCE[compute] + (0.0 if device == "cpu" else DEVICE_TOLERANCE)


def check_reused(run: Runner, samples: Samples, rows: StoredRows, before: Index, options: Options) -> bool:
    """Compute a few random rows of the store again. Returns whether there were any.

    before  the ids that the store had before this run

    Raises CacheError when one is not what the trunk gives now.
    """
    # Fresh randomness each run: over many runs every row gets its turn.
    order = torch.from_numpy(np.random.default_rng().permutation(len(samples)))
    if not samples.ids_known:
        order = order[:LOOK_ROWS]
    ids = samples.ids[order.numpy()] if samples.ids_known else samples.fetch(order).ids
    chosen = np.flatnonzero(before.find(ids) >= 0)[: options.engine.canaries]
    if not len(chosen):
        return False
    picked, positions = order[torch.from_numpy(chosen)], torch.from_numpy(rows.index().find(ids[chosen]))
    # Rows of varying length are computed alone: what stands where a batch filled them up is not theirs.
    size = 1 if run.ragged else len(picked)
    tolerance = tolerance_of(options.precision, options.engine.compute, run.device.type)
    problems = []
    for some, where in zip(picked.split(size), positions.split(size), strict=True):
        problems += differences(rows.gather(where), run(samples.inputs_of(some)), some // samples.views, tolerance)
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
