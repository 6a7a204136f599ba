"""Features as an Arrow table, and back."""

import json

import pyarrow as pa
import pytest
import torch
from torch import nn

import regraft
from regraft.caches.feature_tables import META
from regraft.caching import cache_features
from regraft.errors import DataError, TrainError
from regraft.stores.folder import FolderStore
from trunks import HandTrunk, tiny_data, tiny_trunk

INPUTS, LABELS = tiny_data(20)


def features(store=None, **options):
    """Of twenty examples."""
    return cache_features(tiny_trunk(), (INPUTS, LABELS), store, batch_size=8, **options)


def rows_of(some):
    """All rows of the only leaf."""
    return some.gather(torch.arange(len(some)))[0]["hidden"]


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_numbers_labels_and_ids_come_back(tmp_path, memory_bytes):
    """From memory and from a store; the ids are the store's."""
    whole = features(FolderStore(tmp_path, memory_bytes=memory_bytes))
    table = whole.to_arrow()
    again = regraft.Features.read(table)

    assert table.column_names == ["id", "hidden", "label"]
    assert len(set(table.column("id").to_pylist())) == 20
    assert torch.equal(rows_of(again), rows_of(whole))
    assert torch.equal(again.labels, LABELS)
    assert (again.cut, again.key, again.frozen) == (whole.cut, whole.key, whole.frozen)


def test_a_subset_and_named_ids(tmp_path):
    """In its own order."""
    part = features(tmp_path).subset(torch.tensor([7, 3]))
    every = features(tmp_path).to_arrow().column("id").to_pylist()
    assert part.to_arrow().column("id").to_pylist() == [every[7], every[3]]
    assert part.to_arrow(ids=["a", "b"]).column("id").to_pylist() == ["a", "b"]


def test_memory_is_shared_both_ways():
    """No copy of the features is made."""
    whole = features()
    table = whole.to_arrow()
    assert "id" not in table.column_names
    assert regraft.Features.read(table).inputs["hidden"].data_ptr() == whole.inputs["hidden"].data_ptr()


def test_views_are_rows():
    """Numbered; each example has its views again."""

    class Noisy:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return INPUTS[index] + torch.randint(0, 9, (6,)), int(LABELS[index])

    whole = cache_features(tiny_trunk(), Noisy(), views=3, batch_size=4)
    table = whole.to_arrow()
    again = regraft.Features.read(table)
    assert table.num_rows == 15
    assert table.column("view").to_pylist() == [0, 1, 2] * 5
    assert again.views == 3
    for view in range(3):
        assert torch.equal(rows_of(again.view(view)), rows_of(whole.view(view)))
    assert torch.equal(again.labels, whole.labels)


def test_rows_of_different_lengths_are_lists():
    """Each by its own length."""
    trunk = HandTrunk(nn.Identity(), (4, 2), varying=(0,))
    data = [(torch.arange(2.0 * length).view(length, 2), length % 2) for length in (3, 1, 4)]
    whole = cache_features(trunk, data, batch_size=1)
    table = whole.to_arrow()
    again = regraft.Features.read(table)
    assert [len(row) for row in table.column("hidden").to_pylist()] == [3, 1, 4]
    assert torch.equal(rows_of(again), rows_of(whole))


@pytest.mark.parametrize(
    "labels",
    [
        {"kind": LABELS, "age": torch.rand(20)},
        (LABELS, {"box": torch.rand(20, 4)}),
        torch.rand(20, 3),
        [[1, 2], [3]] * 10,
    ],
)
def test_labels_of_any_structure_come_back(labels):
    """Several targets, rows of numbers, tags of different lengths."""
    whole = features().with_labels(labels)
    again = regraft.Features.read(whole.to_arrow())
    expected, got = whole.gather(torch.arange(20))[1], again.gather(torch.arange(20))[1]
    assert str(got) == str(expected)


def test_classes_come_back():
    """By name."""
    whole = features().with_labels(["cat", "dog"] * 10)
    assert regraft.Features.read(whole.to_arrow()).classes == ("cat", "dog")


def test_numbers_that_arrow_lacks_are_kept_exactly():
    """bfloat16 as float32, which holds each of its values."""
    trunk = tiny_trunk()
    trunk.module.bfloat16()
    trunk.cut = trunk.cut.__class__((trunk.cut.leaves[0].__class__("hidden", (4,), torch.bfloat16, 8),), 1.0)
    whole = cache_features(trunk, (INPUTS.bfloat16(), LABELS), batch_size=8)
    table = whole.to_arrow()
    again = regraft.Features.read(table)
    assert str(table.schema.field("hidden").type) == "fixed_size_list<item: float>[4]"
    assert torch.equal(rows_of(again), rows_of(whole))
    assert rows_of(again).dtype == torch.bfloat16


def test_a_leaf_with_the_name_of_another_column_has_its_own():
    """A layer may be called label."""
    trunk = tiny_trunk()
    trunk.cut = trunk.cut.__class__((trunk.cut.leaves[0].__class__("label", (4,), torch.float32, 16),), 1.0)
    call = HandTrunk.__call__
    trunk.__class__ = type("Other", (HandTrunk,), {"__call__": lambda self, x: {"label": call(self, x)["hidden"]}})
    whole = cache_features(trunk, (INPUTS, LABELS), batch_size=8)
    table = whole.to_arrow()
    assert table.column_names == ["leaf label", "label"]
    assert torch.equal(regraft.Features.read(table).inputs["label"], whole.inputs["label"])


def test_training_is_the_same_and_refuses_other_weights():
    """As with the features themselves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    regraft.freeze(model, "0")
    trunk, head = regraft.split(model, INPUTS[:4])
    whole = cache_features(trunk, (INPUTS, LABELS))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    regraft.train(head, whole, solver=regraft.Steps(epochs=2))
    first = model[2].weight.detach().clone()
    model.load_state_dict(start)

    regraft.train(head, regraft.Features.read(whole.to_arrow()), solver=regraft.Steps(epochs=2))

    assert torch.equal(model[2].weight, first)
    with torch.no_grad():
        model[0].weight += 1
    with pytest.raises(TrainError, match="computed"):
        regraft.train(head, regraft.Features.read(whole.to_arrow()), solver=regraft.Steps(epochs=1))


def test_tables_that_are_no_features_are_refused():
    """With what to do."""
    table = features().to_arrow()
    facts = json.loads(table.schema.metadata[META])
    later = table.replace_schema_metadata({META: json.dumps({**facts, "layout": 9})})
    with pytest.raises(DataError, match="holds no features that regraft wrote"):
        regraft.Features.read(pa.table({"x": [1.0]}))
    with pytest.raises(DataError, match="written in layout 9"):
        regraft.Features.read(later)
    with pytest.raises(DataError, match="lacks the columns hidden"):
        regraft.Features.read(table.drop_columns(["hidden"]))
    other = table.set_column(0, "hidden", pa.array([[1.0]] * 20))
    with pytest.raises(DataError, match=r"hidden has rows of shape \(1,\), expected \(4,\)"):
        regraft.Features.read(other)
