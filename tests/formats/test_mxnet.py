"""MXNet's parameters in all four generations of the header."""

import struct

import numpy as np
import pytest

from golden_files import GOLDEN, facts_of, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.mxnet import MXNet
from written import ndarray, write_params


def test_the_golden_arrays_come_in_the_symbol_s_order_with_its_facts():
    """The file's own order is another."""
    checkpoint, golden = MXNet().open(GOLDEN / "mxnet-0012.params"), golden_arrays("mxnet.npz")

    assert list(checkpoint) == [
        "conv0_weight", "conv0_bias", "bn0_gamma", "bn0_beta", "bn0_moving_mean", "bn0_moving_var", "fc1_weight",
        "fc1_bias",
    ]  # fmt: skip
    for name in set(checkpoint) - {"bn0_gamma"}:
        np.testing.assert_array_equal(checkpoint.read(name), golden[name], strict=True)
    assert facts_of(checkpoint, "bn0") == {"eps": 2e-5, "momentum": 0.9}
    assert facts_of(checkpoint, "conv0") == {
        "strides": [2, 1], "padding": [[1, 1], [0, 0]], "dilation": [1, 1], "groups": 1, "use_bias": True,
    }  # fmt: skip
    assert (checkpoint["conv0_weight"].layer, checkpoint["conv0_weight"].layer_type) == ("conv0", "Convolution")
    assert checkpoint["bn0_moving_var"].leaf == "moving_var"


def test_a_fixed_gamma_is_one_whatever_is_stored():
    """MXNet ignores the stored values; the array says so."""
    checkpoint = MXNet().open(GOLDEN / "mxnet-0012.params")

    np.testing.assert_array_equal(checkpoint.read("bn0_gamma"), np.ones(4, "f"), strict=True)
    assert "fix_gamma" in checkpoint["bn0_gamma"].note


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"])
def test_every_header_and_dtype_reads_equal(tmp_path, version, dtype):
    """Names without arg: and aux:."""
    array = np.arange(6).reshape(2, 3).astype(dtype)
    path = write_params(tmp_path / "n-0000.params", {"arg:a_weight": array, "aux:b": array[0]}, version=version)

    checkpoint = MXNet().open(path)

    np.testing.assert_array_equal(checkpoint.read("a_weight"), array, strict=True)
    np.testing.assert_array_equal(checkpoint.read("b"), array[0], strict=True)
    assert "none lies beside" in checkpoint.notes[0]


def test_bfloat16_is_widened(tmp_path):
    """Type flag 12."""
    path = write_params(tmp_path / "n.params", {"w": np.array([0x3FC0, 0xC000], np.uint16)})

    np.testing.assert_array_equal(MXNet().open(path).read("w"), np.array([1.5, -2], "f"), strict=True)


def test_a_scalar_exists_in_the_last_version_alone(tmp_path):
    """Before, no axes meant no array."""
    path = write_params(tmp_path / "n.params", {"s": np.float32(2)}, version=3)

    assert MXNet().open(path).read("s") == np.float32(2)


def test_arrays_without_names_are_numbered(tmp_path):
    """mx.nd.save of a list."""
    path = tmp_path / "n.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + ndarray(np.ones(2, "f"), 2) + struct.pack("<Q", 0))

    assert list(MXNet().open(path)) == ["0"]


def test_gluon_s_names_have_layers_too(tmp_path):
    """By their endings, with dots or underscores."""
    names = ["features.0.weight", "features.1.running_mean", "resnetv10_conv0_weight", "odd"]
    checkpoint = MXNet().open(write_params(tmp_path / "n.params", dict.fromkeys(names, np.ones(2, "f"))))

    assert [info.layer for info in checkpoint.values()] == ["features.0", "features.1", "resnetv10_conv0", ""]
    assert checkpoint["features.1.running_mean"].layer_type == "BatchNorm"


def test_a_weight_and_a_statistic_of_one_name_keep_their_prefixes(tmp_path):
    """Else one would be lost."""
    checkpoint = MXNet().open(
        write_params(tmp_path / "n.params", {"arg:a": np.ones(2, "f"), "aux:a": np.zeros(2, "f")})
    )

    assert list(checkpoint) == ["arg:a", "aux:a"]


def test_a_sparse_array_is_refused_with_the_way_out(tmp_path):
    """Storage type 1 is row_sparse."""
    path = write_params(tmp_path / "n.params", {"a": np.ones(2, "f")})
    content = bytearray(path.read_bytes())
    content[28:32] = struct.pack("<i", 1)
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"tostype\('default'\)"):
        MXNet().open(path)
