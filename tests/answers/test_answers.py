"""How answers are printed and written."""

import pytest

from regraft.answers.answers import Labels, Mask, NextToken, Numbers, Prediction, Tags


@pytest.mark.parametrize(
    ("answer", "text", "row"),
    [
        (Prediction("a", "cat", 0.75, (0.75, 0.25), ("cat", "dog")), "cat  0.750",
         {"class": "cat", "probability": "0.750000"}),
        (Labels("a", ("red",), {"red": 0.9, "round": 0.1}), "red 0.900",
         {"labels": "red", "red": "0.900000", "round": "0.100000"}),
        (Labels("a", (), {"red": 0.1}), "no label", {"labels": "", "red": "0.100000"}),
        (Numbers("a", {"age": 31.25}), "age 31.25", {"age": "31.25"}),
        (Tags("a", ("the", "cat"), ("O", "B"), (0.9, 0.8)), "the/O cat/B",
         {"position": 0, "word": "the", "tag": "O", "probability": "0.900000"}),
        (Mask("a", "m.png", {"road": 0.25, "car": 0.75}), "m.png  car 75.0%, road 25.0%",
         {"mask": "m.png", "road": "0.250000", "car": "0.750000"}),
        (NextToken("a", " cat", 0.5), "' cat'  0.500", {"next": " cat", "probability": "0.500000"}),
    ],
)  # fmt: skip
def test_an_answer_is_a_line_and_rows(answer, text, row):
    """And plain data with its name."""
    assert (answer.text(), answer.rows()[0], answer.to_dict()["name"]) == (text, row, "a")


def test_a_name_with_a_line_break_stays_on_its_line():
    """Nothing can forge another answer."""
    assert "\n" not in Prediction("a", "c\nd", 1.0, (1.0,)).text()
