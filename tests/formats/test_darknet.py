"""Darknet's `.weights` beside a `.cfg`; shapes and values are those of torch."""

import struct
from types import MappingProxyType

import numpy as np
import pytest
import torch

from regraft.errors import CheckpointError
from regraft.formats.darknet import Darknet
from regraft.reading import open_checkpoint
from regraft.testing import FormatContract

NETWORK = """
# a comment
[net]
channels=3
height = 13
width = 9

[convolutional]
batch_normalize=1
filters=4
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=4
size=1
activation=linear

[shortcut]
from=-2
activation=relu

[maxpool]
size=2
stride=1

[route]
layers=-1,1

[connected]
output=5
activation=logistic
"""


def write(folder, arrays, network=NETWORK, name="n.weights", head=None):
    (folder / "n.cfg").write_text(network)
    content = b"".join(array.astype("<f4").tobytes() for array in arrays)
    (folder / name).write_bytes((struct.pack("<iiiq", 0, 2, 5, 32000) if head is None else head) + content)
    return folder / name


def layers_of_torch():
    """The layers in torch, whose own forward says that their sizes fit one another."""
    torch.manual_seed(0)
    layers = {
        "convolutional_0": torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
        "batch_norm_0": torch.nn.BatchNorm2d(4),
        "convolutional_2": torch.nn.Conv2d(4, 4, 1),
        "connected_6": torch.nn.Linear(8 * 7 * 5, 5),
    }
    torch.nn.init.normal_(layers["batch_norm_0"].running_mean)
    torch.nn.init.uniform_(layers["batch_norm_0"].running_var)
    return layers


def forward(layers, images):
    first = torch.nn.functional.leaky_relu(layers["batch_norm_0"].eval()(layers["convolutional_0"](images)), 0.1)
    pooled = torch.nn.functional.max_pool2d(torch.nn.functional.pad(first, (0, 1, 0, 1), value=-1e9), 2)
    added = torch.relu(layers["convolutional_2"](pooled) + pooled)
    again = torch.nn.functional.max_pool2d(torch.nn.functional.pad(added, (0, 1, 0, 1), value=-1e9), 2, stride=1)
    return layers["connected_6"](torch.cat([again, pooled], 1).flatten(1))


def stored(layers):
    """In the order of `load_convolutional_weights` and `load_connected_weights`."""
    norm, plain, dense = layers["batch_norm_0"], layers["convolutional_2"], layers["connected_6"]
    tensors = [
        norm.bias, norm.weight, norm.running_mean, norm.running_var, layers["convolutional_0"].weight,
        plain.bias, plain.weight, dense.bias, dense.weight,
    ]  # fmt: skip
    return [tensor.detach().numpy() for tensor in tensors]


def test_every_array_lies_where_darknet_puts_it(tmp_path):
    """The size of the dense layer follows from all maps before it."""
    layers = layers_of_torch()
    assert forward(layers, torch.zeros(1, 3, 13, 9)).shape == (1, 5)

    checkpoint = open_checkpoint(write(tmp_path, stored(layers)))

    expected = torch.nn.ModuleDict(layers).state_dict()
    del expected["batch_norm_0.num_batches_tracked"]
    assert checkpoint.format == "darknet"
    assert set(checkpoint.infos) == set(expected)
    for name, tensor in expected.items():
        assert np.array_equal(checkpoint.read(name), tensor.numpy()), name


def test_the_wiring_is_that_of_the_network(tmp_path):
    """Each layer that takes another; a pooling's padding lies behind the map."""
    checkpoint = open_checkpoint(write(tmp_path, stored(layers_of_torch())))

    facts = {}
    for fact in checkpoint.requirements:
        facts.setdefault(fact.layer, {})[fact.attribute] = fact.value
    assert {layer: known["inputs"] for layer, known in facts.items()} == {
        "convolutional_0": [""],
        "batch_norm_0": ["convolutional_0"],
        "convolutional_0 (leaky_relu(0.1))": ["batch_norm_0"],
        "maxpool_1": ["convolutional_0 (leaky_relu(0.1))"],
        "convolutional_2": ["maxpool_1"],
        "shortcut_3": ["convolutional_2", "maxpool_1"],
        "shortcut_3 (relu)": ["shortcut_3"],
        "maxpool_4": ["shortcut_3 (relu)"],
        "route_5": ["maxpool_4", "maxpool_1"],
        "connected_6": ["route_5"],
    }
    assert facts["convolutional_0"]["padding"] == [[1, 1], [1, 1]]
    assert facts["convolutional_0"]["use_bias"] is False
    assert facts["maxpool_1"]["padding"] == [[0, 1], [0, 1]]
    assert facts["connected_6"] == {
        "inputs": ["route_5"], "operation": "Dense", "flatten_order": "channels_first", "flatten_channels": 8,
        "use_bias": True, "activation": "sigmoid",
    }  # fmt: skip


def test_a_file_of_the_first_layers_is_read_with_the_whole_network(tmp_path):
    """`darknet53.conv.74` is the start of YOLO's training."""
    layers = layers_of_torch()

    checkpoint = open_checkpoint(write(tmp_path, stored(layers)[:7], name="n.conv.3"))

    assert np.array_equal(checkpoint.read("convolutional_2.weight"), layers["convolutional_2"].weight.detach().numpy())
    assert {fact.layer for fact in checkpoint.requirements} >= {"convolutional_0", "maxpool_1"}
    assert "connected_6" not in {fact.layer for fact in checkpoint.requirements}


def test_an_older_head_is_shorter(tmp_path):
    """Before version 0.2, four bytes count the images."""
    path = write(tmp_path, stored(layers_of_torch()), head=struct.pack("<iiii", 0, 1, 0, 64))

    assert open_checkpoint(path).infos["connected_6.weight"].shape == (5, 280)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_network_of_other_sizes_is_refused(tmp_path, change):
    """The file has no shapes, so that its size is the only witness."""
    arrays = stored(layers_of_torch())
    arrays = arrays[:-1] if change < 0 else [*arrays, np.zeros(1)]

    with pytest.raises(CheckpointError, match=r"truncated, or the .cfg is that of another network"):
        open_checkpoint(write(tmp_path, arrays))


def test_without_its_network_a_file_is_not_known(tmp_path):
    """The message says what to put beside it."""
    path = write(tmp_path, stored(layers_of_torch()))
    (tmp_path / "n.cfg").unlink()

    with pytest.raises(CheckpointError, match=r"Put its \.cfg beside it"):
        open_checkpoint(path)


class TestDarknet(FormatContract):
    """One convolution."""

    format = Darknet()
    arrays = MappingProxyType({
        "convolutional_0.bias": np.array([0.5, -0.25, 8.0], np.float32),
        "convolutional_0.weight": np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1) - 2.5,
    })  # fmt: skip

    def write(self, folder, arrays):
        filters = len(next(iter(arrays.values())))
        channels = sum(array.size for array in arrays.values()) // filters - 1
        network = f"[net]\nchannels={channels}\nheight=4\nwidth=4\n[convolutional]\nfilters={filters}\n"
        return write(folder, arrays.values(), network)
