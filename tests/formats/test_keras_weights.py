"""Quantised layers of Keras, whose codes must never be taken for weights."""

import h5py
import numpy as np
import pytest

from regraft.formats.keras import KerasH5
from regraft.formats.keras_layers import leaf_names

CODES = np.array([[-127, 3, 5], [7, -9, 100]], np.int8)
SCALES = np.array([0.5, 2, 4], np.float32)


def numbered(path, **groups):
    """A `.weights.h5` of Keras 3: each layer's arrays by number."""
    with h5py.File(path, "w") as file:
        for name, arrays in groups.items():
            for number, array in enumerate(arrays):
                file[f"layers/{name}/vars/{number}"] = array
    return KerasH5().open(path)


@pytest.mark.parametrize("bias", [(), (np.ones(3, np.float32),)], ids=["no bias", "bias"])
def test_int8_layers_are_read_as_numbers(tmp_path, bias):
    """`model.quantize("int8")` keeps value × scale, a scale for each unit of a Dense and each row of an Embedding."""
    checkpoint = numbered(tmp_path / "m.weights.h5", dense=[CODES, *bias, SCALES], embedding=[CODES.T, SCALES])

    np.testing.assert_array_equal(checkpoint.read("dense/kernel"), CODES / SCALES, strict=True)
    np.testing.assert_array_equal(checkpoint.read("embedding/embeddings"), (CODES / SCALES).T)
    assert checkpoint["dense/kernel"].dtype == "float32"
    assert checkpoint["dense/kernel"].note == "dequantised from int8, 3 scales along axis 1"
    assert checkpoint["dense/kernel_scale"].role == "constant"


def test_codes_that_are_not_understood_are_no_weights(tmp_path):
    """int4 has two numbers in a byte, EinsumDense scales whose axes its equation decides: nothing may take them."""
    packed = [CODES, np.ones(3, np.float32), SCALES[None], np.zeros((1, 3), np.int8), np.zeros(2, np.float32)]

    checkpoint = numbered(tmp_path / "m.weights.h5", dense=packed, einsum_dense=[CODES, SCALES[None]])

    for name in ("dense/kernel", "einsum_dense/kernel"):
        assert checkpoint[name].role == "constant"
        assert "save the model before it is quantised" in checkpoint[name].note
    assert checkpoint["dense/bias"].role == "weight"


def test_float8_training_keeps_the_names_of_the_weights():
    """Six numbers stand behind them."""
    assert leaf_names("Dense", {"use_bias": True}, 8)[:3] == ("kernel", "bias", "inputs_scale")
    assert leaf_names("EinsumDense", None, 7)[:2] == ("kernel", "inputs_scale")


def test_weights_that_a_custom_layer_names_itself_are_found(tmp_path):
    """`save_own_variables` may use any names; only Keras' own layers count."""
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file["layers/mine/vars/table"] = CODES

    assert list(KerasH5().open(tmp_path / "m.weights.h5")) == ["mine/table"]


def test_cells_that_are_stacked_keep_their_names(tmp_path):
    """`RNN([LSTMCell, GRUCell])` has a kernel in each; without the cell's name the two would collide."""
    names = [f"stack/stacked_rnn_cells/{cell}/kernel:0" for cell in ("lstm_cell", "gru_cell")]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = ["stack"]
        file.create_group("stack")
        file["stack"].attrs["weight_names"] = names
        for name in names:
            file[f"stack/{name}"] = SCALES

    assert len(KerasH5().open(tmp_path / "m.h5")) == 2
