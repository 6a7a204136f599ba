"""What torch lacks, beside plain loops over the definitions."""

import pytest
import torch
import torch.nn.functional as F

from regraft.networks import runtime
from regraft.tf_layers import PaddedPool, padded


@pytest.mark.parametrize("size", [7, 8, 9])
def test_convolutions_and_pools_pad_as_tensorflow(size):
    """As `tf_layers`, which is proven on TensorFlow's recordings."""
    x = torch.randn(2, 3, size, size + 1)
    conv = runtime.Conv2dSame(3, 4, 3, stride=2)

    assert torch.equal(conv(x), padded(conv, "same")(x))
    for kind, pool in (("max", runtime.max_pool_padded), ("average", runtime.avg_pool_padded)):
        assert torch.equal(pool(x, 3, 2, "same"), PaddedPool(kind, (3, 3), (2, 2))(x))


@pytest.mark.parametrize(("mode", "torch_mode"), [("reflect", "reflect"), ("edge", "replicate")])
def test_padding_by_the_map_itself(mode, torch_mode):
    """As torch's own, which pads only the last axes."""
    x = torch.randn(2, 3, 5, 6)

    ours = runtime.pad_edges(x, ((0, 0), (0, 0), (2, 1), (3, 0)), mode)

    assert torch.equal(ours, F.pad(x, (3, 0, 2, 1), mode=torch_mode))
    symmetric = runtime.pad_edges(torch.tensor([1, 2, 3]), ((2, 2),), "symmetric")
    assert symmetric.tolist() == [2, 1, 1, 2, 3, 3, 2]


@pytest.mark.parametrize(("mode", "torch_mode"), [("linear", "bilinear"), ("cubic", "bicubic")])
def test_resizing_as_torch_where_torch_can(mode, torch_mode):
    """Half pixels and aligned corners."""
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64)

    for coordinates in ("half_pixel", "align_corners"):
        ours = runtime.resize(x, size=(8, 4), mode=mode, coordinates=coordinates)
        theirs = F.interpolate(x, (8, 4), mode=torch_mode, align_corners=coordinates == "align_corners")
        torch.testing.assert_close(ours, theirs)


def test_depth_and_space_change_places_and_back():
    """Both orders of the block."""
    x = torch.randn(2, 3, 4, 6)

    assert torch.equal(runtime.depth_to_space(runtime.space_to_depth(x, 2), 2), x)
    assert torch.equal(runtime.depth_to_space(F.pixel_unshuffle(x, 2), 2, "CRD"), x)


@pytest.mark.parametrize(
    ("kind", "torch_layer"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("rnn", torch.nn.RNN)]
)
def test_the_own_recurrent_layer_is_torch_s_with_torch_s_functions(kind, torch_layer):
    """The same arrays, the same outputs and states."""
    theirs = torch_layer(3, 4, batch_first=True)
    ours = runtime.RecurrentLayer(3, 4, kind, two_biases=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 3)

    torch.testing.assert_close(ours(x), theirs(x))


def test_an_average_over_same_padding_counts_the_numbers_of_the_map_alone():
    """tf.nn.avg_pool2d(x, (2, 3), (1, 2), "SAME") of TensorFlow 2.21 gives these numbers; 96 other forms were equal."""
    x = torch.arange(12.0).reshape(1, 1, 3, 4)

    result = runtime.avg_pool_padded(x, (2, 3), (1, 2), "same")

    torch.testing.assert_close(result.flatten(), torch.tensor([3.0, 4.5, 7.0, 8.5, 9.0, 10.5]))
