"""Hashes that change when, and only when, what they stand for changes."""

import pytest
import torch

from regraft.errors import CacheError
from regraft.tensors.fingerprints import canonical_json, digest_of, hash_description, hash_tensors, input_ids, named_ids

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize(
    "changed",
    [
        {**WEIGHTS, "a": WEIGHTS["a"].nextafter(torch.tensor(9.0))},
        {**WEIGHTS, "a": WEIGHTS["a"].view(3, 2)},
        {**WEIGHTS, "a": WEIGHTS["a"].double()},
        {**WEIGHTS, "b": -WEIGHTS["b"]},
        {"a": WEIGHTS["a"], "c": WEIGHTS["b"]},
        {"a": WEIGHTS["a"]},
        {**WEIGHTS, "c": torch.empty(0)},
    ],
    ids=["value", "shape", "dtype", "sign of zero", "name", "fewer", "more"],
)
def test_a_changed_tensor_changes_the_hash(changed):
    """Bytes, shapes, dtypes and names count."""
    assert hash_tensors(changed) != hash_tensors(WEIGHTS)


def test_order_and_memory_layout_do_not_count():
    """The same values, the same hash."""
    same = {"b": WEIGHTS["b"].clone(), "a": WEIGHTS["a"].t().contiguous().t()}
    assert hash_tensors(same) == hash_tensors(WEIGHTS)


def test_descriptions_are_compared_as_plain_data():
    """The order of keys does not count, values do."""
    assert hash_description({"a": 1, "b": [2, None]}) == hash_description({"b": [2, None], "a": 1})
    assert hash_description({"a": 1}) != hash_description({"a": 1.5})
    with pytest.raises(CacheError, match="is not plain data"):
        canonical_json({"a": object()})


@pytest.mark.parametrize(
    "inputs",
    [torch.randn(4, 3), (torch.randn(4, 3), torch.ones(4)), {"x": torch.randn(4, 3), "mask": torch.ones(4, 2) > 0}],
    ids=["tensor", "tuple", "dict"],
)
def test_each_rows_id_is_its_own(inputs):
    """The same in another batch, another for other rows, whatever the inputs' structure."""
    from regraft.examples import map_tree

    ids = input_ids(inputs, 4)
    alone = input_ids(map_tree(lambda tensor: tensor[2:3], inputs), 1)
    assert len({row.tobytes() for row in ids}) == 4
    assert (ids[2] == alone[0]).all()


def test_names_and_places_of_inputs_count():
    """The same tensor as another argument is another input."""
    x = torch.ones(1, 2)
    ids = [input_ids(inputs, 1).tobytes() for inputs in (x, (x,), (x, x), {"a": x}, {"b": x}, x.double(), x[:, :1])]
    assert len(set(ids)) == len(ids)


def test_inputs_of_another_count_are_refused():
    """Each tensor has a row for each example."""
    with pytest.raises(CacheError, match=r"mask has 3 rows in a batch of 4"):
        input_ids({"x": torch.ones(4, 2), "mask": torch.ones(3)}, 4)


def test_names_make_ids():
    """One for each name."""
    assert named_ids(["a", "b", "a"]).shape == (3, 16)
    assert (named_ids(["a"]) == named_ids(["b", "a"])[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_digest_tells_one_changed_element(dtype):
    """Of every dtype."""
    tensor = torch.zeros(3, 4).to(dtype)
    changed = tensor.clone()
    changed[2, 1] = 1
    assert digest_of(tensor) == digest_of(tensor.clone())
    assert digest_of(tensor) != digest_of(changed)


def test_a_digest_follows_the_values_not_the_memory():
    """Strides are no content."""
    tensor = torch.arange(6.0).reshape(2, 3)
    assert digest_of(tensor.T.contiguous().T) == digest_of(tensor)
    assert digest_of(torch.zeros(0)) == digest_of(torch.zeros(0, 3))
    assert digest_of(torch.tensor(3)) != digest_of(torch.tensor(4))


def test_inputs_that_are_no_tensors_are_refused():
    """By their path: a text beside an image, as many data sets give it."""
    with pytest.raises(CacheError, match=r"name.0 is a str, not a tensor. Return only tensors"):
        input_ids({"x": torch.ones(1, 2), "name": ["a.png"]}, 1)
