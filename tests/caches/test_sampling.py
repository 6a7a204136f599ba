"""Random inputs: found out, or drawn again exactly."""

import os
import random

import numpy as np
import pytest
import torch

from regraft.caches.sampling import Samples, join, known_labels
from regraft.examples import as_examples


class Images:
    """Ten examples, with a transform."""

    def __init__(self, transform=lambda x: x):
        self.transform = transform

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.transform(torch.full((3,), float(index))), index


def test_a_view_is_the_same_whenever_it_is_drawn():
    """In another batch, after other random numbers."""
    samples = Samples(as_examples(Images(lambda x: x + torch.rand(3))), views=2)
    first = samples.inputs_of(torch.tensor([4, 5, 6]))
    torch.rand(7)
    again = samples.inputs_of(torch.tensor([19, 5]))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_rows_are_examples_times_views():
    """With labels and ids for each row."""
    samples = Samples(as_examples(Images(lambda x: x + torch.rand(3))), views=3)
    first, *rest = samples.batches(torch.arange(30), 16)
    assert len(samples) == 30
    assert first.inputs.shape == (16, 3)
    assert first.labels.tolist() == [row // 3 for row in first.rows.tolist()]
    assert len({row.tobytes() for row in first.ids}) == 16
    assert len(rest) == 1


class Files(Images):
    """Images whose content is known by names."""

    def content_ids(self, indices=None):
        return [f"file {index}" for index in (range(10) if indices is None else indices)]


@pytest.mark.parametrize("kind", [Images, Files])
def test_several_processes_draw_what_one_draws(kind):
    """Inputs, labels and ids to the last bit, in the same order, whoever draws them."""
    drawn = {}
    for workers in (0, 1, 2):
        samples = Samples(as_examples(kind(lambda x: x + torch.rand(3) + np.random.rand() + random.random())), views=3)
        drawn[workers] = list(samples.batches(torch.randperm(30, generator=torch.Generator().manual_seed(0)), 4,
                                            workers=workers))  # fmt: skip

    for workers in (1, 2):
        for alone, together in zip(drawn[0], drawn[workers], strict=True):
            assert torch.equal(alone.rows, together.rows)
            assert torch.equal(alone.inputs, together.inputs)
            assert torch.equal(alone.labels, together.labels)
            assert np.array_equal(alone.ids, together.ids)
            assert alone.shapes == together.shapes == [((3,),)] * len(alone)


def test_views_are_drawn_by_other_processes():
    """Threads would share one set of global generators."""
    samples = Samples(as_examples(Images(lambda x: x + torch.rand(3) + 1000 * os.getpid())), views=2)
    pids = {int(value) // 1000 for batch in samples.batches(torch.arange(20), 2, workers=2)
            for value in batch.inputs[:, 0] - batch.rows // 2}  # fmt: skip
    assert os.getpid() not in pids


def test_an_error_in_another_process_is_told_here():
    """With its own class and text."""

    def fail(x):
        if int(x[0]) == 7:
            raise ValueError("example seven is damaged")
        return x + torch.rand(3)

    with pytest.raises(ValueError, match="example seven is damaged"):
        list(Samples(as_examples(Images(fail)), views=2).batches(torch.arange(20), 2, workers=2))


def test_names_stand_for_inputs():
    """Ids are then known before anything is read, another for each view."""
    samples = Samples(as_examples(Files()), views=2)
    assert samples.named
    assert samples.ids.shape == (20, 16)
    assert len(np.unique(samples.ids, axis=0)) == 20


def test_batches_of_any_structure_are_joined():
    """Tensors, tuples, dicts."""
    parts = [{"a": torch.ones(2, 1), "b": (torch.zeros(2),)}, {"a": torch.ones(1, 1), "b": (torch.zeros(1),)}]
    joined = join(parts)
    assert joined["a"].shape == (3, 1)
    assert joined["b"][0].shape == (3,)


def test_only_a_labelled_data_set_states_its_labels():
    """Others may change a label on its way from `targets`."""
    data = Images()
    data.targets = data.labels = list(range(10))
    assert known_labels(as_examples(data)) is None
    inputs, labels = torch.zeros(3, 2), torch.arange(3)
    known = known_labels(as_examples((inputs, labels)))
    assert torch.equal(known, labels)
    assert known is not labels
