"""The documented ways to make an array fit, and nothing else."""

import numpy as np
import pytest
import torch

from regraft.errors import PatternError, PlanError
from regraft.operations.running import run_operations
from regraft.plans.adapting import adapting_operations, chosen_methods, resized_grid, resized_steps


def adapted(way, array, target):
    return run_operations(adapting_operations(way, array.shape, target), [array])


def test_grey_images_give_what_three_equal_channels_gave():
    kernel = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    grey = np.random.default_rng(1).normal(size=(2, 2))

    summed = adapted("sum", kernel, (4, 1, 2, 2))

    # float64, another order of sums
    assert np.allclose((summed[:, 0] * grey).sum((1, 2)), (kernel * grey).sum((1, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_repeated_channels_keep_the_response_to_an_even_input(channels):
    kernel = np.ones((4, 3, 2, 2))

    repeated = adapted("repeat", kernel, (4, channels, 2, 2))

    assert repeated.shape == (4, channels, 2, 2)
    assert np.allclose(repeated.sum(), kernel.sum())


def test_a_flattened_map_takes_any_order():
    array = np.arange(12).reshape(1, 12)

    assert np.array_equal(
        adapted("flatten 2x3x2", array, (1, 12))[0], np.arange(12).reshape(2, 3, 2).transpose(2, 0, 1).ravel()
    )
    assert np.array_equal(adapted("flatten 2x3x2 order 0,1,2", array, (1, 12)), array)


@pytest.mark.parametrize(
    ("way", "expected"),
    [("rows 1:3", [[2, 3], [4, 5]]), ("transposed", [[0, 2, 4], [1, 3, 5]]), ("as stored", [[0, 1], [2, 3], [4, 5]])],
)
def test_rows_are_chosen_and_axes_turned(way, expected):
    assert adapted(way, np.arange(6).reshape(3, 2), (2, 2)).tolist() == expected


def test_an_array_of_too_few_axes_is_left_alone():
    assert adapting_operations("sum", (5,), (5,)) is None


def test_an_unknown_way_is_answered_with_the_ways_that_exist():
    with pytest.raises(PlanError, match=r"(?s)no method 'squeeze'.*sum: a convolution's input channels"):
        chosen_methods({"conv": "squeeze"}, ["conv.weight"])


def test_a_pattern_that_chooses_nothing_is_an_error():
    with pytest.raises(PatternError, match="'covn'"):
        chosen_methods({"covn": "sum"}, ["conv.weight"])


def test_the_later_pattern_wins():
    assert chosen_methods({".*": "flip", "conv": "sum"}, ["conv.weight", "fc.weight"]) == {
        "conv.weight": "sum",
        "fc.weight": "flip",
    }


@pytest.mark.parametrize("word", ["along time", "along time in the centre"])
def test_a_still_video_gives_what_the_image_gave(word):
    """Repeated: all steps are alike. In the centre: the others are not looked at."""
    image, video = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(3, 4, (5, 3, 3))
    x = torch.randn(2, 3, 7, 6)

    weight = adapted(word, image.weight.detach().numpy(), tuple(video.weight.shape))
    video.weight.data, video.bias = torch.from_numpy(weight), image.bias

    still = x[:, :, None].expand(-1, -1, 5, -1, -1)
    assert torch.allclose(video(still)[:, :, 0], image(x), atol=1e-5)  # float32: five products in place of one


def test_further_input_channels_are_zero_and_the_old_ones_untouched():
    kernel = np.random.default_rng(0).normal(size=(4, 3, 2, 2))

    wide = adapted("first channels", kernel, (4, 5, 2, 2))

    assert np.array_equal(wide[:, :3], kernel)
    assert not wide[:, 3:].any()
    with pytest.raises(PlanError, match="more input channels"):
        adapting_operations("first channels", (4, 6, 2, 2), (4, 5, 2, 2))


# --- tables of positions: which grid became which is told by the shapes, by the user, or refused ---


def sizes(got, target, grids=None):
    resized = resized_grid(got, target, grids=grids, antialias=True)
    return resized.axis, resized.grid, resized.to, resized.kept, resized.is_flat


@pytest.mark.parametrize(
    ("got", "target", "found"),
    [
        ((1, 197, 8), (1, 577, 8), (1, (14, 14), (24, 24), 1, True)),
        ((1, 196, 8), (1, 576, 8), (1, (14, 14), (24, 24), 0, True)),
        ((2, 8), (5, 8), (0, (1, 1), (2, 2), 1, True)),
        ((198, 8), (578, 8), (0, (14, 14), (24, 24), 2, True)),
        ((169, 3), (529, 3), (0, (13, 13), (23, 23), 0, True)),
        ((14, 15, 8), (24, 25, 8), (0, (14, 15), (24, 25), 0, False)),
        ((1, 14, 15, 8), (1, 24, 25, 8), (1, (14, 15), (24, 25), 0, False)),
        ((1, 8, 14, 15), (1, 8, 24, 25), (2, (14, 15), (24, 25), 0, False)),
        ((3, 13, 13), (3, 23, 23), (1, (13, 13), (23, 23), 0, False)),
    ],
)
def test_shapes_tell_the_grid(got, target, found):
    assert sizes(got, target) == found


def test_a_hint_tells_a_grid_that_is_no_square():
    assert sizes((1, 64, 8), (1, 253, 8), ((7, 9), (14, 18))) == (1, (7, 9), (14, 18), 1, True)


def test_a_hint_turns_a_grid_of_as_many_positions():
    assert sizes((1, 63, 8), (1, 63, 8), ((7, 9), (9, 7))) == (1, (7, 9), (9, 7), 0, True)


def test_a_table_of_its_size_is_left_alone():
    assert resized_grid((1, 197, 8), (1, 197, 8), grids=None, antialias=True) is None
    assert resized_steps((77, 8), (77, 8)) is None


@pytest.mark.parametrize(
    ("got", "target", "grids", "told"),
    [
        (
            (512, 8),
            (1024, 8),
            None,
            '512 and 1024 positions .* HxW to HxW.*"linear"',
        ),
        ((1, 197, 8), (1, 578, 8), None, "not both square grids"),
        ((1, 2, 8), (1, 4, 8), None, "not both square grids"),
        ((1, 197, 8), (1, 577, 9), None, "not their width: 8 and 9 differ"),
        ((14, 15, 8), (24, 25, 9), None, "Only the grid of a table"),
        ((1, 64, 8), (1, 253, 8), ((7, 8), (14, 18)), "64 positions are not 7×8, or 253 are not 14×18"),
        ((732, 8), (2212, 8), ((27, 27), (47, 47)), "732 positions are not 27×27"),
        ((14, 15, 8), (24, 25, 8), ((7, 8), (24, 25)), "own axes are the grid: 14×15, and 24×25"),
        ((197,), (577,), None, "has 2 to 4 axes"),
    ],
)
def test_what_shapes_do_not_tell_is_refused(got, target, grids, told):
    with pytest.raises(PlanError, match=told):
        resized_grid(got, target, grids=grids, antialias=True)


@pytest.mark.parametrize(("got", "target", "axis"), [((77, 8), (248, 8), 0), ((1, 77, 8), (1, 32, 8), 1)])
def test_text_positions_lie_on_one_axis(got, target, axis):
    resized = resized_steps(got, target)

    assert (resized.axis, resized.grid, resized.to) == (axis, (got[axis],), (target[axis],))


@pytest.mark.parametrize("target", [(248, 9), (1, 248, 8), (2, 248, 8)])
def test_text_positions_keep_their_width(target):
    with pytest.raises(PlanError, match=r"Only the number of positions can change"):
        resized_steps((77, 8), target)
