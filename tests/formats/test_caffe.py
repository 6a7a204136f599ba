"""Caffe models: the real MTCNN ones, and files written by the format's description."""

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import GOLDEN, facts_of, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.caffe import Caffe
from shared import CHECKPOINTS, needs_shared
from written import caffe_layer, caffe_v1_layer, field, fields, write_caffe

ONES = np.ones((3, 2), "f")
TWINS = {"det1": "pnet", "det2": "rnet", "det3": "onet"}


def test_the_golden_network_computes_what_caffe_s_definitions_say():
    """The third blob divides the statistics; Scale is the affine part; eps, stride and padding come from the file."""
    checkpoint, golden = Caffe().open(GOLDEN / "caffe.caffemodel"), golden_arrays("caffe.npz")
    conv, norm = facts_of(checkpoint, "conv"), facts_of(checkpoint, "bn")
    read = {name: torch.from_numpy(checkpoint.read(name)) for name in checkpoint}
    (low, _), (left, _) = conv["padding"]

    x = nn.functional.conv2d(
        torch.from_numpy(golden["x"])[None], read["conv/weight"], read["conv/bias"], conv["strides"], (low, left)
    )
    x = nn.functional.batch_norm(
        x, read["bn/mean"], read["bn/variance"], read["scale/weight"], read["scale/bias"], eps=norm["eps"]
    )
    y = nn.functional.linear(torch.relu(x).flatten(1), read["fc/weight"], read["fc/bias"])

    np.testing.assert_allclose(y[0].numpy(), golden["y"], atol=1e-5)  # float32 sums against float64 ones
    assert facts_of(checkpoint, "scale")["affine_of"] == "bn"
    assert norm == {"eps": 2e-3, "momentum": 0.999, "scale": False, "center": False}


def test_a_batch_norm_that_saw_nothing_is_zero(tmp_path):
    """BatchNormLayer::Forward multiplies by 0 when the divisor is 0."""
    blobs = [np.ones(2, "f"), np.ones(2, "f"), np.zeros(1, "f")]
    checkpoint = Caffe().open(write_caffe(tmp_path / "n.caffemodel", [caffe_layer("bn", "BatchNorm", blobs)]))

    assert list(checkpoint) == ["bn/mean", "bn/variance"]
    np.testing.assert_array_equal(checkpoint.read("bn/mean"), np.zeros(2, "f"), strict=True)


def test_old_layers_lose_the_ones_that_pad_their_shapes(tmp_path):
    """Before 2014 each blob had num, channels, height and width, and a layer's type was a number."""
    kernel, square = np.ones((1, 2, 3, 3), "f"), np.ones((1, 5), "f")
    path = write_caffe(tmp_path / "n.caffemodel", [
        caffe_v1_layer("conv", 4, [kernel, np.ones(1, "f")], settings=[(10, fields((1, 1), (3, 2), (6, 3)))]),
        caffe_v1_layer("fc", 14, [square, np.ones(1, "f")]),
    ])  # fmt: skip

    checkpoint = Caffe().open(path)

    assert {name: info.shape for name, info in checkpoint.items()} == {
        "conv/weight": (1, 2, 3, 3), "conv/bias": (1,), "fc/weight": (1, 5), "fc/bias": (1,),
    }  # fmt: skip
    assert checkpoint["conv/weight"].layer_type == "Convolution"
    assert facts_of(checkpoint, "conv")["padding"] == [[2, 2], [2, 2]]
    assert facts_of(checkpoint, "conv")["strides"] == [3, 3]


def test_the_oldest_layers_lie_inside_their_successors(tmp_path):
    """V0: LayerConnection { layer { name type blobs } }."""
    from written import blob

    inner = fields((1, "ip"), (2, "innerproduct"), (50, blob(ONES, legacy=True)))
    path = write_caffe(tmp_path / "n.caffemodel", [(2, field(1, inner))])

    checkpoint = Caffe().open(path)

    assert checkpoint["ip/weight"].layer_type == "InnerProduct"
    assert checkpoint["ip/weight"].shape == (3, 2)


