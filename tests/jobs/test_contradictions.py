"""Keys that cannot be followed together."""

import pytest

from regraft.jobs.contradictions import contradictions


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"freeze": {"layers": "a", "upto": "b"}}, ["[freeze] has layers and upto"]),
        ({"train": {"steps": {}, "exact": {}}}, ["there are [train.steps] and [train.exact]"]),
        ({"train": {"exact": {}, "lr": 1}}, ["[train] has lr beside [train.exact]"]),
        ({"train": {"exact": {}, "loss": "mean_squared_error"}}, ["[train.exact] is given"]),
        ({"train": {"loss": "mean_squared_error"}}, []),
        ({"train": {"task": "multilabel", "loss": "huber"}}, ['[train] task is "multilabel" and loss is "huber"']),
        ({"train": {"exact": {}, "task": "regression"}}, ["[train.exact] is given and task is"]),
        ({"train": {"steps": {"monitor": "f1"}}, "data": {"validation": 0}}, ["[train.steps] monitor"]),
        ({"train": {"steps": {"lr_schedule": "plateau"}}, "data": {"validation": 0}}, ["[train.steps] lr_schedule"]),
        ({"train": {"patience": 2}, "data": {"validation": 0}}, ["[train] patience waits"]),
        ({"train": {"steps": {"lr": [1, 2]}}, "data": {"validation": 0}}, ["[train.steps] several lr"]),
        ({"train": {"schedule": {"1": "a"}}}, ["[train] schedule is"]),
        ({"head": {"layers": "all"}, "freeze": {"upto": "a"}}, ["[head] layers freezes every layer"]),
        ({"head": {"layers": "all"}, "train": {"steps": {"schedule": {"0": "a"}}}}, ["[head] layers freezes every"]),
        ({"freeze": 3, "train": "x", "data": []}, []),
        ({}, []),
    ],
)
def test_each_contradiction_is_a_line(data, words):
    """Values of wrong types are named elsewhere."""
    lines = list(contradictions(data))
    assert len(lines) == len(words)
    assert all(line.startswith(start) for line, start in zip(lines, words, strict=True))
