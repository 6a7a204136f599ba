"""Tasks by name."""

import pytest

from regraft.errors import TrainError
from regraft.tasks.kinds import TASKS, as_task
from regraft.tasks.several import Several


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_the_name_by_which_it_is_asked_for(name):
    assert as_task(name).name == name
    assert as_task(as_task(name)) == as_task(name)


def test_settings_make_another_task():
    assert as_task("segmentation", ignore=255).ignore == 255
    assert as_task("segmentation", ignore=255) != as_task("segmentation")
    assert isinstance(as_task({"a": "regression"}), Several)


@pytest.mark.parametrize(
    ("task", "settings", "text"),
    [
        ("tokens-classification", {}, "Did you mean 'token-classification'"),
        ("regression", {"ignored": 1}, "no setting ignored. Did you mean 'ignore'"),
    ],
)
def test_unknown_names_are_answered_with_the_right_ones(task, settings, text):
    with pytest.raises(TrainError, match=text):
        as_task(task, **settings)
