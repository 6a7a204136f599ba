"""Labels, subsets and splits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.labelled import Chosen, Target, check_labels, pick_per_class, stratified_split
from regraft.errors import DataError
from regraft.inputs import InputContract


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0.05, 0.9), st.integers(0, 9))
def test_a_split_takes_every_example_once_and_every_class_twice(counts, fraction, seed):
    """Whatever the sizes: nothing is lost, nothing doubled, no class is without validation."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    rest, part = stratified_split(labels, fraction, seed=seed)
    assert torch.cat([rest, part]).sort().values.tolist() == list(range(len(labels)))
    assert len(labels[rest].unique()) == len(labels[part].unique()) == len(counts)


def test_the_same_seed_gives_the_same_split():
    """And another one another."""
    labels = torch.arange(40) % 2
    first, second, other = (stratified_split(labels, 0.5, seed=seed)[1].tolist() for seed in (1, 1, 2))
    assert first == second != other


def test_a_class_of_one_example_cannot_be_split():
    """The class is named, with the way out."""
    with pytest.raises(DataError, match=r"Class 1 has 1 example[\s\S]*data.validation"):
        stratified_split(torch.tensor([0, 0, 1]), 0.5, seed=0)


def test_picking_takes_the_same_number_of_each_class():
    """In the data set's order."""
    chosen = pick_per_class(torch.tensor([0] * 10 + [1] * 5), 3, seed=0)
    assert (chosen < 10).sum() == 3
    assert chosen.tolist() == sorted(chosen.tolist())


def test_too_few_examples_to_pick_from_are_told_for_each_class():
    """All of them."""
    with pytest.raises(DataError, match="3 examples of each class were asked for, but class 1 has 2, class 2 has 1"):
        pick_per_class(torch.tensor([0, 0, 0, 1, 1, 2]), 3, seed=0)


def test_chosen_examples_keep_their_ids_and_classes():
    """The feature cache knows them again."""
    whole = ArrayExamples(torch.arange(4.0), torch.tensor([0, 1, 0, 1]), Target("classification", ("a", "b")))
    part = Chosen(whole, torch.tensor([3, 0]))
    assert (part.ids, part.classes, part.labels.tolist()) == (("3", "0"), ("a", "b"), [1, 0])
    assert part[0] == (torch.tensor(3.0), 1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1, 5], "1 label is beyond the classes, the first is 5 at example 2; expected 0 to 2"),
        ([0, -1, 1], "the first is -1 at example 1"),
        ([2, 2, 2], r"all 3 examples are of one class \(2\)"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels, told):
    """Before anything is computed."""
    with pytest.raises(DataError, match=told):
        check_labels(labels, 3, where="here")


def test_chosen_examples_are_known_by_the_content_of_their_own(image_folder):
    """Whoever else chooses them."""
    whole = open_class_folder(image_folder, Preparation(InputContract((4, 4))))
    ids = whole.content_ids()

    assert Chosen(Chosen(whole, torch.tensor([5, 1, 3])), torch.tensor([2, 0])).content_ids() == [ids[3], ids[5]]
