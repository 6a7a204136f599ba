"""The layers of Core ML's neural networks: arrays, settings and connections, from messages written field by field."""

import struct

import numpy as np
import pytest

from regraft.reading import open_checkpoint
from written import field, fields, varint


def packed(*numbers):
    return b"".join(map(varint, numbers))


def params(*values):
    """WeightParams of float32."""
    return field(1, np.array(values, "<f4").tobytes())


def real(number, value):
    """A float32 field."""
    return varint(number << 3 | 5) + struct.pack("<f", value)


def layer(name, number, content, *, inputs=("x",), outputs=("y",)):
    names = b"".join(field(2, text.encode()) for text in inputs) + b"".join(field(3, text.encode()) for text in outputs)
    return field(1, name.encode()) + names + field(number, content)


def opened(folder, *layers):
    network = b"".join(field(1, message) for message in layers)
    (folder / "m.mlmodel").write_bytes(field(1, 4) + field(2, b"") + field(500, network))
    return open_checkpoint(folder / "m.mlmodel")


def facts_of(checkpoint, name):
    return {fact.attribute: fact.value for fact in checkpoint.requirements if fact.layer == name}


DENSE = layer("fc", 140, fields((1, 2), (2, 1), (10, 1)) + field(20, params(1, 2)) + field(21, params(3)))


def test_a_dense_layer_is_out_by_in(tmp_path):
    checkpoint = opened(tmp_path, DENSE)

    assert checkpoint.read("fc/weight").tolist() == [[1, 2]]
    assert checkpoint.read("fc/bias").tolist() == [3]
    assert facts_of(checkpoint, "fc") == {"inputs": [""], "operation": "InnerProduct", "use_bias": True}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            layer("l", 150, fields((1, 3), (2, 2)) + field(20, params(*range(6)))),
            {"l/weight_transposed": [[0, 1, 2], [3, 4, 5]]},
        ),
        (layer("l", 1045, fields((5, 2), (6, 1)) + field(8, params(1, 2))), {"l/weight": [[1], [2]]}),
        (layer("l", 245, field(1, packed(2)) + field(2, params(1, 2))), {"l/weight": [1, 2]}),
        (layer("l", 250, field(1, packed(2)) + field(2, params(1, 2))), {"l/bias": [1, 2]}),
        (layer("l", 1350, field(1, packed(2)) + field(3, params(1, 2)) + field(4, params(3, 4))),
         {"l/gamma": [1, 2], "l/beta": [3, 4]}),
        (layer("l", 130, field(25, field(1, params(0.5, 0.25)))), {"l/alpha": [0.5, 0.25]}),
    ],
)  # fmt: skip
def test_each_layer_keeps_its_arrays(tmp_path, message, expected):
    checkpoint = opened(tmp_path, message)

    assert {name: checkpoint.read(name).tolist() for name in checkpoint} == expected


BORDERS = field(10, fields((1, 1), (2, 2))) + field(10, fields((1, 3), (2, 4)))


@pytest.mark.parametrize(
    ("message", "fact"),
    [
        (layer("l", 120, fields((1, 1), (60, 1))), ("operation", "GlobalAveragePooling2D")),
        (layer("l", 120, field(30, field(1, BORDERS))), ("padding", [[1, 2], [3, 4]])),
        (layer("l", 120, field(31, b"")), ("padding", "same")),
        (layer("l", 120, field(32, field(10, packed(1, 1)))), ("ceil_mode", True)),
        (layer("l", 120, fields((1, 1), (50, 1))), ("count_include_pad", False)),
        (layer("l", 130, field(10, b"")), ("activation", "relu")),
        (layer("l", 130, field(15, real(1, 0.25))), ("activation", "leaky_relu(0.25)")),
        (layer("l", 130, field(5, real(1, 1.0))), ("operation", "Identity")),
        (layer("l", 130, field(5, real(1, 2.0))), ("activation", "of another kind")),
        (layer("l", 230, b"", inputs=("x", "x")), ("operation", "Add")),
        (layer("l", 160, field(1, 1) + real(10, 0.5) + field(15, params(1))), ("eps", 0.5)),
        (layer("l", 1045, fields((5, 2), (6, 1)) + field(8, params(1, 2))), ("kernel_axes", ["in", "out"])),
    ],
)
def test_settings_are_those_of_the_file(tmp_path, message, fact):
    assert facts_of(opened(tmp_path, message, DENSE), "l")[fact[0]] == fact[1]


def test_layers_are_connected_by_their_results(tmp_path):
    first = layer("a", 130, field(10, b""), outputs=("between",))

    checkpoint = opened(tmp_path, first, DENSE.replace(b"\x12\x01x", b"\x12\x07between"))

    assert facts_of(checkpoint, "fc")["inputs"] == ["a"]


def test_a_layer_that_is_not_read_is_named(tmp_path):
    """A recurrent layer of another kind, which has arrays."""
    checkpoint = opened(tmp_path, layer("cell", 410, field(30, bytes(300))), DENSE)

    assert any("cell is of the kind 410, whose arrays are not read" in note for note in checkpoint.notes)
