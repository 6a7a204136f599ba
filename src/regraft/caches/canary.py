"""The canary: a few rows of a store are computed again before the store is trusted."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from regraft.caches.differences import allowed_differences, differences, tolerance_of
from regraft.caches.ids import Index
from regraft.caches.options import Options
from regraft.caches.rows import StoredRows
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.errors import CacheError

LOOK_ROWS = 16  # fetched at random to find stored rows, where ids are not known without reading
SAMPLE_ROWS, SAMPLE_BYTES = 256, 16 << 20  # of stored rows, among which the extreme ones are looked for


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
    tolerance = tolerance_of(options.engine.compute, run.device.type)
    tolerance += run.trunk.cut_for(options.batch_size).row_tolerance
    problems = []
    for some, where in zip(torch.split(picked, size), torch.split(positions, size), strict=True):
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


def _largest_values(rows: Mapping[str, Tensor]) -> Tensor:
    """The largest absolute value of each row (rows,), infinity for a row with a gap."""
    columns = [values.double().abs().nan_to_num(nan=torch.inf).reshape(len(values), -1) for values in rows.values()]
    return torch.stack([values.amax(1) if values.shape[1] else values.sum(1) for values in columns]).amax(0)
