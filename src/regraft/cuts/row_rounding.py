"""Measure whether a row's bits depend on the row's index in its batch.

A kernel may sum in another order at the end of a block of rows, or where a row's memory is not aligned. On an AMD EPYC
MKL's matrix products do so for narrow layers (6 inputs), and with two threads for layers of any width in batches of 5
or 10 rows. Then a row's bits are those of its batch, in its order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from regraft.cuts.batches import Arguments, Batch, laid_out_like
from regraft.tensors.trees import map_tree

BATCH_ROWS = 64  # the default batch size of `cache_features`
BATCH_WORK = 2e9  # floating-point operations that a batch may cost here, beside one of the example's size: 0.1 s
COPIES = 8  # of an example at least, at consecutive indices: they reach every alignment within 32 bytes


def batch_sizes(rows: int, batch_size: int, work: float) -> set[int]:
    """The batch sizes to measure: the example's own, and `batch_size` where that is cheap.

    rows  of the example
    work  floating-point operations for one row
    """
    return {rows, batch_size} if batch_size * work <= BATCH_WORK else {rows}


def repeated_rows(batch: Batch, size: int) -> tuple[Arguments, Tensor]:
    """A batch of `size` rows in which each example fills consecutive indices; and for each index its example."""
    examples = max(1, min(batch.rows, size // COPIES))
    order = torch.arange(size) * examples // size

    def repeat(tensor: Tensor) -> Tensor:
        has_rows = tensor.shape[:1] == (batch.rows,)
        return laid_out_like(tensor, tensor.index_select(0, order.to(tensor.device))) if has_rows else tensor.clone()

    return map_tree(repeat, batch.all), order


def difference_of_copies(features: Mapping[str, Tensor], order: Tensor) -> float:
    """The largest difference between rows of the same example, see `relative_difference`.

    order  for each row its example, as `repeated_rows` gives it
    """
    first = torch.searchsorted(order, order)
    return max((relative_difference(rows[first.to(rows.device)], rows) for rows in features.values()), default=0.0)


def same_rows(expected: Tensor, rows: Tensor, tolerance: float) -> bool:
    """Whether two computations of the same rows agree: bit for bit, or, where rows are rounded by index, within it.

    tolerance  `Cut.row_tolerance`
    """
    if not tolerance or expected.shape != rows.shape or not (rows.is_floating_point() or rows.is_complex()):
        return torch.equal(expected, rows)
    same_gaps = torch.equal(expected.isfinite(), rows.isfinite())
    return expected.dtype == rows.dtype and same_gaps and relative_difference(expected, rows) <= tolerance


def relative_difference(expected: Tensor, rows: Tensor) -> float:
    """The largest difference of two tensors of rows, relative to the value; 0.0 for equal bits, 1.0 at most.

    A value counts as large as its row's mean at least, and a row as a thousandth of the largest row: what remains of a
    sum whose terms cancel differs by as much as the terms do. Values that are not finite are left out, for a difference
    from them has no size.
    """
    if torch.equal(expected, rows):
        return 0.0
    wide = torch.complex128 if rows.is_complex() else torch.float64
    expected, rows = (values.reshape(len(values), -1).to(wide) for values in (expected, rows))
    sizes = expected.abs().nan_to_num(0.0, 0.0)
    means = sizes.mean(1, keepdim=True)
    scale = torch.maximum(sizes, means.clamp(min=1e-3 * float(means.max())))
    differences = (expected - rows).abs().nan_to_num(0.0, 0.0)
    return float((differences / scale.clamp(min=torch.finfo(torch.float64).tiny)).max().clamp(max=1.0))
