"""Frozen graphs: constants that are weights, and what the nodes say of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from golden_files import facts_of
from graphs import graph_bytes, node, padded_network
from regraft.errors import CheckpointError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from written import field

RNG = np.random.default_rng(0)
KERNEL, DENSE = RNG.normal(size=(3, 3, 3, 4)).astype("f"), RNG.normal(size=(4, 5)).astype("f")
BIAS = np.full(4, 0.25, "f")


def written(folder, *nodes):
    (folder / "graph.pb").write_bytes(graph_bytes(*nodes))
    return folder / "graph.pb"


class Twin(nn.Module):
    """The network of graphs.padded_network under other names, with the padding in its convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.last = nn.Linear(4, 5, bias=False)

    def forward(self, x):
        """(n, 3, h, w) → (n, 5)"""
        return self.last(self.act(self.first(x)).mean((2, 3)))


def test_a_network_is_found_by_its_connections_and_computes_the_same(tmp_path):
    """The golden values are torch's functions on the arrays as they were written."""
    checkpoint = open_checkpoint(written(tmp_path, *padded_network(KERNEL, BIAS, DENSE)))
    x = torch.from_numpy(RNG.normal(size=(2, 3, 9, 9)).astype("f"))
    kernel = torch.from_numpy(KERNEL.transpose(3, 2, 0, 1).copy())
    expected = functional.conv2d(functional.pad(x, (1, 1, 1, 1)), kernel, torch.from_numpy(BIAS), stride=2)
    expected = expected.relu().mean((2, 3)) @ torch.from_numpy(DENSE)

    model = Twin()
    apply_plan(plan_reuse(checkpoint, model, match="structure"), checkpoint, model)

    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)  # another order of the same sums


def test_constants_are_arrays_with_their_layers_and_settings_are_not(tmp_path):
    """Paddings and axes are settings of other nodes; a bias of equal values is stored as one."""
    checkpoint = open_checkpoint(written(tmp_path, *padded_network(KERNEL, BIAS, DENSE)))

    assert [(name, info.layer, info.leaf, info.layer_type) for name, info in checkpoint.items()] == [
        ("conv/kernel", "conv", "kernel", "Conv2D"), ("conv/bias", "conv", "bias", "Conv2D"),
        ("fc/kernel", "fc", "kernel", "Dense"),
    ]  # fmt: skip
    assert (checkpoint.format, checkpoint.layout) == ("tensorflow-frozen", "tensorflow")
    for name, array in (("conv/kernel", KERNEL), ("conv/bias", BIAS), ("fc/kernel", DENSE)):
        np.testing.assert_array_equal(checkpoint.read(name), array, strict=True)
    assert facts_of(checkpoint, "conv") == {
        "padding": [[1, 1], [1, 1]], "padding_layer": "pad", "strides": [2, 2], "dilation": [1, 1],
    }  # fmt: skip


def test_a_constant_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    """One value may stand for many, but not for gigabytes."""
    (tmp_path / "bomb.pb").write_bytes(_with_shape(1 << 40))

    with pytest.raises(CheckpointError, match=r"a claims the shape \(1099511627776,\)"):
        open_checkpoint(tmp_path / "bomb.pb")


def _with_shape(size):
    tensor = field(1, 1) + field(2, field(2, field(1, size))) + field(5, np.zeros(1, "f").tobytes())
    entry = field(5, field(1, "value") + field(2, field(8, tensor)))
    return field(1, field(1, "a") + field(2, "Const") + entry)


def test_a_graph_without_constants_is_refused(tmp_path):
    """Its variables lie elsewhere."""
    with pytest.raises(CheckpointError, match="holds no arrays"):
        open_checkpoint(written(tmp_path, node("x", "Placeholder"), node("y", "Relu", "x")))
