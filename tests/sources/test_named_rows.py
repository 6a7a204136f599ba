"""Which column is the label, and which are inputs."""

import numpy as np
import pytest
import torch

from regraft.errors import DataError
from regraft.examples import as_examples
from regraft.sources.named_rows import named_columns, tensor_of


def test_the_label_has_a_usual_name_and_all_others_are_inputs():
    """One input is given by position, several by name; names of WebDataset's own are not looked at."""
    one = named_columns(["__key__", "x", "label"], "the data", "Choose by select.")
    several = named_columns(["input_ids", "attention_mask", "labels"], "the data", "Choose by select.")

    assert one.pair({"x": [1.0, 2.0], "label": 3})[0].tolist() == [1.0, 2.0]
    inputs, label = several.pair({"input_ids": [1], "attention_mask": [1], "labels": "yes"})
    assert list(inputs) == ["input_ids", "attention_mask"]
    assert label == "yes"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x"], r"The data has 0 columns named label, .* expected one. It has: x"),
        (["x", "label", "labels"], "The data has 2 columns named"),
        (["label"], "The data has labels and no column of inputs"),
    ],
)
def test_columns_that_leave_a_choice_are_refused_with_the_way_out(names, message):
    """That the library has."""
    with pytest.raises(DataError, match=message) as caught:
        named_columns(names, "the data", "Choose by select.")
    assert str(caught.value).endswith("\nChoose by select.")


def test_a_column_without_numbers_is_named_with_what_it_holds():
    """Texts and images are no tensors."""
    columns = named_columns(["text", "label"], "the data", "Choose by select.")
    with pytest.raises(DataError, match="The column 'text' of the data holds texts, and a model takes numbers"):
        columns.pair({"text": "hello", "label": 1})
    with pytest.raises(DataError, match="A row of the data has no column text"):
        columns.pair({"label": 1})


def test_numbers_lists_and_arrays_become_tensors():
    """And nothing else."""
    assert tensor_of([[1, 2], [3, 4]]).dtype == torch.int64
    assert tensor_of(np.float32(2)).item() == 2
    assert tensor_of([[1], [2, 3]]) is None
    assert tensor_of(np.array(["a"])) is None


def test_a_torch_data_set_of_dicts_is_taken_by_the_same_rule():
    """As PyTorch's own tutorials write them."""
    rows = [{"image": torch.full((2,), float(number)), "label": number % 2} for number in range(4)]
    inputs, labels = as_examples(rows).gather(torch.tensor([3, 0]))
    assert inputs.tolist() == [[3.0, 3.0], [0.0, 0.0]]
    assert labels.tolist() == [1, 0]
