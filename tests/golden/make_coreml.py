"""Write the Core ML golden files: `python tests/golden/make_coreml.py` (needs coremltools and scikit-learn).

No runtime of Core ML exists outside of Apple's systems: the truth are the arrays that coremltools is given.
"""

import shutil
from pathlib import Path

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813  # its own name in all of its documents
from coremltools.models.neural_network import quantization_utils

FOLDER = Path(__file__).parent
RNG = np.random.default_rng(0)
SHAPES = {
    "conv1_weight": (4, 3, 3, 3), "conv1_bias": 4, "bn1_gamma": 4, "bn1_beta": 4, "bn1_mean": 4, "bn1_variance": 4,
    "up_weight": (4, 5, 2, 2), "up_bias": 5, "block_0_fc_weight": (3, 5), "block_0_fc_bias": 3,
}  # fmt: skip
ARRAYS = {name: RNG.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}
ARRAYS["bn1_variance"] = np.abs(ARRAYS["bn1_variance"]) + np.float32(0.5)
GATES = {
    "weight_ih": RNG.normal(size=(12, 4)).astype("f4"),
    "weight_hh": RNG.normal(size=(12, 3)).astype("f4"),
    "bias": RNG.normal(size=12).astype("f4"),
}


def const(name):
    """The array as a constant of its own name."""
    return mb.const(val=ARRAYS[name], name=name)


@mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))])
def network(x):
    """A convolution, its norm behind an activation so that no converter folds it, a transposed one, a dense layer."""
    x = mb.conv(x=x, weight=const("conv1_weight"), bias=const("conv1_bias"), strides=[2, 1], pad_type="custom",
                pad=[1, 1, 0, 2], name="a")  # fmt: skip
    x = mb.relu(x=x, name="b")
    x = mb.batch_norm(x=x, mean=const("bn1_mean"), variance=const("bn1_variance"), gamma=const("bn1_gamma"),
                      beta=const("bn1_beta"), epsilon=1e-3, name="c")  # fmt: skip
    x = mb.relu(x=x, name="d")
    x = mb.conv_transpose(x=x, weight=const("up_weight"), bias=const("up_bias"), strides=[2, 2], name="e")
    x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False, name="f")
    return mb.linear(x=x, weight=const("block_0_fc_weight"), bias=const("block_0_fc_bias"), name="g")


@mb.program(input_specs=[mb.TensorSpec(shape=(5, 1, 4))])
def cell(x):
    """An LSTM."""
    start = np.zeros((1, 3), np.float32)
    states = mb.lstm(x=x, initial_h=start, initial_c=start, weight_ih=GATES["weight_ih"], weight_hh=GATES["weight_hh"],
                     bias=GATES["bias"], name="lstm")  # fmt: skip
    return states[1]


def save(model, name):
    """The package or file, and nothing of an older one."""
    path = FOLDER / name
    if path.is_dir():
        shutil.rmtree(path)
    model.save(str(path))


def program(function, precision=ct.precision.FLOAT32):
    """An ML program."""
    target = ct.target.iOS16
    return ct.convert(function, convert_to="mlprogram", compute_precision=precision, minimum_deployment_target=target)


def main():
    """The network as a program of three precisions, with a table, and as a neural network, also of 4 bits; a cell."""
    save(program(network), "coreml.mlpackage")
    save(program(network, ct.precision.FLOAT16), "coreml_half.mlpackage")
    linear = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=10))
    save(cto.linear_quantize_weights(program(network), linear), "coreml_int8.mlpackage")
    table = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=10))
    save(cto.palettize_weights(program(network), table), "coreml_table.mlpackage")
    older = ct.convert(network, convert_to="neuralnetwork")
    save(older, "coreml.mlmodel")
    spec = quantization_utils._quantize_spec_weights(older.get_spec(), 4, "_linear_quantization")
    ct.utils.save_spec(spec, str(FOLDER / "coreml_linear.mlmodel"))
    save(program(cell), "coreml_cell.mlpackage")
    save(ct.convert(cell, convert_to="neuralnetwork"), "coreml_cell.mlmodel")
    np.savez(FOLDER / "coreml.npz", **ARRAYS, **GATES)


if __name__ == "__main__":
    main()
