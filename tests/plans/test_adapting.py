"""The documented ways to make an array fit, and nothing else."""

import numpy as np
import pytest

from regraft.errors import PatternError, PlanError
from regraft.operations.running import run_operations
from regraft.plans.adapting import adapting_operations, chosen_ways


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
    with pytest.raises(PlanError, match=r"(?s)no way 'squeeze'.*sum: a convolution's input channels"):
        chosen_ways({"conv": "squeeze"}, ["conv.weight"])


def test_a_pattern_that_chooses_nothing_is_an_error():
    with pytest.raises(PatternError, match="'covn'"):
        chosen_ways({"covn": "sum"}, ["conv.weight"])


def test_the_later_pattern_wins():
    assert chosen_ways({".*": "flip", "conv": "sum"}, ["conv.weight", "fc.weight"]) == {
        "conv.weight": "sum",
        "fc.weight": "flip",
    }
