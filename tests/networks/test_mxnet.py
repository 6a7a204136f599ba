"""The network of an MXNet symbol."""

import json
import shutil

import torch
import torch.nn.functional as F

from golden_files import GOLDEN, golden_arrays
from regraft.building import build_model
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint


def test_a_symbol_computes_what_its_operators_define():
    """fix_gamma makes the scale one; the kernel of a dense layer is applied to the flattened map."""
    arrays = {name: torch.from_numpy(array) for name, array in golden_arrays("mxnet.npz").items()}
    arrays["bn0_moving_var"] = arrays["bn0_moving_var"].abs()
    x = torch.randn(3, 2, 4, 2)

    network = network_of(open_checkpoint(GOLDEN / "mxnet-0012.params"))

    assert [(node.operator, node.layer) for node in network.nodes if node.layer] == [
        ("conv", "conv0"), ("batch_norm", "bn0"), ("linear", "fc1"),
    ]  # fmt: skip
    assert network.entries[0].shape == (None, 2, None, None)
    kernel = F.conv2d(x, arrays["conv0_weight"], arrays["conv0_bias"], (2, 1), (1, 0))
    assert kernel.flatten(1).shape[1] == arrays["fc1_weight"].shape[1]


def test_a_symbol_with_a_shape_free_image_is_built(tmp_path):
    """Without the dense layer any size fits; the values are those of the operators."""
    shutil.copy(GOLDEN / "mxnet-0012.params", tmp_path / "net-0012.params")
    symbol = json.loads((GOLDEN / "mxnet-symbol.json").read_text())
    nodes = [
        *symbol["nodes"][:9],
        {"op": "Activation", "name": "a", "attrs": {"act_type": "relu"}, "inputs": [[8, 0, 0]]},
    ]
    (tmp_path / "net-symbol.json").write_text(json.dumps({"nodes": nodes, "heads": [[9, 0, 0]]}))
    arrays = {name: torch.from_numpy(array) for name, array in golden_arrays("mxnet.npz").items()}
    x = torch.randn(3, 2, 9, 8)

    model = build_model(open_checkpoint(tmp_path / "net-0012.params"))

    y = F.conv2d(x, arrays["conv0_weight"], arrays["conv0_bias"], (2, 1), (1, 0))
    statistics = arrays["bn0_moving_mean"], arrays["bn0_moving_var"]
    y = F.batch_norm(y, *statistics, torch.ones(4), arrays["bn0_beta"], eps=2e-5).relu()
    assert torch.equal(model(x).isnan(), y.isnan())  # the recording has negative variances
    torch.testing.assert_close(model(x), y, equal_nan=True)


def test_an_operator_without_translation_is_named(tmp_path):
    """With its node."""
    shutil.copy(GOLDEN / "mxnet-0012.params", tmp_path / "net-0012.params")
    symbol = json.loads((GOLDEN / "mxnet-symbol.json").read_text())
    symbol["nodes"].append({"op": "ROIPooling", "name": "roi", "attrs": {}, "inputs": [[11, 0, 0]]})
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol))

    network = network_of(open_checkpoint(tmp_path / "net-0012.params"))

    assert [str(entry) for entry in network.untranslated] == ["ROIPooling roi"]
