"""The comparison with other tools judges as its page says."""

import numpy as np
import pytest
import torch
from compared import FAULTS, answer, reading, record, trained
from compared_peers import flat, is_there, judge_filling, judge_reading

from golden_files import GOLDEN


def result(*, raised="", said="", touched=False, right=False):
    return {"raised": raised, "said": said, "touched": touched, "right": right}


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (result(right=True), "right"),
        (result(said="the value is NaN"), "continues, reports"),
        (result(said="all keys matched"), "**silent**"),
        (result(raised="ValueError"), "refuses"),
        (result(raised="ValueError", touched=True), "refuses after changing the model"),
        (None, ""),
    ],
)
def test_an_outcome_is_one_of_five_words(outcome, word):
    assert answer(outcome, ("nan",)) == word


def test_reading_counts_arrays_in_any_axis_order():
    array = np.arange(6.0).reshape(1, 2, 3)

    assert is_there(array, [np.zeros(3), array.transpose(2, 0, 1)])
    assert not is_there(array, [array.transpose(2, 0, 1) + 1])
    assert reading({"right": 2, "of": 2}) == "yes"
    assert reading({"right": 1, "of": 2}) == "1 of 2"
    assert reading({"raised": "ValueError"}) == "–"


def test_arrays_are_found_in_nested_dictionaries_and_lists():
    found = flat({"a": [torch.ones(2, dtype=torch.bfloat16), 3], "b": {"c": np.zeros(1)}})

    assert [(name, str(array.dtype)) for name, array in found] == [("a.0", "float32"), ("b.c", "float64")]


@pytest.mark.parametrize("tool", ["torch", "regraft"])
def test_a_right_file_is_right_and_a_nan_is_silent_in_torch_and_refused_here(tool, tmp_path):
    model = trained()
    expected = record(model, tmp_path / "expected.npz")
    words = {}
    for fault in ("no fault", "one value is NaN"):
        spoil, told = FAULTS[fault]
        torch.save(spoil(model.state_dict()), tmp_path / "model.pt")
        words[fault] = answer(judge_filling(tool, tmp_path / "model.pt", expected), told)

    assert words == {"no fault": "right", "one value is NaN": {"torch": "**silent**"}.get(tool, "refuses")}


def test_the_golden_archive_is_read_whole():
    truth = {"path": str(GOLDEN / "torch.npz"), "prefixes": ["w/"]}

    assert judge_reading("torch", GOLDEN / "torch_archive.pt", truth) == {"right": 9, "of": 9}
    assert judge_reading("torch", GOLDEN / "caffe.caffemodel", truth)["raised"].startswith("UnpicklingError")
