"""Which grid became which is told by the shapes, by the user, or refused."""

import pytest

from regraft.errors import PlanError
from regraft.plans.positions import resized_grid, resized_steps


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
        ((14, 15, 8), (24, 25, 8), ((7, 8), (24, 25)), "own axes tell the grid: 14×15, and 24×25"),
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
