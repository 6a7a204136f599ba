"""The columns of tables."""

import json

import pytest

from regraft.datasets.columns import is_table, read_columns, refuse_missing_columns, texts_of
from regraft.errors import DataError


def test_json_lines_keep_their_types(tmp_path):
    """A key that a line lacks is None there."""
    rows = [{"text": "a b", "labels": ["x"]}, {"text": "c", "score": 1.5}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_columns(tmp_path / "a.jsonl") == {"text": ["a b", "c"], "labels": [["x"], None], "score": [None, 1.5]}


@pytest.mark.parametrize(
    ("content", "words"), [("{", "line 1 is no JSON"), ("[1]", "line 1 is a list, expected an object"), ("", "no rows")]
)
def test_json_lines_that_are_none_are_named(tmp_path, content, words):
    """By their number."""
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=words):
        read_columns(tmp_path / "a.jsonl")


def test_a_saved_data_set_gives_names_of_classes_and_encoded_images(tmp_path, image_folder):
    """As `save_to_disk` of Hugging Face's library writes it; nothing is decoded."""
    from datasets import ClassLabel, Dataset, Features, Image, List, Value

    kinds = {
        "image": Image(), "label": ClassLabel(names=["no", "yes"]), "tags": List(ClassLabel(names=["O", "B"])),
        "text": Value("string"),
    }  # fmt: skip
    content = (image_folder / "cat/0.png").read_bytes()
    rows = {"image": [{"bytes": content, "path": None}], "label": [1], "tags": [[0, 1]], "text": ["t"]}
    Dataset.from_dict(rows, features=Features(kinds)).save_to_disk(tmp_path / "hf")

    columns = read_columns(tmp_path / "hf")

    assert columns["image"][0]["bytes"] == content
    assert (columns["label"], columns["tags"], columns["text"]) == (["yes"], [["O", "B"]], ["t"])


def test_several_saved_data_sets_are_named_apart(tmp_path):
    """The folder of all of them is no training data."""
    from datasets import Dataset, DatasetDict

    DatasetDict(train=Dataset.from_dict({"a": [1]}), test=Dataset.from_dict({"a": [2]})).save_to_disk(tmp_path / "hf")
    assert is_table(tmp_path / "hf")
    with pytest.raises(DataError, match=r'holds the data sets test, train\. Name each .*train = "hf/test"'):
        read_columns(tmp_path / "hf")


def test_missing_columns_and_texts_are_named(tmp_path):
    """All columns at once; the first row."""
    with pytest.raises(DataError, match=r"t\.csv has no column 'b', 'c'\. It has: a\."):
        refuse_missing_columns(tmp_path / "t.csv", {"a": [1]}, ["a", "b", "c"])
    with pytest.raises(DataError, match="text of row 2 is ' ', expected a text"):
        texts_of(tmp_path / "t.csv", "text", ["a", " "])


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".parquet"])
def test_arrow_files_are_tables(tmp_path, suffix):
    """IPC files and parquet."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = pa.table({"x": [1.5, 2.5], "label": ["a", "b"]})
    write = parquet.write_table if suffix == ".parquet" else feather.write_feather
    write(table, tmp_path / f"t{suffix}")
    assert read_columns(tmp_path / f"t{suffix}") == {"x": [1.5, 2.5], "label": ["a", "b"]}


def test_files_of_hugging_faces_library_keep_the_names_of_classes(tmp_path):
    """Its own cache is a stream; its parquet files hold numbers and the names."""
    from datasets import ClassLabel, Dataset, Features, Value

    kinds = Features({"x": Value("int64"), "label": ClassLabel(names=["no", "yes"])})
    data = Dataset.from_dict({"x": [1, 2], "label": [1, -1]}, features=kinds)
    data.to_parquet(tmp_path / "t.parquet")
    data.save_to_disk(tmp_path / "saved")
    stream = next((tmp_path / "saved").glob("*.arrow"))
    assert read_columns(tmp_path / "t.parquet")["label"] == ["yes", None]
    assert read_columns(stream)["x"] == [1, 2]


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_damaged_arrow_files_are_named(tmp_path, suffix):
    """With the library's reason."""
    (tmp_path / f"t{suffix}").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=rf"t\{suffix} cannot be read as a"):
        read_columns(tmp_path / f"t{suffix}")