def test_a_three_dimensional_convolution_keeps_a_leading_one(tmp_path):
    """A modern shape is taken as it is."""
    path = write_caffe(tmp_path / "n.caffemodel", [caffe_layer("c", "Convolution", [np.ones((1, 2, 3, 3, 3), "f")])])

    assert Caffe().open(path)["c/weight"].shape == (1, 2, 3, 3, 3)


def test_the_prototxt_beside_the_model_wins(tmp_path):
    """Caffe runs a network with the prototxt's settings."""
    settings = [(106, fields((1, 3), (3, 1), (6, 2)))]
    path = write_caffe(tmp_path / "n.caffemodel", [
        caffe_layer("c", "Convolution", [np.ones((3, 2, 2, 2), "f")], settings=settings),
        caffe_layer("bn", "BatchNorm", [np.ones(3, "f"), np.ones(3, "f"), np.ones(1, "f")]),
    ])  # fmt: skip
    (tmp_path / "n.prototxt").write_text("""
        layer { name: "c" convolution_param { pad: 3 } }
        layer { name: "bn" batch_norm_param { eps: 1e-3 } }
    """)

    checkpoint = Caffe().open(path)

    assert facts_of(checkpoint, "c")["padding"] == [[3, 3], [3, 3]]
    assert facts_of(checkpoint, "c")["strides"] == [2, 2]
    assert facts_of(checkpoint, "bn")["eps"] == 1e-3
    assert [one.name for one in checkpoint.files] == ["n.caffemodel", "n.prototxt"]


def test_double_precision_and_unknown_layers_are_read(tmp_path):
    """By their blobs' numbers from the third on."""
    blobs = [ONES.astype("f8"), ONES, ONES]
    checkpoint = Caffe().open(write_caffe(tmp_path / "n.caffemodel", [caffe_layer("own", "Mine", blobs)]))

    assert [(name, info.dtype) for name, info in checkpoint.items()] == [
        ("own/weight", "float64"), ("own/bias", "float32"), ("own/2", "float32"),
    ]  # fmt: skip


def test_two_layers_of_one_name_stay_apart(tmp_path):
    """A train and a test layer may share it."""
    layers = [caffe_layer("a", "Scale", [np.ones(2, "f")]), caffe_layer("a", "Scale", [np.zeros(2, "f")])]
    checkpoint = Caffe().open(write_caffe(tmp_path / "n.caffemodel", layers))

    assert list(checkpoint) == ["a/weight", "a/weight#2"]


def test_a_network_without_weights_is_refused(tmp_path):
    """A prototxt in binary form, say."""
    with pytest.raises(CheckpointError, match="1 layers and no weights"):
        Caffe().open(write_caffe(tmp_path / "n.caffemodel", [caffe_layer("relu", "ReLU")]))


def test_a_shape_that_does_not_fit_the_values_is_refused(tmp_path):
    """With both numbers."""
    lying = fields((7, field(1, b"\x80\x80\x80\x80\x10")), (5, bytes(8)))
    layer = (100, fields((1, "fc"), (2, "InnerProduct"), (7, lying)))

    with pytest.raises(CheckpointError, match=r"blob 0 of layer 'fc' claims the shape .* and holds 8 bytes"):
        Caffe().open(write_caffe(tmp_path / "n.caffemodel", [layer]))


@needs_shared
@pytest.mark.parametrize("net", TWINS)
def test_mtcnn_s_convolutions_equal_the_torch_twin_s_turned(net):
    """Trained in MATLAB, height and width are swapped: torch conv = Caffe conv.transpose(0, 1, 3, 2), exactly."""
    folder = CHECKPOINTS / "public"
    twin = torch.load(folder / "mtcnn_torch" / f"{TWINS[net]}.pt", weights_only=True)
    checkpoint = Caffe().open(folder / "mtcnn_caffe" / f"{net}.caffemodel")

    for layer in ("conv1", "conv2", "conv3"):
        ours = checkpoint.read(f"{layer}/weight").transpose(0, 1, 3, 2)
        np.testing.assert_array_equal(ours, twin[f"{layer}.weight"].numpy())
        np.testing.assert_array_equal(checkpoint.read(f"{layer}/bias"), twin[f"{layer}.bias"].numpy())
    assert facts_of(checkpoint, "conv1")["padding"] == [[0, 0], [0, 0]]
