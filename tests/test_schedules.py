"""Schedules that no model could follow."""

import pytest

from regraft.schedules import form_problems


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({0: "a", 4: ["b", "c"]}, []),
        ({1: "a"}, ['the schedule has no entry for epoch 0: say what trains first, schedule={0: "head", …}']),
        ({0: "a", 5: "b"}, [
            "epoch 5 of the schedule is none of the 5 epochs, 0 to 4: choose an earlier one, or more epochs"
        ]),
        ({0: []}, ["epoch 0 of the schedule: an empty list has no parameters"]),
    ],
)  # fmt: skip
def test_every_problem_of_the_form_is_a_sentence(schedule, told):
    """Before there is a model."""
    assert form_problems(schedule, 5) == told
