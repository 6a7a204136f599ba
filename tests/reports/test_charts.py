"""Where lines, ticks and shades of the report's charts go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.reports.charts import labels_of, shade, steps, thinned

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers, numbers)
def test_round_steps_lie_evenly_and_few(first, second):
    """A reader can count in them."""
    low, high = min(first, second), max(first, second)
    found = steps(low, high)
    assert 1 <= len(found) <= 12
    assert found == sorted(found)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.9, 0.98), (0, 5.2)])
def test_steps_cover_what_is_shown(low, high):
    """From at or above the lowest to at or below the highest, within a step."""
    found = steps(low, high)
    gap = found[1] - found[0]
    assert found[0] - gap <= low
    assert found[-1] + gap >= high


@given(st.integers(1, 5000), st.integers(2, 100))
def test_thinning_keeps_the_ends_and_the_limit(count, most):
    """A thousand epochs are drawn with a hundred dots, the first and last among them."""
    kept = thinned(count, most)
    assert len(kept) <= most + 1
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert kept == sorted(set(kept))


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_is_never_paler(first, second):
    """Shades of the confusion matrix follow the share."""
    low, high = sorted((first, second))
    assert shade(low) <= shade(high)


def test_labels_have_just_the_digits_that_tell_them_apart():
    """0.90 and 0.92, not 0.9 and 0.9."""
    assert labels_of([0.9, 0.92, 0.94]) == ["0.90", "0.92", "0.94"]


def test_a_calibration_is_drawn_from_0_to_1_with_dots_by_their_answers():
    """The diagonal is where the probability is the share of right answers."""
    from regraft.reports.calibration import calibration_of
    from regraft.reports.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, reliability

    chart = reliability(calibration_of([1.0, 1.0, 1.0, 1.0, 0.5], [True] * 4 + [False]))
    (low, low_radius), (high, high_radius) = chart.dots
    assert (high.x, high.y) == (WIDTH - RIGHT, TOP)
    assert (low.x, low.y) == ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM)
    assert low_radius < high_radius == 10
    assert high.label == "4 answers with a probability of 1.00 on average: 100% are right"


def test_columns_cover_the_epochs_and_show_all_series():
    """A series that ended earlier has no value there."""
    from regraft.reports.charts import curves

    chart = curves({"training": [3.0, 2.0, 1.0], "validation": [4.0]})
    assert [column.label for column in chart.columns] == [
        "epoch 0: training 3, validation 4",
        "epoch 1: training 2",
        "epoch 2: training 1",
    ]
    first, second, _ = chart.columns
    assert first.x + first.width == second.x
