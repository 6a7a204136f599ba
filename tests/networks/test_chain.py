"""Lists of arrays that are chains, beside torch; what they do not record is asked for."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from regraft.building import build_model, planned_network
from regraft.errors import BuildError
from regraft.reading import open_checkpoint
from shared import SHARED, needs_shared

RNG = np.random.default_rng(0)
IMAGES = {"activation": "tanh", "image": [1, 14, 14], "padding": "valid", "stride": 1, "pool": 2}


def written(path, arrays):
    """An .npz, or a pickle of a list."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(list(arrays.values()), protocol=2))
    return open_checkpoint(path)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_dense_layers_are_built_in_the_order_of_the_list(tmp_path):
    """A list without names: kernels are (in, out) as Theano has them."""
    shapes = {"w1": (6, 5), "b1": (5,), "w2": (5, 5), "b2": (5,), "w3": (5, 3), "b3": (3,)}
    arrays = {name: numbers(*shape) for name, shape in shapes.items()}
    chain = {"activation": "relu", "layout": "theano", "last": "softmax"}

    model = build_model(written(tmp_path / "p.pkl", arrays), chain=chain)

    x = y = numbers(4, 6)
    for number in (1, 2):
        y = np.maximum(y @ arrays[f"w{number}"] + arrays[f"b{number}"], 0)
    expected = torch.softmax(torch.from_numpy(y @ arrays["w3"] + arrays["b3"]), 1)
    torch.testing.assert_close(model(torch.from_numpy(x)), expected)
    assert list(dict(model.named_children())) == ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize("layout", ["theano", "theano-unflipped", "torch", "tensorflow"])
def test_convolutions_and_dense_layers_in_every_layout(tmp_path, layout):
    """LeNet's form; the arrays are torch's, brought into each layout: maps of TensorFlow are flattened as (h, w, c)."""
    convs = [nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)]
    dense = nn.Linear(16, 5)
    arrays = {}
    for number, conv in enumerate(convs, 1):
        kernel = conv.weight.detach().numpy()
        kernel = kernel[:, :, ::-1, ::-1] if layout == "theano" else kernel
        arrays[f"conv{number}/kernel"] = kernel.transpose(2, 3, 1, 0) if layout == "tensorflow" else kernel
        arrays[f"conv{number}/bias"] = conv.bias.detach().numpy()
    kernel = dense.weight.detach().numpy().T
    if layout == "tensorflow":
        kernel = kernel.reshape(4, 2, 2, 5).transpose(1, 2, 0, 3).reshape(16, 5)
    arrays |= {"out/kernel": kernel.T if layout == "torch" else kernel, "out/bias": dense.bias.detach().numpy()}

    model = build_model(written(tmp_path / "p.npz", arrays), chain={**IMAGES, "layout": layout})

    x = torch.rand(2, 1, 14, 14)
    y = x
    for conv in convs:
        y = nn.functional.max_pool2d(torch.tanh(conv(y)), 2)
    torch.testing.assert_close(model(x), dense(y.flatten(1)))
    assert isinstance(model.conv1, nn.Conv2d)


RELU = {"activation": "relu", "layout": "torch"}
REFUSED = [
    ({"w": (3, 4)}, {}, r"(?s)activation is None; expected one of relu, tanh.*layout is missing"),
    ({"w": (3, 4)}, {"activation": "relux", "layout": "torch"}, "activation is 'relux'"),
    ({"w": (3, 4)}, {"activation": "relu", "layout": "torch", "pols": 2}, "There is no 'pols'. Did you mean 'pool'"),
    (
        {"w": (4, 1, 3, 3)},
        {"activation": "relu", "layout": "torch"},
        r'(?s)"image": \[1, 28, 28\].*padding.*stride.*pool',
    ),
    ({"w": (3, 4, 5)}, RELU, "0 kernels, 0 vectors and 1 other arrays"),
    ({"a/w": (3, 4), "b/b": (4,)}, {"activation": "relu", "layout": "theano"}, "are not of the same layer"),
    ({"a/w": (3, 4), "a/b": (5,)}, {"activation": "relu", "layout": "theano"}, "a/b has 5 numbers, a/w has 4 outputs"),
    ({"l10/w": (3, 3), "l2/w": (3, 3)}, RELU, "not in the order of their numbers"),
    (
        {"a/w": (3, 4), "c/w": (4, 3, 1, 1)},
        {"activation": "relu", "layout": "torch"},
        "dense layers before convolutions",
    ),
    ({"a/w": (3, 4), "c/w": (9, 2)}, {"activation": "relu", "layout": "theano"}, "linear c cannot be built"),
]


@pytest.mark.parametrize(("shapes", "chain", "message"), REFUSED)
def test_what_is_missing_or_does_not_fit_is_said(tmp_path, shapes, chain, message):
    """Never guessed: which order, which strides, which activation."""
    checkpoint = written(tmp_path / "p.npz", {name: numbers(*shape) for name, shape in shapes.items()})

    with pytest.raises(BuildError, match=message):
        planned_network(checkpoint, chain=chain)


@needs_shared
@pytest.mark.parametrize("name", ["mnist10_300-50x4-10.npz", "mnist10_theano_style_params_float32_p2.pkl"])
def test_the_mnist_lists_compute_the_logits_of_tensorflow(name):
    """The weights of a TF1 network that was saved as lists; its logits were recorded."""
    folder = SHARED / "checkpoints" / "mnist"
    x = torch.from_numpy(np.load(folder / "expected" / "mnist_test16_images_float32_0to1.npy"))
    wanted = torch.from_numpy(np.load(folder / "expected" / "tf1_v2_mnist10_sgd.logits16.npy"))

    model = build_model(open_checkpoint(folder / "arrays" / name), chain={"activation": "relu", "layout": "theano"})

    torch.testing.assert_close(model(x), wanted, atol=2e-5, rtol=0)  # the tolerance of the shared manifest
