"""Flax's msgpack files against the trees that were saved."""

import msgpack
import numpy as np
import pytest

from golden_files import GOLDEN, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.flax import Flax


def test_a_training_state_reads_equal_with_its_roles():
    """Parameters and statistics are weights; the optimiser's copies and the step are set apart."""
    checkpoint, golden = Flax().open(GOLDEN / "flax_state.msgpack"), golden_arrays("flax.npz")
    expected = {key.removeprefix("state/"): array for key, array in golden.items() if key.startswith("state/")}

    weights = {name for name, info in checkpoint.items() if info.role == "weight"}

    assert weights == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(checkpoint.read(name), array, strict=True, err_msg=name)
    assert checkpoint["opt_state/0/mu/stem/kernel"].role == "optimizer_slot"
    assert checkpoint["step"].role == "counter"


def test_an_array_in_pieces_is_put_together():
    """Flax splits what is larger than a limit, flat."""
    checkpoint, golden = Flax().open(GOLDEN / "flax_chunked.msgpack"), golden_arrays("flax.npz")

    assert checkpoint["params/Dense_0/kernel"].shape == (5, 7)
    for name in ("params/Dense_0/kernel", "params/Dense_0/bias"):
        np.testing.assert_array_equal(checkpoint.read(name), golden[f"chunked/{name}"], strict=True)


def test_all_extensions_and_plain_numbers_are_read():
    """bfloat16, complex, a NumPy scalar, Python's numbers; texts, nothing and truth values are no arrays."""
    checkpoint = Flax().open(GOLDEN / "flax_types.msgpack")

    assert {name: (info.dtype, info.shape) for name, info in checkpoint.items()} == {
        "half": ("bfloat16", (3,)), "wave": ("complex128", ()), "scalar": ("float16", ()), "count": ("int64", ()),
        "rate": ("float64", ()), "flags": ("bool", (2,)),
    }  # fmt: skip
    half = checkpoint.read("half")
    assert half[:2].tolist() == [1.5, -2]
    assert half[2] == pytest.approx(3e38, rel=1e-2)  # bfloat16 keeps eight bits
    assert checkpoint.read("wave") == 1.5 - 2j
    assert checkpoint.read("count") == 7


def saved(folder, content):
    (folder / "checkpoint").write_bytes(content)
    return folder / "checkpoint"


def array(shape=(2,), dtype="float32", raw=bytes(8)):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, raw), use_bin_type=True))


@pytest.mark.parametrize(("tree", "told"), [
    ({"a": array(shape=(3,))}, "held are 8"), ({"a": array(shape=(-2,))}, "impossible shape"),
    ({"a": array(dtype="object")}, "dtype 'object'"), ({"a": msgpack.ExtType(9, b"\x01")}, "extension 9"),
    ({"a": msgpack.ExtType(1, b"\x01")}, "extension 1"), ({"a": "text"}, "holds no array"), ([1], "the tree ends"),
    ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 9}, "chunks": {"0": array()}}}, "pieces"),
    ({"a": {"__msgpack_chunked_array__": True, "shape": 3}}, "pieces"),
])  # fmt: skip
def test_trees_that_flax_never_writes_are_refused(tmp_path, tree, told):
    """With what was found."""
    with pytest.raises(CheckpointError, match=told):
        Flax().open(saved(tmp_path, msgpack.packb(tree)))


def test_endless_nesting_is_refused(tmp_path):
    """Before the stack overflows."""
    with pytest.raises(CheckpointError, match="nests deeper than 64"):
        Flax().open(saved(tmp_path, b"\x81\xa1a" * 5000))


def test_a_key_that_comes_twice_is_refused(tmp_path):
    """Readers would differ on which one counts."""
    with pytest.raises(CheckpointError, match="comes twice"):
        Flax().open(saved(tmp_path, b"\x82\xa1a\x01\xa1a\x02"))


@pytest.mark.parametrize("value", [0, -1, -33, 127, 128, 300, -200, 70000, -70000, 2**40, -(2**40), 1.5, 2**63])
def test_numbers_of_all_widths_are_read(tmp_path, value):
    """As msgpack writes them."""
    if value == 2**63:
        value = 2**63 - 1

    assert Flax().open(saved(tmp_path, msgpack.packb({"step": value}))).read("step") == value


def test_pieces_of_a_large_array_without_numbers_are_refused(tmp_path):
    piece = msgpack.ExtType(1, msgpack.packb(((2,), "float32", bytes(8)), use_bin_type=True))
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"first": piece}}
    (tmp_path / "pieces.msgpack").write_bytes(msgpack.packb({"w": chunked}))

    with pytest.raises(CheckpointError, match=r"pieces of a large array .* do not fit together"):
        Flax().open(tmp_path / "pieces.msgpack")
