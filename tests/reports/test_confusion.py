"""What a confusion matrix says about each class."""

from regraft.reports.confusion import DRAWN_CLASSES, NUMBERED_CLASSES, confusion_of


def matrix_of(size):
    """Ten examples of each class, one of them taken for the next class."""
    return [[9 if row == column else int(column == (row + 1) % size) for column in range(size)] for row in range(size)]


def test_each_class_has_its_recall_and_what_it_is_taken_for():
    """Also a class without examples, and one without a name."""
    confusion = confusion_of([[8, 2, 0], [1, 9, 0], [0, 0, 0]], ["cat", "dog"])
    first, second, third = (score for score, _ in confusion.table)
    assert (first.name, first.count, first.recall, first.taken_for) == ("cat", 10, 0.8, "dog")
    assert (second.name, second.recall) == ("dog", 0.9)
    assert (first.precision, second.precision, first.f1) == (8 / 9, 9 / 11, 2 * 8 / (10 + 9))  # as in scikit-learn
    assert (third.precision, third.f1) == (0.0, 0.0)
    assert (third.name, third.count, third.recall, third.taken_for) == ("2", 0, 0.0, "")
    assert confusion.pairs == [(2, "cat", "dog"), (1, "dog", "cat")]
    assert [score.name for score in confusion.weakest] == ["cat", "dog"]


def test_a_small_matrix_has_numbers_a_large_one_a_picture_a_huge_one_neither():
    """A class would be less than two pixels."""
    for size, numbered, drawn in (
        (NUMBERED_CLASSES, True, False),
        (40, False, True),
        (DRAWN_CLASSES + 1, False, False),
    ):
        confusion = confusion_of(matrix_of(size), [])
        assert (confusion.numbered, bool(confusion.paths)) == (numbered, drawn)
        assert len(confusion.pairs) == 10


def test_more_names_than_outputs_are_cut_off():
    """The matrix has the model's outputs."""
    assert confusion_of([[1]], ["a", "b"]).names == ["a"]
