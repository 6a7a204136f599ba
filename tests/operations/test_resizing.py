"""Tables of positions are resized as the frameworks' own code does it."""

import numpy as np
import pytest
import torch

import vision_stub  # noqa: F401  # timm imports torchvision
from regraft.errors import PlanError
from regraft.operations.resizing import ResizePositions

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("sizes", "kept"), [(((14, 14), (24, 24)), 1), (((14, 14), (7, 7)), 2), (((7, 9), (5, 18)), 0)]
)
def test_a_flattened_grid_is_resized_as_timm_does(sizes, kept):
    from timm.layers import resample_abs_pos_embed

    (grid, to), table = sizes, RANDOM.normal(size=(1, kept + np.prod(sizes[0]), 8)).astype(np.float32)

    (resized,) = ResizePositions(1, grid, to, kept=kept).run([table])

    theirs = resample_abs_pos_embed(torch.tensor(table), list(to), list(grid), num_prefix_tokens=kept)
    np.testing.assert_allclose(resized, theirs.numpy(), rtol=0, atol=1e-6)
    assert np.array_equal(resized[:, :kept], table[:, :kept])


def test_a_grid_with_axes_of_its_own_is_resized_as_timm_does():
    from timm.layers import resample_abs_pos_embed_nhwc

    table = RANDOM.normal(size=(1, 7, 9, 8)).astype(np.float32)

    (resized,) = ResizePositions(1, (7, 9), (14, 6), is_flat=False).run([table])

    theirs = resample_abs_pos_embed_nhwc(torch.tensor(table), [14, 6]).numpy()
    np.testing.assert_allclose(resized, theirs, rtol=0, atol=1e-6)


def test_channels_may_come_first():
    table = RANDOM.normal(size=(1, 7, 9, 8)).astype(np.float32)

    (last,) = ResizePositions(1, (7, 9), (14, 6), is_flat=False).run([table])
    (first,) = ResizePositions(2, (7, 9), (14, 6), is_flat=False).run([table.transpose(0, 3, 1, 2)])

    np.testing.assert_allclose(first, last.transpose(0, 3, 1, 2), rtol=0, atol=1e-6)  # other order of sums


def test_relative_positions_are_resized_as_swins_authors_do():
    from timm.layers import resize_rel_pos_bias_table_simple

    table = RANDOM.normal(size=(13 * 13, 3)).astype(np.float32)

    (resized,) = ResizePositions(0, (13, 13), (23, 23), antialias=False).run([table])

    theirs = resize_rel_pos_bias_table_simple(torch.tensor(table), (12, 12), (23 * 23, 3)).numpy()
    np.testing.assert_allclose(resized, theirs, rtol=0, atol=1e-6)


def test_text_positions_are_interpolated_linearly():
    table = np.arange(4.0, dtype=np.float32)[:, None] * np.array([1.0, 10.0], np.float32)

    (resized,) = ResizePositions(0, (4,), (8,)).run([table])

    # Positions lie at the centres of equal steps; the edges repeat.
    assert resized[:, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert np.allclose(resized[:, 1], 10 * resized[:, 0])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_dtype_stays(dtype):
    (resized,) = ResizePositions(0, (2, 2), (3, 3)).run([np.ones((4, 2), dtype)])

    assert resized.dtype == dtype


def test_another_number_of_positions_is_refused():
    with pytest.raises(PlanError, match=r"behind 1 token\) -> 4×4.*axis 0 must hold 3×3 \(behind 1 token\) positions"):
        ResizePositions(0, (3, 3), (4, 4), kept=1).shapes([(9, 2)])


def test_it_says_what_it_does():
    assert str(ResizePositions(1, (7, 9), (14, 18), kept=2)) == (
        "positions 7×9 (behind 2 tokens) -> 14×18 (behind 2 tokens), bicubic"
    )
    assert str(ResizePositions(0, (7,), (9,))) == "positions 7 -> 9, linear"
    assert str(ResizePositions(0, (2, 2), (3, 3), antialias=False)).endswith("bicubic without antialias")
