"""What Keras' layers and bare operations without arrays compute, in the words of the plan."""

import pytest

from regraft.formats.keras_functions import layer_function, operation_function


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("UpSampling2D", {"interpolation": "bilinear"}, {"function": "resize linear"}),
        ("UpSampling1D", {}, {"function": "resize nearest"}),
        ("GlobalMaxPooling1D", {}, {"function": "global max"}),
        ("Rescaling", {"scale": 0.5, "offset": -1.0}, {"function": [0.5, -1.0]}),
        ("Rescaling", {"scale": [1, 2, 3]}, {}),
        ("Softmax", {"axis": -1}, {"function": "softmax"}),
        ("Softmax", {"axis": 3}, {"function": "softmax"}),
        ("Softmax", {"axis": 1}, {"function": "softmax over axis 2"}),
        ("Softmax", {"axis": [1, 2]}, {"function": "softmax over several axes"}),
        ("UnitNormalization", {}, {"function": "normalize"}),
        ("Dense", {}, {}),
    ],
)
def test_a_layer_tells_its_function(kind, settings, expected):
    """A map has the axes (h, w, c) in Keras, and its channels first in torch."""
    assert layer_function(kind, settings, (6, 6, 4)) == expected


TENSOR = {"class_name": "__keras_tensor__", "config": {"keras_history": ["conv", 0, 0]}}


def bare(class_name, *args, **config):
    return {"class_name": class_name, "config": config, "inbound_nodes": [{"args": list(args), "kwargs": {}}]}


def old(function, value):
    nodes = [["conv", 0, 0, {"y": value, "name": None}]]
    return {"class_name": "TFOpLambda", "config": {"name": "op", "function": function}, "inbound_nodes": nodes}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (bare("Multiply", TENSOR, 2.5), {"function": [2.5, 0.0]}),
        (bare("Subtract", 1.0, TENSOR), {"function": [-1.0, 1.0]}),
        (bare("Subtract", TENSOR, 1.0), {"function": [1.0, -1.0]}),
        (bare("TrueDivide", TENSOR, 4), {"function": [0.25, 0.0]}),
        (bare("Power", TENSOR, 3), {"function": "power 3"}),
        (bare("Add", TENSOR, TENSOR), {}),
        (bare("Gelu", TENSOR, approximate=True), {"activation": "gelu_tanh"}),
        (bare("Gelu", TENSOR, approximate=False), {"activation": "gelu"}),
        (bare("LeakyRelu", TENSOR, negative_slope=0.1), {"activation": "leaky_relu(0.1)"}),
        (bare("Silu", TENSOR), {"activation": "silu"}),
        (bare("Absolute", TENSOR), {"function": "abs"}),
        (old("math.multiply", 0.5), {"function": [0.5, 0.0]}),
        (old("__operators__.add", 3.0), {"function": [1.0, 3.0]}),
        (old("nn.relu6", None), {"activation": "relu6"}),
        ({}, {}),
    ],
)
def test_a_bare_operation_tells_its_function(entry, expected):
    assert operation_function(entry) == expected
