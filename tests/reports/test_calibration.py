"""Whether probabilities agree with the share of right answers."""

import pytest

from regraft.reports.calibration import calibration_of


def test_answers_that_are_right_as_often_as_they_say_have_no_error():
    """Half of those with a probability of 0.5, all of those with 1."""
    calibration = calibration_of([0.5, 0.5, 1.0], [True, False, True])
    assert [(each.count, each.probability, each.accuracy) for each in calibration.bins] == [
        (2, 0.5, 0.5),
        (1, 1.0, 1.0),
    ]
    assert calibration.expected_error == 0
    assert calibration.overconfidence == 0


def test_the_error_is_that_of_the_bins_by_their_answers():
    """Checked by hand: 3/4 · |0.925 - 1/3| + 1/4 · |0.3 - 1|; too sure on average by 0.26875."""
    calibration = calibration_of([0.9, 0.95, 0.925, 0.3], [True, False, False, True])
    assert calibration.expected_error == pytest.approx(0.75 * (0.925 - 1 / 3) + 0.25 * 0.7)
    assert calibration.overconfidence == pytest.approx(3.075 / 4 - 0.5)
