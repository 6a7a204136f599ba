"""Functions that torch lacks, beside NumPy."""

import numpy as np
import pytest
import torch

from regraft.networks import runtime_indexing as runtime

X = torch.arange(24.0).reshape(2, 3, 4)


def test_a_reshape_keeps_axes_of_size_0():
    """The size is that of the input."""
    assert runtime.reshape_keeping(X, (0, -1)).shape == (2, 12)


def test_spreading_keeps_sizes_where_the_shape_has_1():
    """Both are broadcast together."""
    assert torch.equal(runtime.spread(X[:, :1], (5, 1, 3, 1)), X[:, :1].expand(5, 2, 3, 4))


@pytest.mark.parametrize("bounds", [((1,), (3,)), (1, 3), (torch.tensor([1]), torch.tensor([3]))])
def test_slices_between_numbers_sequences_or_tensors(bounds):
    """One bound for each axis."""
    assert torch.equal(runtime.slice_between(X, *bounds, (2,), (1,)), X[:, :, 1:3])


def test_indices_may_count_from_the_end():
    """Along an axis, for each place, and for parts."""
    index = torch.tensor([[0, -1]])

    assert torch.equal(runtime.take(X, index, 1), X[:, [[0, 2]]])
    assert torch.equal(runtime.take_elements(X, index.expand(2, 3, 2), 2), X[:, :, [0, 3]])
    assert torch.equal(runtime.take_nd(X, index), X[0, -1][None])
    assert torch.equal(runtime.take_nd(X, torch.tensor([[1], [2]]), 1), torch.stack([X[0, 1], X[1, 2]]))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_values_are_put_into_a_copy(reduction):
    """x itself stays as it is."""
    before, index, values = X.clone(), torch.tensor([[0, 1], [1, 2]]), torch.full((2, 4), 5.0)
    operate = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[
        reduction
    ]
    wanted = X.numpy().copy()
    wanted[[0, 1], [1, 2]] = operate(wanted[[0, 1], [1, 2]], values.numpy())

    assert np.array_equal(runtime.put_nd(X, index, values, reduction).numpy(), wanted)
    put = runtime.put_elements(X, torch.tensor([[[-1]]]), torch.tensor([[[2.0]]]), 2, reduction)
    assert put[0, 0, 3] == operate(3.0, 2.0)
    assert torch.equal(X, before)


def test_one_hot_has_values_and_an_axis_of_its_own():
    """An index outside of the depth is nowhere."""
    hot = runtime.one_hot_values(torch.tensor([0, -1, 5]), 3, 0.5, 2.0, 0, torch.float32)

    assert hot.T.tolist() == [[2, 0.5, 0.5], [0.5, 0.5, 2], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("reflect", "reflect"), ("edge", "edge")])
def test_some_axes_are_padded(mode, numpy_mode):
    """As NumPy pads."""
    padded = runtime.pad_axes(X, ((1, 2),), (2,), mode, 0.0)

    assert np.array_equal(padded.numpy(), np.pad(X.numpy(), [(0, 0), (0, 0), (1, 2)], numpy_mode))


def test_a_condition_of_rows_chooses_rows():
    """TensorFlow's first Select."""
    chosen = runtime.select_rows(torch.tensor([True, False]), X, -X)

    assert torch.equal(chosen, torch.stack([X[0], -X[1]]))


def test_slices_by_begins_and_sizes_or_by_masks():
    """-1 is the rest; a masked bound is left out, and a place that is taken has no axis."""
    assert torch.equal(runtime.slice_sizes(X, (0, 1, 1), (-1, 2, -1)), X[:, 1:3, 1:])
    assert torch.equal(runtime.slice_masked(X, (0, 1, 1), (1, 0, 3), (1, 1, 1), 0, 1, 2), X[0:, 1, 1:3])


def test_blocks_become_batches_and_back():
    """With zeros around, which are cut off again."""
    x = torch.randn(2, 3, 5, 2)
    batches = runtime.space_to_batch(x, (2, 2), ((0, 1), (1, 2)))

    assert batches.shape == (8, 2, 4, 2)
    assert torch.equal(runtime.batch_to_space(batches, (2, 2), ((0, 1), (1, 2))), x)


@pytest.mark.parametrize("as_given", [list, torch.tensor])
def test_padding_by_computed_widths(as_given):
    """ONNX lists all widths before and then all behind, TensorFlow both of each axis; lists, or tensors."""
    x = torch.ones(1, 2)

    assert torch.equal(
        runtime.pad_sizes(x, as_given([0, 1, 0, 2]), 5.0, by_axis=False), torch.tensor([[5.0, 1, 1, 5, 5]])
    )
    assert torch.equal(runtime.pad_sizes(x, as_given([0, 1, 0, 2]), 5.0, by_axis=True)[1], torch.full((4,), 5.0))
