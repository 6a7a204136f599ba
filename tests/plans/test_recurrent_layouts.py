"""Recurrent cells of other frameworks, computed by their own formulas, give what torch gives after conversion."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import checkpoint_of
from regraft.arrays import Requirement
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plans.recurrent_layouts import ORDERS

FLOAT32 = 1e-5  # the same sums in another order
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 7, 3)).astype("float32")
INPUTS, UNITS = 3, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def random(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def steps(cell):
    """(outputs of a cell that maps (x, state) to (output, state)) over the time of X."""
    state, outputs = (np.zeros((2, UNITS)), np.zeros((2, UNITS))), []
    for step in range(X.shape[1]):
        output, state = cell(X[:, step], *state)
        outputs.append(output)
    return np.stack(outputs, 1)


def restored(arrays, module, layout):
    checkpoint = checkpoint_of({f"layer/{name}": array for name, array in arrays.items()}, layout=layout)
    model = nn.ModuleDict({"layer": module})
    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)
    with torch.no_grad():
        return module(torch.tensor(X))[0].numpy()


def test_a_cell_of_tensorflow_1_takes_inputs_and_state_together_and_forgets_one_less():
    kernel, bias = random(INPUTS + UNITS, 4 * UNITS), random(4 * UNITS)

    def cell(x, h, c):
        i, j, f, o = np.split(np.concatenate([x, h], 1) @ kernel + bias, 4, axis=1)
        c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        return h, (h, c)

    arrays = {"basic_lstm_cell/kernel": kernel, "basic_lstm_cell/bias": bias}
    ours = restored(arrays, nn.LSTM(INPUTS, UNITS, batch_first=True), "tensorflow")

    assert np.abs(ours - steps(cell)).max() < FLOAT32


@pytest.mark.parametrize("directions", [1, 2])
def test_an_onnx_cell_has_gates_iofc_and_both_biases_in_a_row(directions):
    w, r, b = random(directions, 4 * UNITS, INPUTS), random(directions, 4 * UNITS, UNITS), random(directions, 8 * UNITS)

    def cell(x, h, c):
        gates = x @ w[0].T + h @ r[0].T + b[0, : 4 * UNITS] + b[0, 4 * UNITS :]
        i, o, f, g = np.split(gates, 4, axis=1)
        c = c * sigmoid(f) + sigmoid(i) * np.tanh(g)
        h = np.tanh(c) * sigmoid(o)
        return h, (h, c)

    module = nn.LSTM(INPUTS, UNITS, batch_first=True, bidirectional=directions == 2)
    ours = restored({"W": w, "R": r, "B": b}, module, "onnx")

    assert np.abs(ours[..., :UNITS] - steps(cell)).max() < FLOAT32


def test_flax_cells_are_dense_layers_for_each_gate():
    kernels = {f"{side}{gate}": random(INPUTS if side == "i" else UNITS, UNITS) for side in "ih" for gate in "ifgo"}
    biases = {gate: random(UNITS) for gate in "ifgo"}

    def cell(x, h, c):
        gate = {g: x @ kernels[f"i{g}"] + h @ kernels[f"h{g}"] + biases[g] for g in "ifgo"}
        c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
        h = sigmoid(gate["o"]) * np.tanh(c)
        return h, (h, c)

    arrays = {f"{name}/kernel": kernel for name, kernel in kernels.items()}
    arrays |= {f"h{gate}/bias": bias for gate, bias in biases.items()}
    ours = restored(arrays, nn.LSTM(INPUTS, UNITS, batch_first=True), "flax")

    assert np.abs(ours - steps(cell)).max() < FLOAT32


def test_the_gru_of_flax_has_a_bias_inside_the_reset():
    kernels = {f"{side}{gate}": random(INPUTS if side == "i" else UNITS, UNITS) for side in "ih" for gate in "rzn"}
    biases = {name: random(UNITS) for name in ("ir", "iz", "in", "hn")}

    def cell(x, h, _):
        r, z = (sigmoid(x @ kernels[f"i{g}"] + biases[f"i{g}"] + h @ kernels[f"h{g}"]) for g in "rz")
        n = np.tanh(x @ kernels["in"] + biases["in"] + r * (h @ kernels["hn"] + biases["hn"]))
        h = (1 - z) * n + z * h
        return h, (h, h)

    arrays = {f"{name}/kernel": kernel for name, kernel in kernels.items()}
    arrays |= {f"{name}/bias": bias for name, bias in biases.items()}
    ours = restored(arrays, nn.GRU(INPUTS, UNITS, batch_first=True), "flax")

    assert np.abs(ours - steps(cell)).max() < FLOAT32


@pytest.mark.parametrize("words", ORDERS)
def test_every_order_of_gates_has_each_gate_once(words):
    assert sorted(ORDERS[words]) == list(range(len(words)))


def test_the_files_own_word_for_the_gates_counts_under_torchs_names_too():
    """An ONNX graph that cuts torch's own arrays says ifco; one whose arrays are in ONNX' order says iofc."""
    source = nn.LSTM(INPUTS, UNITS, batch_first=True)
    blocks = [0, 3, 1, 2]  # i o f c, of i f c o
    arrays = {
        f"layer/{name}": np.concatenate([np.split(array.numpy(), 4)[block] for block in blocks])
        for name, array in source.state_dict().items()
    }
    told = (Requirement("layer", "gate_order", "iofc"),)
    checkpoint = checkpoint_of(arrays, layout="onnx", requirements=told)
    model = nn.ModuleDict({"layer": nn.LSTM(INPUTS, UNITS, batch_first=True)})

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert all(torch.equal(array, model["layer"].state_dict()[name]) for name, array in source.state_dict().items())
