"""Functions are put where they are called, and partitioned variables together."""

import pytest

from regraft.errors import CheckpointError
from regraft.formats.tensorflow_program import GraphProgram, ProgramFunction
from regraft.formats.tensorflow_program import ProgramOperation as Op
from regraft.networks.tensorflow_inlining import inlined, whole_variables


def function(name, operations, outputs, inputs=("a",)):
    """A function of these operations."""
    return ProgramFunction(name, inputs, outputs, {operation.name: operation for operation in operations})


def test_the_operations_of_a_function_stand_under_its_call():
    """Their inputs are the caller's values, also of the second output of an operation."""
    inner = function("f", [Op("Split", "s", ("a",), {}), Op("Relu", "r", ("s:output:1",), {})], {"o": "r:y:0"})
    program = GraphProgram({"call": Op("PartitionedCall", "call", ("x",), {"f": "f"})}, {"f": inner})

    operations = inlined(program)

    assert operations["call/s"].inputs == ("x",)
    assert operations["call/r"].inputs == ("call/s:1",)
    assert (operations["call"].op, operations["call"].inputs) == ("IdentityN", ("call/r",))


def test_named_outputs_have_their_place():
    """The second output of a batch-norm is its mean."""
    inner = function("f", [Op("FusedBatchNormV3", "n", ("a",), {})], {"m": "n:batch_mean:0", "x": "a"})
    program = GraphProgram({"call": Op("PartitionedCall", "call", ("x",), {"f": "f"})}, {"f": inner})

    assert inlined(program)["call"].inputs == ("call/n:1", "x")


def test_functions_that_call_each_other_without_end_are_refused():
    """A hostile file."""
    inner = function("f", [Op("PartitionedCall", "again", ("a",), {"f": "f"})], {"o": "again:output:0"})
    program = GraphProgram({"call": Op("PartitionedCall", "call", ("x",), {"f": "f"})}, {"f": inner})

    with pytest.raises(CheckpointError, match="call each other more than 32 deep"):
        inlined(program)


def test_the_parts_of_a_variable_are_one():
    """Read by identities, joined along an axis."""
    operations = {
        "w/part_0": Op("VariableV2", "w/part_0", (), {}), "w/part_1": Op("VariableV2", "w/part_1", (),
            {}),
        "w/part_0/read": Op("Identity", "w/part_0/read", ("w/part_0",), {}), "axis": Op("Const",
            "axis", (), {}),
        "w/concat": Op("ConcatV2", "w/concat", ("w/part_0/read", "w/part_1", "axis"), {}),
        "other": Op("ConcatV2", "other", ("w/part_0", "x", "axis"), {}),
    }  # fmt: skip

    assert whole_variables(operations) == {"w/concat": "w"}
