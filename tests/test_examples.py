"""Examples as whole batches."""

import threading
import time

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from regraft.errors import DataError
from regraft.examples import DatasetExamples, Examples, TensorExamples, as_examples, batches, call
from regraft.tensors.trees import map_tree, tensors_of

INPUTS, LABELS = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])


class Pairs(Dataset):
    """A data set that is fetched example by example, and notes by which threads."""

    def __init__(self, make=lambda index: (INPUTS[index], int(LABELS[index]))) -> None:
        self.make, self.threads = make, set()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        return self.make(index)


def gathered(data):
    """Two examples, in the asked order."""
    return as_examples(data).gather(torch.tensor([4, 1]))


def test_tensors_pairs_and_data_sets_give_the_same_batches():
    """One form for all that follows."""
    for data in ((INPUTS, LABELS), TensorDataset(INPUTS, LABELS), Pairs(), TensorExamples(INPUTS, LABELS)):
        inputs, labels = gathered(data)
        assert torch.equal(inputs, INPUTS[[4, 1]])
        assert labels.tolist() == [0, 1]


class Counted(Examples):
    """Examples by batches alone."""

    def __len__(self):
        return 6

    def gather(self, indices):
        return INPUTS[indices], LABELS[indices]


@pytest.mark.parametrize("data", [Counted(), TensorExamples(INPUTS, LABELS), DatasetExamples(Pairs())])
def test_a_subset_is_of_the_same_kind_and_order(data):
    """Also one that torch's Subset asks for, and one of a subset."""
    for some in (data.subset(torch.tensor([5, 4, 1])), as_examples(Subset(Subset(data, [4, 5, 1]), [1, 0, 2]))):
        inputs, labels = some.gather(torch.tensor([1, 2]))
        assert len(some) == 3
        assert torch.equal(inputs, INPUTS[[4, 1]])
        assert labels.tolist() == [0, 1]
        assert isinstance(some, type(data)) or isinstance(data, Counted)


def test_several_inputs_stay_tuples_or_dicts():
    """As the model takes them."""
    two, _ = gathered(Pairs(lambda index: ((INPUTS[index], INPUTS[index] + 1), 0)))
    named, _ = gathered(Pairs(lambda index: ({"a": INPUTS[index]}, 0)))
    assert isinstance(two, tuple)
    assert torch.equal(two[1], INPUTS[[4, 1]] + 1)
    assert torch.equal(named["a"], INPUTS[[4, 1]])


def test_batches_come_in_the_asked_order_and_are_fetched_ahead():
    """By threads, where fetching is work."""

    def slow(index):
        time.sleep(0.01)
        return INPUTS[index], int(LABELS[index])

    data, order = Pairs(slow), torch.tensor([5, 3, 1, 0, 2, 4])
    found = list(batches(as_examples(data), order, 2, workers=2))
    assert torch.cat([indices for indices, _, _ in found]).tolist() == order.tolist()
    assert torch.equal(torch.cat([inputs for _, inputs, _ in found]), INPUTS[order])
    assert all(name.startswith("regraft-examples") for name in data.threads)


def test_a_model_is_called_by_the_kind_of_its_inputs():
    """x, *x or **x."""
    assert call(lambda x: x, 3) == 3
    assert call(lambda x, y: (x, y), (3, 4)) == (3, 4)
    assert call(lambda x, y: (x, y), {"y": 4, "x": 3}) == (3, 4)


def test_nested_tensors_are_found_and_mapped():
    """The structure stays."""
    nested = {"a": INPUTS, "b": (LABELS, None)}
    assert len(tensors_of(nested)) == 2
    doubled = map_tree(lambda tensor: tensor * 2, nested)
    assert torch.equal(doubled["b"][0], LABELS * 2)
    assert doubled["b"][1] is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (3, "A int cannot be used as examples. Expected a torch data set with a length"),
        ((INPUTS, LABELS[:4]), "6 inputs and 4 labels"),
        (TensorDataset(INPUTS[:0], LABELS[:0]), "The data set is empty"),
        (
            Pairs(lambda index: INPUTS[index]),
            r"Example 4 of the data set is a Tensor, expected the pair \(input, label\)",
        ),
    ],
)
def test_what_is_no_examples_is_told(data, told):
    """With the form that is expected."""
    with pytest.raises(DataError, match=told):
        gathered(data)


def tokens(length):
    """Whole numbers."""
    return torch.ones(length, dtype=torch.int64)


def masked(length):
    """Numbers, and which of them are no filling."""
    return {"x": torch.ones(length, 3), "mask": torch.ones(length, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        (torch.ones(16), torch.ones(9)),  # a row of a table that lost its end
        (torch.ones(9, 8), torch.ones(7, 8)),
        (torch.ones(3, 32, 32), torch.ones(3, 32, 20)),
        (torch.ones(3, 32, 32), torch.ones(1, 32, 32)),
        (torch.ones(3, 32, 32, dtype=torch.uint8), torch.ones(3, 20, 32, dtype=torch.uint8)),
        (torch.ones(7), torch.ones(7, 1)),
    ],
)
@pytest.mark.parametrize("batch", [6, 3])
def test_an_odd_example_among_equal_ones_is_refused(usual, other, batch):
    """In the same batch or in a later one: filled up with zeros it would be another example."""
    data = as_examples(Pairs(lambda index: (other if index == 5 else usual, 0)))
    with pytest.raises(DataError, match=r"Example 5 has the size .*, and others have .*\n.*Sequences may"):
        [data.gather(block) for block in torch.arange(6).split(batch)]


@pytest.mark.parametrize("make", [tokens, masked])
def test_sequences_are_filled_up(make):
    """Tokens, or numbers with a mask; one short one among equal ones too."""
    data = as_examples(Pairs(lambda index: (make(2 if index == 5 else 7), 0)))
    inputs, labels = data.gather(torch.arange(6))
    assert len(labels) == 6
    filled = inputs if make is tokens else inputs["mask"]
    assert filled[5].tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_sounds_of_many_lengths_are_sequences():
    """No length is that of most."""
    data = as_examples(Pairs(lambda index: (torch.ones(10 + index), 0)))
    inputs, _ = data.gather(torch.arange(6))
    assert inputs.shape == (6, 15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda index: (INPUTS[index], {"a": 1} if index == 1 else {"b": 1}),
            "different parts; each needs the same",
        ),
        (lambda index: (INPUTS[index], object()), "label of an example is a object; expected a number, a text"),
        (lambda index: (INPUTS[index], "cat"), "labels are texts, such as 'cat'.*Pass classes="),
        (lambda index: (INPUTS[index] if index == 1 else object(), 0), "cannot be put into one batch"),
    ],
)
def test_pairs_that_make_no_batch_are_refused(make, message):
    """Instead of an error of torch's, or of training's later on."""
    with pytest.raises(DataError, match=f"(?s){message}"):
        gathered(Pairs(make))
