"""Schedules that no model could follow."""

import pytest

from regraft.learning.schedules import form_problems


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({0: "a", 4: ["b", "c"]}, []),
        ({1: "a"}, ["the schedule has no entry for epoch 0, which names the layers that train first"]),
        ({0: "a", 5: "b"}, [
            "epoch 5 of the schedule is outside the 5 epochs, which are 0 to 4: choose an earlier epoch, or train for "
            "more epochs"
        ]),
        ({0: []}, ["epoch 0 of the schedule: the list of layers is empty"]),
        ({0: "a", "one": "b"}, ["the schedule has the key 'one', expected the number of an epoch"]),
        (["a"], ["the schedule is ['a'], expected a mapping of epochs to layers: {0: 'head', 5: 'layer4'}"]),
    ],
)  # fmt: skip
def test_every_problem_of_the_form_is_a_sentence(schedule, told):
    """Before there is a model."""
    assert form_problems(schedule, 5) == told
