"""Operators with computed indices are written as torch takes them."""

from regraft.networks.axis_orders import Held
from regraft.networks.operators import OperatorCall
from regraft.networks.operators_indexing import INDEXING


def written(name, texts, shapes, plain=None, **settings):
    """The expression of an operator; a shape of None is a number of Python."""
    values = tuple(
        Held(text, shape, order=tuple(range(len(shape or ()))), plain=plain if shape is None else None)
        for text, shape in zip(texts, shapes, strict=True)
    )
    return INDEXING[name].written(OperatorCall(settings, tuple(texts), values))


def test_tensors_that_are_made_are_on_the_inputs_device():
    """The code names it once, at its top."""
    assert written("fill", ["n"], [None], value=0.5, dtype="float32").endswith("dtype=torch.float32, device=device)")
    assert written("range", ["0", "n", "k"], [None, None, ()]) == "torch.arange(0, n, k.item(), device=device)"


def test_a_place_that_is_a_number_takes_its_axis_away():
    """And indices take the place of their axis."""
    assert written("gather", ["x", "n"], [(2, 3), None], 1, axis=1) == "x[:, n]"
    assert written("gather", ["x", "i"], [(2, 3), (4,)], axis=1) == "take(x, i, 1)"


def test_a_softmax_over_the_last_axis_alone_is_torchs_own():
    """Over several it flattens them first."""
    assert written("softmax_from", ["x"], [(2, 3)], axis=1) == "x.softmax(-1)"
    assert written("softmax_from", ["x"], [(2, 3, 4)], axis=1) == "x.flatten(1).softmax(-1).reshape(x.shape)"


def test_sizes_of_a_shape():
    """All of them, or a part."""
    assert written("shape", ["x"], [(2, 3)]) == "tuple(x.shape)"
    assert written("shape", ["x"], [(2, 3)], start=1, end=None) == "tuple(x.shape[1:])"
