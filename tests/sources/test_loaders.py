"""A DataLoader: what of it is taken, and what is refused."""

import os

import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

from regraft.caching import cache_features
from regraft.errors import DataError
from regraft.examples import as_examples, batches
from trunks import tiny_data, tiny_trunk

INPUTS, LABELS = tiny_data(40)
PAIRS = list(zip(INPUTS, LABELS.tolist(), strict=True))


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"batch_size": 7, "num_workers": 2}])
def test_features_are_those_of_the_data_set(options):
    """In its order, whatever the batches, the shuffle and the worker processes."""
    features = cache_features(tiny_trunk(), DataLoader(PAIRS, **options), batch_size=8)
    plain = cache_features(tiny_trunk(), (INPUTS, LABELS), batch_size=8)
    assert torch.equal(features.inputs["hidden"], plain.inputs["hidden"])
    assert torch.equal(features.labels, LABELS)


def test_the_loaders_processes_fetch():
    """Also where no features are cached."""

    class Own:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.tensor([float(os.getpid())]), index

    examples = as_examples(DataLoader(Own(), num_workers=2))
    fetched = list(batches(examples, torch.arange(8), 4))
    assert all(os.getpid() not in inputs.flatten().tolist() for _, inputs, _ in fetched)


def test_tensors_need_no_processes():
    """They are in memory already."""
    examples = as_examples(DataLoader(TensorDataset(INPUTS, LABELS), num_workers=2))
    assert torch.equal(examples.inputs, INPUTS)


def padded(rows):
    """A collate_fn as for texts: shorter rows are filled up."""
    longest = max(len(row["ids"]) for row in rows)
    fill = [row["ids"] + [0] * (longest - len(row["ids"])) for row in rows]
    return {"input_ids": torch.tensor(fill), "labels": torch.tensor([row["y"] for row in rows])}


def test_a_collate_fn_makes_the_examples():
    """One by one, so that a row does not depend on its batch."""
    rows = [{"ids": [1, 2, 3][:length], "y": length} for length in (3, 1, 2)]
    examples = as_examples(DataLoader(rows, batch_size=2, collate_fn=padded))
    inputs, labels = examples.gather(torch.tensor([1, 2]))
    assert inputs.tolist() == [[1, 0], [1, 2]]
    assert labels.tolist() == [1, 2]


def mixed(rows):
    """A batch whose rows hold something of each other."""
    inputs = torch.stack([row[0] for row in rows])
    return inputs + inputs.mean(0), torch.tensor([row[1] for row in rows])


def drawn(rows):
    """A batch with noise."""
    return torch.stack([row[0] for row in rows]) + torch.rand(1), torch.tensor([row[1] for row in rows])


@pytest.mark.parametrize("collate", [mixed, drawn])
def test_a_collate_fn_that_mixes_or_draws_is_refused(collate):
    """Its work would be lost silently."""
    with pytest.raises(DataError, match="collate_fn mixes examples or draws at random"):
        as_examples(DataLoader(PAIRS, collate_fn=collate))


def test_a_collate_fn_that_gives_no_pair_is_refused():
    """With what it gives."""
    with pytest.raises(DataError, match="collate_fn gives a int"):
        as_examples(DataLoader(PAIRS, collate_fn=len))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_last": True}, "drop_last=True leaves out examples"),
        ({"sampler": WeightedRandomSampler([1.0] * 40, 40)}, "its sampler is a WeightedRandomSampler"),
        ({"sampler": SubsetRandomSampler([1, 2])}, r"as a selection pass torch.utils.data.Subset\(dataset, indices\)"),
        ({"batch_sampler": [[1, 2]]}, "it makes no batches itself"),
        ({"batch_size": None}, "it makes no batches itself"),
        ({"num_workers": 1, "worker_init_fn": print}, "its worker_init_fn expects"),
    ],
)
def test_what_would_be_ignored_silently_is_refused(options, message):
    """With the way out."""
    with pytest.raises(DataError, match=message) as caught:
        as_examples(DataLoader(PAIRS, **options))
    assert "Pass loader.dataset" in str(caught.value)
