"""ONNX' recurrent layers are torch's, in all forms that torch has."""

import numpy as np
import pytest
import torch
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx
from torch import nn

from regraft.errors import BuildError

STEPS, BATCH, INPUTS, HIDDEN = 5, 2, 3, 4
X = floats(STEPS, BATCH, INPUTS)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def weights(operator, directions):
    """W, R and B of a layer."""
    rows = GATES[operator] * HIDDEN
    return {"rnn.W": floats(directions, rows, INPUTS), "rnn.R": floats(directions, rows, HIDDEN, seed=1),
            "rnn.B": floats(directions, 2 * rows, seed=2)}  # fmt: skip


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", GATES)
def test_a_recurrent_layer_computes_as_onnx_runtime_does(tmp_path, operator, direction):
    """All outputs: y and the last states."""
    outputs = ("y", "h", "c") if operator == "LSTM" else ("y", "h")
    settings = {"hidden_size": HIDDEN, "direction": direction} | (
        {"linear_before_reset": 1} if operator == "GRU" else {}
    )
    nodes = [node(operator, "x rnn.W rnn.R rnn.B", " ".join(outputs), **settings)]

    built = compare(tmp_path, nodes, {"x": X}, weights(operator, 1 + (direction == "bidirectional")), outputs=outputs,
                    tolerance=1e-5)  # fmt: skip

    assert isinstance(built.model.rnn, KINDS[operator])


def test_first_states_are_inputs(tmp_path):
    """Computed, or zeros that need not be passed."""
    nodes = [node("LSTM", "x rnn.W rnn.R rnn.B  h0 c0", "y h c", hidden_size=HIDDEN),
             node("LSTM", "x rnn.W rnn.R rnn.B  zero zero", "z", hidden_size=HIDDEN)]  # fmt: skip
    inputs = {"x": X, "h0": floats(1, BATCH, HIDDEN), "c0": floats(1, BATCH, HIDDEN, seed=3)}
    arrays = weights("LSTM", 1) | {"zero": np.zeros((1, BATCH, HIDDEN), np.float32)}

    compare(tmp_path, nodes, inputs, arrays, outputs=("y", "h", "c", "z"), tolerance=1e-5)


def test_weights_that_torch_wrote_and_the_graph_rearranges_are_the_layers_own(tmp_path):
    """Slices put the gates into ONNX' order as the graph runs: torch's exporters write this."""
    w, r = floats(4 * HIDDEN, INPUTS), floats(4 * HIDDEN, HIDDEN, seed=1)
    bounds = {f"b{k}": np.array([k * HIDDEN]) for k in range(5)} | {"zero": np.array([0])}
    nodes = []
    for name in ("w", "r"):
        nodes += [node("Slice", f"{name} b{k} b{k + 1} zero", f"{name}{k}") for k in range(4)]
        nodes += [node("Concat", f"{name}0 {name}3 {name}1 {name}2", f"{name}c", axis=0)]  # i f g o → i o f g
        nodes += [node("Unsqueeze", f"{name}c zero", f"{name}o")]
    nodes.append(node("LSTM", "x wo ro", "y", hidden_size=HIDDEN))

    built = compare(tmp_path, nodes, {"x": X}, {"w": w, "r": r, **bounds}, tolerance=1e-5)

    layer = next(layer for layer in built.model.modules() if isinstance(layer, nn.LSTM))
    assert torch.equal(layer.weight_ih_l0, torch.from_numpy(w))


REFUSED = [
    ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.1]}, "", "a slope of its own"),
    ("GRU", {"activations": ["Elu", "Tanh"]}, "", "its activations are elu, tanh"),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "", "its activations are sigmoid, relu, tanh"),
    ("LSTM", {"clip": 3.0}, "", "it clips its values"),
    ("LSTM", {}, "lengths", "the sequences have lengths of their own"),
]


@pytest.mark.parametrize(("operator", "settings", "lengths", "text"), REFUSED)
def test_a_recurrent_layer_that_torch_does_not_have_is_refused(tmp_path, operator, settings, lengths, text):
    """By node, with the reason."""
    arrays = weights(operator, 1) | {"lengths": np.array([3, 5], np.int32)}
    inputs = f"x rnn.W rnn.R rnn.B{f' {lengths}' if lengths else ''}"
    path = write_onnx(
        tmp_path / "net.onnx", [node(operator, inputs, "y", hidden_size=HIDDEN, **settings)], {"x": X}, arrays
    )

    with pytest.raises(BuildError, match=text):
        build_onnx(path)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_gru_that_resets_before_its_product_is_a_layer_of_each_direction(tmp_path, direction):
    """ONNX' default, which torch's GRU is not; with both biases, first states, and as classes of the source."""
    directions = 1 + (direction == "bidirectional")
    nodes = [node("GRU", "x rnn.W rnn.R rnn.B  h0", "y h", hidden_size=HIDDEN, direction=direction)]
    inputs = {"x": X, "h0": floats(directions, BATCH, HIDDEN, seed=4)}

    built = compare(tmp_path, nodes, inputs, weights("GRU", directions), outputs=("y", "h"), tolerance=1e-5)

    assert len([name for name in built.model.state_dict() if name.endswith("weight_ih_l0")]) == directions


@pytest.mark.parametrize(
    ("operator", "activations"),
    [("LSTM", ["HardSigmoid", "Relu", "Relu"]), ("GRU", ["HardSigmoid", "Tanh"]), ("RNN", ["Sigmoid"])],
)
def test_other_activations_are_a_layer_of_its_own(tmp_path, operator, activations):
    """The gates of the file's, and batch first where it says so."""
    outputs = ("y", "h", "c") if operator == "LSTM" else ("y", "h")
    nodes = [node(operator, "x rnn.W rnn.R rnn.B", " ".join(outputs), hidden_size=HIDDEN, activations=activations)]

    compare(tmp_path, nodes, {"x": X}, weights(operator, 1), outputs=outputs, tolerance=1e-5)


def test_an_lstm_of_integers_has_the_numbers_that_they_stand_for(tmp_path):
    """onnxruntime's DynamicQuantizeLSTM; it rounds inputs and states, the network does not."""
    rng = np.random.default_rng(0)
    kernels = {"rnn.W": (1, INPUTS, 4 * HIDDEN), "rnn.R": (1, HIDDEN, 4 * HIDDEN)}
    arrays = {name: rng.integers(-127, 128, shape).astype(np.int8) for name, shape in kernels.items()}
    arrays |= {"W_scale": np.array([0.004], np.float32), "R_scale": np.array([0.004], np.float32),
               "zero": np.array([0], np.int8), "rnn.B": floats(1, 8 * HIDDEN)}  # fmt: skip
    inputs = "x rnn.W rnn.R rnn.B     W_scale zero R_scale zero"
    nodes = [node("DynamicQuantizeLSTM", inputs, "y h c", hidden_size=HIDDEN, domain="com.microsoft")]

    built = compare(tmp_path, nodes, {"x": X}, arrays, outputs=("y", "h", "c"), tolerance=0.02)

    assert any("quantised" in note for note in built.notes)
    assert isinstance(built.model.rnn, nn.LSTM)
