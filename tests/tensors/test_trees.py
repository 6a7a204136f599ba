"""Nested values: tensors are found and replaced wherever they are."""

from collections import deque, namedtuple
from dataclasses import dataclass

import pytest
import torch

from regraft.tensors.trees import (
    copied,
    leaves_of,
    map_tree,
    named_tensors,
    numbers_of,
    opaque_objects,
    same_values,
    tensors_of,
)

Pair = namedtuple("Pair", "left right")


@dataclass
class Box:
    inside: torch.Tensor
    label: str


def test_tensors_are_found_in_order_in_every_container():
    """Tuples, named tuples, lists, dictionaries, data classes and plain objects."""
    tensors = [torch.tensor(float(i)) for i in range(5)]

    class Plain:
        def __init__(self):
            self.kept = tensors[4]

    value = (tensors[0], [Pair(tensors[1], "x"), {"a": tensors[2]}], Box(tensors[3], "y"), Plain())
    assert [tensor.item() for tensor in tensors_of(value)] == [0, 1, 2, 3, 4]


def test_a_replaced_structure_is_a_copy_of_the_same_kind():
    """The original keeps its tensors."""
    value = {"pair": Pair(torch.zeros(2), 3), "box": Box(torch.zeros(1), "y")}
    other = map_tree(lambda tensor: tensor + 1, value)
    assert isinstance(other["pair"], Pair)
    assert other["box"] == Box(torch.ones(1), "y")
    assert value["pair"].left.sum() == 0


def test_odd_containers_keep_their_kind():
    """Slots, a bounded deque, and a packed sequence, whose constructor would look into its tensors."""

    class Slotted:
        __slots__ = ("kept", "other")

    slotted = Slotted()
    slotted.kept = torch.zeros(1)
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 3)])
    value = (slotted, deque([torch.zeros(1)], maxlen=2), packed)
    assert len(tensors_of(value)) == 4
    other = map_tree(lambda tensor: "found", value)
    assert (other[0].kept, other[1], other[1].maxlen) == ("found", deque(["found"]), 2)
    assert type(other[2]) is type(packed)
    assert other[2].data == other[2].batch_sizes == "found"
    assert torch.equal(slotted.kept, torch.zeros(1))


def test_numbers_are_found_without_the_tensors():
    """A torch.Size is as good as a tuple."""
    assert numbers_of((torch.zeros(2), 3, [True, "x"], torch.Size([4, 5]))) == [3, True, 4, 5]


def test_tensors_deep_inside_an_object_are_told_with_its_class():
    """A list of objects in an object, as transformers keeps keys and values."""

    class Layer:
        def __init__(self, tensor):
            self.keys, self.owner = tensor, self

    class Kept:
        def __init__(self, tensor):
            self.layers = [Layer(tensor), Layer(None)]

    inside = torch.ones(2)
    value = {"logits": torch.zeros(1), "kept": (Kept(inside), Kept(None)), "name": "x"}

    ((kind, tensors),) = opaque_objects(value)

    assert kind is Kept
    assert tensors[0] is inside
    assert len(tensors_of(value)) == 1


def test_a_copy_has_tensors_and_containers_of_its_own():
    """A forward may write into both."""
    value = {"a": [torch.zeros(2)]}
    other = copied(value)
    other["a"][0] += 1
    other["a"].append(3)
    assert len(value["a"]) == 1
    assert value["a"][0].sum() == 0


def test_tensors_have_names_and_nothing_else_is_passed_over():
    """An id of the inputs covers all that is in them."""
    x, y = torch.zeros(1), torch.ones(1)
    assert [name for name, _ in named_tensors({"a": (x, None, [y]), "b": x})] == ["a.0", "a.2.0", "b"]
    assert next(named_tensors(x)) == ("", x)
    with pytest.raises(TypeError, match=r"a\.1 is a int, not a tensor"):
        list(named_tensors({"a": (x, 3)}))


def test_leaves_are_whatever_is_no_container():
    """In order."""
    assert leaves_of({"a": (1, [None]), "b": "text"}) == [1, None, "text"]


def test_values_are_compared_bit_by_bit():
    """A NaN equals a NaN; a sparse tensor equals itself."""
    x = torch.tensor([1.0, float("nan"), 0.0])
    assert same_values(x, x.clone())
    assert same_values(x.to_sparse(), x.clone().to_sparse())
    assert not same_values(x, x.double())
    assert not same_values(x, x[:2])
    assert not same_values(x, x.nextafter(torch.ones(())))
