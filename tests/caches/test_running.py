"""A trunk over a batch: its device, its dtype, each example's rows."""

import pytest
import torch
from torch import nn

from regraft.caches.running import OwnShapes, Runner, device_of, filled_batch, first_rows
from regraft.caches.sampling import Samples
from regraft.caching import cache_features
from regraft.errors import CacheError
from regraft.examples import TensorExamples
from regraft.stores.memory import MemoryStore
from trunks import HandTrunk, tiny_data, tiny_trunk


def test_short_batches_are_filled_by_repetition():
    """So every row is computed in a batch of the same size."""
    assert filled_batch(torch.arange(3), 3, 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_another_compute_gives_the_cuts_own_dtype():
    """Computed in bfloat16, handed out in float32."""
    trunk, (inputs, _) = tiny_trunk(), tiny_data()
    exact, fast = (Runner(trunk, compute)(inputs)["hidden"] for compute in ("float32", "bfloat16"))
    assert fast.dtype == exact.dtype == torch.float32
    assert not torch.equal(fast, exact)


def test_a_row_is_as_long_as_its_example():
    """What the batch was filled up with is cut off; what nobody can tell stays as the batch made it."""
    asked = []

    def ask(ids, mask):
        asked.append((tuple(ids.shape), tuple(mask.shape)))
        return {"x": (ids.shape[1], 2), "odd": (None, 2)}

    own = OwnShapes(ask)
    inputs = {"ids": torch.zeros(3, 5, dtype=torch.int64), "mask": torch.zeros(3, 5)}
    shapes = [((2,), (2,)), ((5,), (5,)), ((2,), (2,))]

    assert [len(row) for row in own.rows("x", torch.ones(3, 5, 2), inputs, shapes)] == [2, 5, 2]
    assert [len(row) for row in own.rows("odd", torch.ones(3, 5, 2), inputs, shapes)] == [5, 5, 5]
    assert [len(row) for row in own.rows("x", torch.ones(3, 5, 2), inputs, None)] == [5, 5, 5]
    assert asked == [((1, 2), (1, 2)), ((1, 5), (1, 5))]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: {"y": x}, r"did not give 'hidden'. It gave y"),
        (lambda x: {"hidden": x[:1, :4]}, r"hidden with shape \(1, 4\)"),
        (lambda x: {"hidden": x[:, :3]}, r"hidden with shape \(2, 3\)"),
        (lambda x: {"hidden": x[:, :4].double()}, "float64"),
    ],
)
def test_a_trunk_that_gives_something_else_than_its_cut_is_refused(monkeypatch, outputs, message):
    """Other leaves, rows, sizes or dtypes."""
    trunk = tiny_trunk()
    monkeypatch.setattr(HandTrunk, "__call__", lambda self, inputs: outputs(inputs))
    batch = Samples(TensorExamples(*tiny_data(2))).fetch(torch.arange(2))
    with pytest.raises(CacheError, match=message):
        Runner(trunk).rows(batch, 2)


def test_the_rows_of_a_short_batch_are_its_own():
    """Computed in a batch of the full size."""
    trunk, (inputs, labels) = tiny_trunk(), tiny_data(3)
    rows = Runner(trunk).rows(Samples(TensorExamples(inputs, labels)).fetch(torch.arange(3)), 8)
    assert (trunk.rows, rows["hidden"].shape) == (8, (3, 4))
    assert torch.equal(first_rows(inputs, 2), inputs[:2])


def test_a_trunk_without_tensors_runs_on_the_processor():
    assert device_of(HandTrunk(nn.Identity(), (6,))) == torch.device("cpu")


class Lengths:
    """Six sequences of three numbers each place, of different lengths."""

    def __init__(self, lengths=(3, 5, 2, 5, 4, 1)):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return torch.arange(3.0 * self.lengths[index]).view(-1, 3) + 1, index


class Pooled(nn.Module):
    """The mean of all places, or of those that are no filling."""

    def __init__(self, masked):
        super().__init__()
        self.masked = masked

    def forward(self, x):
        kept = (x != 0).any(2).sum(1)[:, None] if self.masked else x.shape[1]
        return x.sum(1) / kept


@pytest.mark.parametrize("store", [None, "memory"])
def test_features_that_depend_on_the_filling_are_refused(store):
    """With the ways out; computed one by one, or with a mask, they are right."""
    data, place = Lengths(), MemoryStore() if store else None
    with pytest.raises(CacheError, match=r"(?s)depend on the padding.*hidden.*attention_mask.*Pass batch_size=1 to"):
        cache_features(HandTrunk(Pooled(masked=False), (3,)), data, place, batch_size=6)
    alone = torch.stack([data[index][0].mean(0) for index in range(6)])
    for masked, batch_size in ((False, 1), (True, 6)):
        features = cache_features(HandTrunk(Pooled(masked), (3,)), data, place, batch_size=batch_size)
        assert torch.allclose(features.gather(torch.arange(6))[0]["hidden"], alone)
    again = cache_features(HandTrunk(Pooled(masked=False), (3,)), Lengths((5, 5, 5)), place, batch_size=3)
    assert again.computed == (1 if store else 3)  # the three are one input
