"""Darknet's `.cfg`: sizes of maps and shapes of arrays, and how layers are connected."""

import pytest

from regraft.errors import CheckpointError
from regraft.formats.darknet_network import read_darknet_network

HEAD = "[net]\nchannels=8\nheight=12\nwidth=10\n"


def described(folder, text):
    path = folder / "n.cfg"
    path.write_text(text)
    return read_darknet_network(path)


@pytest.mark.parametrize(
    ("layers", "inputs"),
    [
        ("[maxpool]\nsize=2\nstride=2\npadding=0", 8 * 6 * 5),
        ("[maxpool]\nsize=3\nstride=1", 8 * 12 * 10),
        ("[avg]", 8),
        ("[upsample]", 8 * 24 * 20),
        ("[reorg]\nstride=2", 32 * 6 * 5),
        ("[dropout]\nprobability=.5", 8 * 12 * 10),
        ("[avgpool]\n[route]\nlayers=0", 8),
        ("[dropout]\n[route]\nlayers=-1\ngroups=2\ngroup_id=1", 4 * 12 * 10),
        ("[conv]\nfilters=6\nsize=3\nstride_x=2\nstride_y=3\ngroups=2", 6 * 4 * 4),
        ("[conv]\nfilters=6\nsize=3\npadding=2", 6 * 14 * 12),
    ],
)
def test_the_sizes_of_maps_are_those_of_darknet(tmp_path, layers, inputs):
    """The dense layer behind them has no size of its own in the file."""
    network = described(tmp_path, f"{HEAD}{layers}\n[connected]\noutput=3")

    assert network.stored[-1].shape == (3, inputs)


def test_a_grouped_kernel_takes_the_channels_of_its_group(tmp_path):
    """(filters, channels / groups, size, size), as in torch."""
    network = described(tmp_path, f"{HEAD}[convolutional]\nfilters=6\nsize=3\ngroups=2")

    assert [array.shape for array in network.stored] == [(6,), (6, 4, 3, 3)]


def test_the_batch_norm_of_a_dense_layer_lies_behind_its_kernel(tmp_path):
    """`load_connected_weights` reads bias, kernel, scales, mean, variance."""
    network = described(tmp_path, f"{HEAD}[connected]\nbatch_normalize=1\noutput=3")

    assert [f"{array.layer}.{array.leaf}" for array in network.stored] == [
        "batch_norm_0.bias", "connected_0.weight", "batch_norm_0.weight", "batch_norm_0.running_mean",
        "batch_norm_0.running_var",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "match"),
    [
        ("[convolutional]\nfilters=2", "does not begin with"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[lstm]\noutput=3", r"\[lstm\] is not read"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[convolutional]\nfilters=2\nflipped=1", "flipped is not read"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[convolutional]\nfilters=2\nstride=0", "zero"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[convolutional]\nfilters=many", "many"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[route]\nlayers=3", "names no layer before it"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n" + "[upsample]\nstride=99999999\n" * 99, "no map has the sizes"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n[convolutional]\ndilation=2", "dilation is not read"),
        ("[net]\nchannels=3\nheight=4\nwidth=4\n" + "[conv]\n" * 10000, "longer than 64 KiB"),
        ("a=1", "does not begin with"),
        ("", "does not begin with"),
    ],
)
def test_a_network_that_cannot_be_read_is_refused(tmp_path, network, match):
    """By the name of the `.cfg`."""
    with pytest.raises(CheckpointError, match=rf"(?s)n\.cfg.*{match}"):
        described(tmp_path, network)
