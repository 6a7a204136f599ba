"""Groups of answers with captions."""

from regraft.reports.gallery import Gallery
from regraft.reports.outcomes import Outcomes

OUTCOMES = Outcomes("test", ("x", "y"), (0, 1), (0, 0), (0.9, 0.6), {1: "data:image/png;base64,AAAA"})


def test_a_wrong_answer_has_its_true_class_and_a_right_one_has_none():
    """A class without a name is its number."""
    gallery = Gallery(OUTCOMES, ["cat"])
    assert [title for title, _, _ in gallery.groups] == ["Sample", "Most confident mistakes", "1 taken for cat"]
    (mistake,) = gallery.groups[1][2]
    assert (mistake.name, mistake.answer, mistake.true, mistake.probability) == ("y", "cat", "1", 0.6)
    assert mistake.picture.startswith("data:")
    right = next(shown for shown in gallery.groups[0][2] if shown.name == "x")
    assert (right.answer, right.true, right.picture) == ("cat", "", "")


def test_groups_without_examples_are_left_out():
    """A model without mistakes."""
    assert [title for title, _, _ in Gallery(Outcomes("test", ("x",), (0,), (0,), (1.0,)), ["a"]).groups] == ["Sample"]
