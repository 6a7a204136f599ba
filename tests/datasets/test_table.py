"""Tables of paths and labels."""

import pytest
import torch

from regraft.contracts.preparation import Preparation
from regraft.datasets.labelled import Target
from regraft.datasets.table import open_table
from regraft.errors import DataError
from regraft.inputs import InputContract

CONTRACT = Preparation(InputContract((4, 4)))
ROWS = "Path,label\ncat/0.png,tom\ncat/1.png,tom\ndog/0.png,rex\n"


def test_csv_paths_start_from_its_folder_and_labels_are_sorted(image_folder):
    """Column names in any case."""
    (image_folder / "list.csv").write_text(ROWS)
    data = open_table(image_folder / "list.csv", CONTRACT)
    assert (data.classes, data.labels.tolist(), data.ids[0]) == (("rex", "tom"), [1, 1, 0], "cat/0.png")


def test_parquet_gives_the_same_as_csv(image_folder):
    """The form is not the content."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"file": ["cat/0.png", "dog/0.png"], "class": ["tom", "rex"]})
    parquet.write_table(table, image_folder / "list.parquet")
    assert open_table(image_folder / "list.parquet", CONTRACT).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Path,label\nnone.png,a\ncat/0.png,b\n", r"lists 1 of 2 files that do not exist:[\s\S]*none.png"),
        ("picture,label\ncat/0.png,a\n", r"has 0 columns named path or file.*It has: picture, label"),
        ("path,label\n", "has no rows below its header"),
        ("path,label\ncat/0.png,a,b\n", "line 2 has another number of columns"),
        ("path,label\ncat/0.png,a\ncat/1.png,\n", "1 row has no label, the first in line 3"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(image_folder, content, told):
    """With the columns that it has."""
    (image_folder / "list.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        open_table(image_folder / "list.csv", CONTRACT)


def test_a_label_that_training_did_not_know_is_refused(image_folder):
    """The nearest one is offered."""
    (image_folder / "list.csv").write_text(ROWS)
    with pytest.raises(DataError, match=r"list.csv: tom is not a class of the training data. Did you mean 'toms'"):
        open_table(image_folder / "list.csv", CONTRACT, target=Target("classification", ("rex", "toms")))


def test_a_table_in_another_encoding_is_named(image_folder):
    """Instead of a decoder's own error."""
    (image_folder / "list.csv").write_bytes("path,label\ncat/0.png,é\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"list.csv cannot be read as comma-separated text in UTF-8"):
        open_table(image_folder / "list.csv", CONTRACT)


def test_classes_that_are_whole_numbers_are_ordered_by_value(image_folder):
    """As in an array file, where label 10 comes after label 2."""
    rows = [f"{folder}/{number}.png,{label}" for (folder, number), label in
            zip([("cat", 0), ("cat", 1), ("dog", 0)], ("10", "2", "1"), strict=True)]  # fmt: skip
    (image_folder / "list.csv").write_text("\n".join(["path,label", *rows]))
    target = Target("classification")
    assert open_table(image_folder / "list.csv", CONTRACT, target=target).classes == ("1", "2", "10")


def test_images_as_bytes_are_read_from_the_table(tmp_path, image_folder):
    """In a binary column, as in one of Hugging Face's structures."""
    import pyarrow as pa
    from pyarrow import parquet

    content = [(image_folder / f"{name}/0.png").read_bytes() for name in ("cat", "dog")]
    cells = {"plain": content, "hf": [{"bytes": each, "path": None} for each in content]}
    opened = []
    for name, column in cells.items():
        parquet.write_table(pa.table({"image": column, "label": ["a", "b"]}), tmp_path / f"{name}.parquet")
        opened.append(open_table(tmp_path / f"{name}.parquet", Preparation(InputContract((4, 4)))))
    assert torch.equal(opened[0][1][0], opened[1][1][0])
    assert opened[0].ids == ("plain.parquet[0]", "plain.parquet[1]")
