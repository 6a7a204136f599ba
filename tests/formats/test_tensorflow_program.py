"""A TensorFlow graph as it is written, from protobuf and from JSON."""

from pathlib import Path

import pytest

from regraft.containers.protobuf import field_bytes, grouped
from regraft.errors import CheckpointError
from regraft.formats.tensorflow_program import program_of_graph, program_of_json

GOLDEN = Path(__file__).parents[1] / "golden"


def frozen():
    """The golden frozen graph."""
    return program_of_graph(memoryview((GOLDEN / "graph_operations.pb").read_bytes()))


def test_operations_have_plain_settings():
    """Lists, texts, dtypes, shapes."""
    operations = frozen().operations
    pool = next(operation for operation in operations.values() if operation.op == "MaxPool")

    assert pool.settings["ksize"] == [1, 3, 3, 1]
    assert pool.settings["padding"] == "SAME"
    assert operations["x"].settings["dtype"] == "float32"
    assert operations["x"].settings["shape"] == (2, 4, 6, 4)


def test_inputs_name_the_output_that_they_take():
    """The first one by the name of its operation alone."""
    taken = {name for operation in frozen().operations.values() for name in operation.inputs}

    assert any(name.endswith(":1") for name in taken)
    assert not any(name.endswith(":0") or name.startswith("^") for name in taken)


def test_functions_of_a_library():
    """Their arguments, what they give, and their operations."""
    content = memoryview((GOLDEN / "graph_savedmodel" / "saved_model.pb").read_bytes())
    meta = field_bytes(grouped(content)[2][0])
    program = program_of_graph(field_bytes(grouped(meta)[2][0]))

    inner = [function for name, function in program.functions.items() if "inner" in name]
    assert inner
    assert all(operation.op for operation in inner[0].operations.values())
    assert all(":" in value for value in inner[0].outputs.values())


def test_the_same_graph_in_json():
    """As TensorFlow.js writes it: texts in base64, numbers as texts."""
    graph = {"node": [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"},
                                                   "shape": {"shape": {"dim": [{"size": "-1"}, {"size": "4"}]}}}},
        {"name": "y", "op": "MaxPool", "input": ["x", "^other"], "attr": {
            "padding": {"s": "U0FNRQ=="}, "ksize": {"list": {"i": ["1", "3", "3", "1"]}}, "keep": {"b": True},
            "scale": {"f": 0.5}}},
    ]}  # fmt: skip

    operations = program_of_json(graph).operations

    assert operations["x"].settings == {"dtype": "float32", "shape": (None, 4)}
    assert operations["y"].inputs == ("x",)
    assert operations["y"].settings == {"padding": "SAME", "ksize": [1, 3, 3, 1], "keep": True, "scale": 0.5}


def test_damaged_graphs_are_refused():
    """In both forms."""
    with pytest.raises(CheckpointError, match="a message ends in the middle of a number"):
        program_of_graph(memoryview(b"\x0a\xff"))
    with pytest.raises(CheckpointError, match="a node of the graph is damaged"):
        program_of_json({"node": [{"name": "x"}]})
