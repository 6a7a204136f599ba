"""TensorFlow Lite models: names, dequantised values, and what the operators say."""

import numpy as np
import pytest

from flat import flat, write_tflite
from regraft.errors import CheckpointError
from regraft.formats.tflite import TFLite


def test_integers_of_a_whole_array_become_numbers(tmp_path):
    """scale × (integer − zero point), told in a note."""
    path = write_tflite(
        tmp_path / "m.tflite",
        {"w": np.array([[0, 128, 255]], np.uint8)},
        quantised={"w": {2: np.array([0.5], "<f4"), 3: np.array([128], "<i8")}},
    )

    checkpoint = TFLite().open(path)

    np.testing.assert_array_equal(checkpoint.read("w"), np.array([[-64, 0, 63.5]], np.float32), strict=True)
    assert checkpoint["w"].dtype == "float32"
    assert checkpoint["w"].note == "dequantised from uint8, one scale"


def test_each_channel_has_its_own_scale(tmp_path):
    """Along the axis that the file names."""
    integers = np.arange(-6, 6, dtype=np.int8).reshape(1, 2, 2, 3)
    scales = np.array([1, 0.5, 0.25], "<f4")
    path = write_tflite(
        tmp_path / "m.tflite",
        {"w": integers},
        quantised={"w": {2: scales, 3: np.zeros(3, "<i8"), 6: ("i", 3)}},
    )

    np.testing.assert_array_equal(TFLite().open(path).read("w"), integers.astype(np.float32) * scales)


def test_half_bytes_are_unpacked(tmp_path):
    """int4: the lower half first, signed; an odd count leaves a half over."""
    path = write_tflite(
        tmp_path / "m.tflite",
        {"w": np.array([0x7F, 0x08], np.uint8)},
        dtypes={"w": "int4"},
        shapes={"w": (3,)},
        quantised={"w": {2: np.array([2], "<f4"), 3: np.array([0], "<i8")}},
    )

    np.testing.assert_array_equal(TFLite().open(path).read("w"), np.array([-2, 14, -16], np.float32))


def test_integers_without_a_scale_are_constants_of_the_graph(tmp_path):
    """A shape is no weight."""
    checkpoint = TFLite().open(write_tflite(tmp_path / "m.tflite", {"shape": np.array([1, 2], np.int32)}))

    assert checkpoint["shape"].role == "constant"
    np.testing.assert_array_equal(checkpoint.read("shape"), [1, 2])


@pytest.mark.parametrize(
    ("quantised", "told"),
    [
        ({2: np.array([1, 2], "<f4"), 6: ("i", 0)}, r"2 scales and 0 zero points along axis 0 of the shape \(3,\)"),
        ({2: np.array([1, 2, 3], "<f4"), 3: np.array([1, 2], "<i8")}, "3 scales and 2 zero points"),
        ({2: np.array([1, 2, 3], "<f4"), 6: ("i", -1)}, "3 scales.*along axis -1"),
    ],
)
def test_scales_that_do_not_fit_are_refused(tmp_path, quantised, told):
    """Before anything is read."""
    path = write_tflite(tmp_path / "m.tflite", {"w": np.zeros(3, np.int8)}, quantised={"w": quantised})

    with pytest.raises(CheckpointError, match=f"the quantisation parameters of w are damaged: it has {told}"):
        TFLite().open(path)


def test_sparse_tensors_of_four_bits_are_left_out_with_a_note(tmp_path):
    """Nothing is guessed of them."""
    model = {
        0: ("I", 3),
        2: [{0: [{0: np.array([2], "<i4"), 1: ("b", 0), 2: ("I", 1), 3: "w"},
                 {0: np.array([2], "<i4"), 1: ("b", 17), 2: ("I", 1), 3: "s", 6: {0: np.array([0], "<i4")}}]}],
        4: [{}, {0: np.zeros(8, np.uint8)}],
    }  # fmt: skip
    (tmp_path / "m.tflite").write_bytes(flat(model, b"TFL3"))

    checkpoint = TFLite().open(tmp_path / "m.tflite")

    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == ("1 constants are texts or sparse int4 and are left out: s.",)


def test_two_subgraphs_may_use_one_name(tmp_path):
    """The second gets a number."""
    told = {0: np.array([2], "<i4"), 1: ("b", 0), 2: ("I", 1), 3: "w"}
    model = {0: ("I", 3), 2: [{0: [told]}, {0: [told]}], 4: [{}, {0: np.zeros(8, np.uint8)}]}
    (tmp_path / "m.tflite").write_bytes(flat(model, b"TFL3"))

    assert list(TFLite().open(tmp_path / "m.tflite")) == ["w", "w#2"]


def test_a_model_of_another_schema_is_refused(tmp_path):
    """The version is told."""
    (tmp_path / "m.tflite").write_bytes(flat({0: ("I", 2)}, b"TFL3"))

    with pytest.raises(CheckpointError, match="schema version 2, expected 3"):
        TFLite().open(tmp_path / "m.tflite")
