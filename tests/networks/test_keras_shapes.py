"""Keras' joins and shapes as steps."""

import pytest
import torch

from keras_layers import layer_call, steps
from regraft.networks import keras_shapes as translate
from regraft.networks.emitting import emit
from regraft.networks.keras_builder import RefusedError
from regraft.networks.network import Network, NetworkInput


def test_an_average_of_three_is_their_sum_by_three():
    """Steps of two inputs."""
    call = layer_call("Average", inputs=("a", "b", "c"))

    translate.join(call)

    assert [operator for operator, _ in steps(call)] == ["add", "add", "div"]


def test_a_dense_einsum_is_a_linear_layer():
    """Over the last axis; others are steps."""
    dense = layer_call("EinsumDense", {"equation": "...x,xy->...y"}, kernel=(3, 4), bias=(4,))
    other = layer_call("EinsumDense", {"equation": "abc,cde->abde"}, kernel=(3, 2, 4))

    translate.einsum_dense(dense)
    translate.einsum_dense(other)

    assert [operator for operator, _ in steps(dense)] == ["linear"]
    assert [operator for operator, _ in steps(other)] == ["einsum"]


def test_a_reshape_keeps_the_batch():
    """Which Keras does not count."""
    call = layer_call("Reshape", {"target_shape": [-1, 4]})

    translate.reshape(call)

    assert steps(call) == [("reshape", {"shape": (0, -1, 4)})]


def test_a_resizing_that_the_backends_compute_differently_is_refused():
    """TensorFlow takes the nearest centre, torch the nearest corner; Keras 2 has TensorFlow alone."""
    settings = {"height": 5, "width": 7, "interpolation": "nearest"}

    with pytest.raises(RefusedError, match="backends"):
        translate.resizing(layer_call("Resizing", settings))

    old = layer_call("Resizing", settings, is_keras_3=False)
    translate.resizing(old)
    assert steps(old)[0][1]["coordinates"] == "tf_half_pixel_for_nn"


@pytest.mark.parametrize(
    ("shapes", "axes"), [(((2, 3), (2, 3)), 1), (((2, 4, 3), (2, 5, 3)), -1), (((2, 4, 3), (2, 4, 5)), (1, 1))]
)
def test_a_dot_sums_over_one_axis_of_each(shapes, axes):
    """As keras.layers.Dot: the axes that remain of both; of two vectors a column."""
    call = layer_call("Dot", {"axes": list(axes) if isinstance(axes, tuple) else axes}, inputs=("a", "b"))
    output = translate.dot(call)
    entries = tuple(NetworkInput(name, (None, *shape[1:])) for name, shape in zip("ab", shapes, strict=True))
    source = emit(Network(entries, tuple(call.builder.nodes), (output,)), {})
    a, b = (torch.randn(shape) for shape in shapes)

    frame = {"torch": torch, "a": a, "b": b}
    exec(source.statements[0].line, frame)

    wanted = {
        2: lambda: (a * b).sum(1, keepdim=True),
        3: lambda: a @ b.transpose(1, 2) if axes == -1 else a.transpose(1, 2) @ b,
    }[a.dim()]()
    torch.testing.assert_close(frame[source.outputs[0]], wanted)


def test_a_dot_of_normalised_inputs_is_refused():
    """And one over the batch."""
    for settings in ({"axes": 1, "normalize": True}, {"axes": 0}, {}):
        with pytest.raises(RefusedError):
            translate.dot(layer_call("Dot", settings, inputs=("a", "b")))
