"""A Hugging Face data set as it is: labels from its table, ids from its fingerprint."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

import datasets
from regraft.caching import cache_features
from regraft.errors import DataError
from regraft.examples import as_examples
from trunks import tiny_data, tiny_trunk

INPUTS, LABELS = tiny_data(40)


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


def numbers():
    """Forty rows of six numbers, with named classes."""
    features = datasets.Features({
        "x": datasets.Sequence(datasets.Value("float32")), "label": datasets.ClassLabel(names=["a", "b", "c"])
    })  # fmt: skip
    return datasets.Dataset.from_dict({"x": INPUTS.tolist(), "label": LABELS.tolist()}, features=features)


def test_features_are_those_of_the_tensors(tmp_path):
    """The rows as they are, with labels and class names; a filled store is taken without reading all rows."""
    data = numbers()
    first, again = (cache_features(tiny_trunk(), data, tmp_path, batch_size=8) for _ in range(2))

    plain = cache_features(tiny_trunk(), (INPUTS, LABELS), batch_size=8)
    assert torch.equal(first.inputs["hidden"], plain.inputs["hidden"])
    assert torch.equal(first.labels, LABELS)
    assert first.classes == ("a", "b", "c")
    assert again.computed == 0


def test_a_transform_is_not_called_for_labels_and_ids(tmp_path):
    """A few rows are read to check: a constant number, not all."""
    calls = []

    def transform(batch):
        calls.extend(batch["label"])
        return {"x": [torch.tensor(row) for row in batch["x"]], "label": batch["label"]}

    rows = {"x": INPUTS.repeat(10, 1).tolist(), "label": LABELS.repeat(10).tolist()}
    data = datasets.Dataset.from_dict(rows).with_transform(transform)
    cache_features(tiny_trunk(), data, tmp_path, batch_size=8)
    calls.clear()
    again = cache_features(tiny_trunk(), data, tmp_path, batch_size=8)
    assert again.computed == 0
    assert len(calls) < 60


def test_labels_that_a_transform_makes_are_read_with_the_inputs():
    """The table's column would be wrong."""
    data = numbers().with_transform(lambda rows: {"x": rows["x"], "label": [2 - label for label in rows["label"]]})
    examples = as_examples(data)
    assert examples.labels is None
    assert examples.gather(torch.arange(40))[1].tolist() == (2 - LABELS).tolist()


def test_another_content_or_transform_has_other_ids():
    """The fingerprint changes with both."""
    data = numbers()
    changed = [
        data.select(range(39)),
        data.map(lambda row: {"x": [value + 1 for value in row["x"]]}),
        data.with_transform(lambda rows: rows),
    ]
    ids = {as_examples(each).content_ids([0])[0] for each in [data, *changed]}
    assert len(ids) == 4


def test_an_image_file_that_is_edited_has_another_id(tmp_path):
    """The table holds its path alone, and the fingerprint does not see the file."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    data = datasets.Dataset.from_dict({"image": [str(path)] * 2, "label": [0, 1]})
    data = data.cast_column("image", datasets.Image()).with_format("torch")
    before = as_examples(data).content_ids()

    Image.fromarray(np.ones((2, 2, 3), np.uint8)).save(path)
    os.utime(path, ns=(1, 1))

    after = as_examples(data).content_ids()
    assert not set(before) & set(after)


def test_images_inside_lists_are_known_by_their_content_alone():
    """They are files of their own, which nothing vouches for."""
    features = datasets.Features({"x": datasets.Sequence(datasets.Image()), "label": datasets.Value("int64")})
    image = Image.fromarray(np.zeros((2, 2, 3), np.uint8))
    data = datasets.Dataset.from_dict({"x": [[image]], "label": [0]}, features=features)
    data = data.with_transform(lambda rows: {"x": [[0.0]] * len(rows["x"]), "label": rows["label"]})
    assert as_examples(data).content_ids() is None


def test_texts_as_labels_and_lists_as_labels():
    """Classes in the order of their names; sequences of different lengths."""
    named = datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "label": ["dog", "cat"]})
    tags = datasets.Dataset.from_dict({"x": [[1, 2], [3]], "labels": [[0, 1], [1]]})
    assert as_examples(named).labels is None or as_examples(named).labels.tolist() == [1, 0]
    assert as_examples(named, classes=["cat", "dog"]).gather(torch.tensor([0, 1]))[1].tolist() == [1, 0]
    assert as_examples(tags).gather(torch.tensor([0, 1]))[1].tolist() == [[0, 1], [1, -100]]


def test_a_subset_keeps_labels_and_ids():
    """As random_split of torch gives it."""
    data = numbers()
    part = as_examples(Subset(data, [5, 2]))
    assert part.labels.tolist() == LABELS[[5, 2]].tolist()
    assert part.content_ids() == [as_examples(data).content_ids()[index] for index in (5, 2)]


def test_several_data_sets_are_refused_with_their_names():
    """DatasetDict: a part is chosen by name."""
    with pytest.raises(DataError, match=r"holds several data sets: train, test. Pass one of them: data\['train'\]"):
        as_examples(datasets.DatasetDict({"train": numbers(), "test": numbers()}))


def test_a_row_without_a_label_is_named():
    """Before anything is computed."""
    data = datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "label": [0, None]})
    with pytest.raises(DataError, match="Row 1 of the Hugging Face data set has no label"):
        as_examples(data)
