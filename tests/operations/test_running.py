"""Operations in a row: what they do is what they announced, and JSON keeps them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import PlanError
from regraft.operations.changes import (
    AddTo,
    AlongTime,
    Cast,
    NormOver,
    Pad,
    RepeatInputs,
    SumInputs,
    VarianceFromInverse,
)
from regraft.operations.joins import (
    AddProduct,
    BiasOfNorm,
    Concatenate,
    ConcatenateAround,
    Divide,
    DivideBySigma,
    Fill,
    KeepRest,
    Multiply,
    ScaleByNorm,
    Subtract,
    WeightNorm,
)
from regraft.operations.moves import Flip, Gates, PermuteFlat, Reshape, Take, Transpose
from regraft.operations.resizing import ResizePositions
from regraft.operations.running import OPERATIONS, operation_from_json, run_operations, shape_after

EXAMPLES = [
    (Transpose((2, 0, 1), ("a", "b", "c")), [(2, 3, 4)]),
    (Reshape((6, 4)), [(2, 3, 4)]),
    (Flip((0, 1)), [(2, 3)]),
    (PermuteFlat(1, (2, 3, 4), (2, 0, 1)), [(5, 24)]),
    (Gates(1, (1, 0, 2), "zrh"), [(4, 9)]),
    (Take(0, 1, 3), [(4, 2)]),
    (Cast("float16"), [(2, 2)]),
    (VarianceFromInverse(1e-4), [(3,)]),
    (SumInputs(), [(4, 3, 2, 2)]),
    (RepeatInputs(5), [(4, 3, 2, 2)]),
    (Pad(0, 2, 1), [(3, 2)]),
    (Concatenate(0), [(2, 3), (4, 3)]),
    (Subtract(), [(3,), (3,)]),
    (Divide(), [(3,), (1,)]),
    (Fill(1.0, (2, 2)), []),
    (KeepRest(5), [(3, 2)]),
    (ResizePositions(1, (2, 3), (4, 5), kept=1), [(1, 7, 4)]),
    (ResizePositions(1, (2, 3), (4, 5), is_flat=False, antialias=False), [(2, 2, 3, 4)]),
    (ResizePositions(0, (7,), (3,)), [(7, 4)]),
    (AddTo(0, 1, 2, 1.0), [(4, 2)]),
    (Multiply(), [(3, 2), (3, 2)]),
    (WeightNorm(), [(3, 1, 1), (3, 2, 4)]),
    (DivideBySigma(1), [(3, 2, 4), (2,), (12,)]),
    (NormOver((3, 1)), [(3, 2)]),
    (ConcatenateAround(2), [(3,), (4,)]),
    (AlongTime(3), [(4, 2, 3, 3)]),
    (AddProduct(2.0), [(4, 3, 5), (4, 2, 1), (2, 3, 5)]),
    (AddProduct(2.0, transposed=True), [(3, 4), (4, 2), (2, 3)]),
    (ScaleByNorm(1, 1e-5), [(3, 4, 2), (4,), (1, 4, 1)]),
    (BiasOfNorm(1e-5, has_bias=False), [(4,), (4,), (1, 4), (4,)]),
]


def test_every_operation_has_an_example_here():
    assert {type(operation).__name__ for operation, _ in EXAMPLES} == set(OPERATIONS)


@pytest.mark.parametrize(("operation", "shapes"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_the_announced_shape_is_the_shape_that_comes_out(operation, shapes):
    arrays = [np.ones(shape, dtype=np.float32) for shape in shapes]

    assert run_operations([operation], arrays, own=lambda: np.ones((5, 2))).shape == shape_after([operation], shapes)


@pytest.mark.parametrize(("operation", "shapes"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_json_keeps_an_operation(operation, shapes):
    assert operation_from_json(json.loads(json.dumps(operation.to_json()))) == operation


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_a_transpose_and_its_inverse_change_nothing(axes, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    inverse = tuple(int(axis) for axis in np.argsort(axes))

    assert np.array_equal(run_operations([Transpose(tuple(axes)), Transpose(inverse)], [array]), array)


def test_no_operation_writes_into_its_sources():
    for operation, shapes in EXAMPLES:
        arrays = [np.full(shape, 2.0, dtype=np.float32) for shape in shapes]
        for array in arrays:
            array.setflags(write=False)

        run_operations([operation], arrays, own=lambda: np.ones((5, 2)))

        assert all((array == 2.0).all() for array in arrays)


def test_an_unknown_operation_is_answered_with_the_known_ones():
    with pytest.raises(PlanError, match="unknown operation 'Rotate'; operations: Transpose, Reshape"):
        operation_from_json({"do": "Rotate"})


def test_wrong_arguments_are_answered_with_the_right_ones():
    with pytest.raises(PlanError, match="Transpose takes axes, words"):
        operation_from_json({"do": "Transpose", "order": [1, 0]})


@pytest.mark.parametrize("run", [lambda: shape_after([], [(1,), (2,)]), lambda: run_operations([], [])])
def test_several_arrays_left_over_are_an_error(run):
    with pytest.raises(PlanError, match="are left after the operations, expected one"):
        run()
