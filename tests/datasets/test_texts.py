"""Texts as examples."""

import json

import pytest

from regraft.contracts.preparation import Preparation
from regraft.contracts.text import TextContract
from regraft.datasets.labelled import Target
from regraft.datasets.opening import open_data
from regraft.errors import DataError, JobError
from texts_on_disk import write_tokenizer


@pytest.fixture
def prepared(tmp_path):
    """The preparation of texts."""
    return Preparation(text=TextContract(str(write_tokenizer(tmp_path / "tokenizer", max_length=6))))


def write_rows(path, *rows):
    """JSON lines."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_table_of_texts_gives_tokens_and_classes(tmp_path, prepared):
    """Known by their tokens; what was cut is noted."""
    table = tmp_path / "t.csv"
    table.write_text("text,label\nthe cat,no\na very good dog ran,yes\nthe cat,yes\n")
    data = open_data(table, prepared)
    assert (data.target.task, data.classes, data.labels.tolist()) == ("classification", ("no", "yes"), [0, 1, 1])
    assert data[0][0]["input_ids"].tolist() == [2, 5, 6, 3]
    assert data.notes == ("1 text is longer than the tokenizer's own limit and was cut",)
    ids = data.content_ids()
    assert ids[0] == ids[2] != ids[1]


def test_words_with_tags_give_a_label_for_each_token(tmp_path, prepared):
    """Test data have the classes of the training data."""
    table = write_rows(
        tmp_path / "t.jsonl", {"text": ["a", "mat"], "tags": ["O", "B"]}, {"text": ["dog"], "tags": ["O"]}
    )
    data = open_data(table, prepared)
    assert (data.target.task, data.classes, data.labels) == ("token-classification", ("B", "O"), None)
    assert data[0][1].tolist() == [-100, 1, 0, -100, -100]
    other = open_data(table, prepared, target=Target("token-classification", ("O", "B"), ("tags",)))
    assert other[0][1].tolist() == [-100, 0, 1, -100, -100]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": ["a", "b"], "tags": ["O"]}, "row 1 has 2 words and 1 tag"),
        ({"text": ["a"], "tags": None}, "tags of row 1 is None, expected a list"),
        ({"text": "a", "tags": ["O"]}, "the task token-classification takes no column of labels"),
    ],
)
def test_words_without_their_tags_are_refused(tmp_path, prepared, row, words):
    """With the row."""
    with pytest.raises(DataError, match=words):
        open_data(write_rows(tmp_path / "t.jsonl", row), prepared, target=Target("token-classification"))


def test_running_text_is_cut_into_blocks_for_a_language_model(tmp_path, prepared):
    """Without special tokens; the labels are the tokens themselves."""
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a.txt").write_text("the cat sat on a dog the cat ran\n")
    (tmp_path / "books/b.txt").write_text("the")
    data = open_data(tmp_path / "books", prepared)
    assert (data.target.task, len(data), data.ids) == ("language-model", 2, ("a.txt[0]", "a.txt[1]"))
    assert [len(data[index][1]) for index in (0, 1)] == [6, 3]
    assert data[1][0]["input_ids"].tolist() == data[1][1].tolist()


def test_a_table_of_texts_can_teach_a_language_model_too(tmp_path, prepared):
    """Each row is a text."""
    (tmp_path / "t.csv").write_text("text\nthe cat\na dog\n")
    data = open_data(tmp_path / "t.csv", prepared, target=Target("language-model"))
    assert data[1][1].tolist() == data[1][0]["input_ids"].tolist()


def test_texts_need_a_tokenizer_and_their_own_task(tmp_path, prepared):
    """Each with the way out."""
    (tmp_path / "a.txt").write_text("the cat")
    with pytest.raises(JobError, match=r"a\.txt is text, and the job has no tokenizer. Add \[text\]"):
        open_data(tmp_path / "a.txt", Preparation())
    with pytest.raises(DataError, match=r"running text without labels.*For classification give a table"):
        open_data(tmp_path / "a.txt", prepared, target=Target("classification"))
