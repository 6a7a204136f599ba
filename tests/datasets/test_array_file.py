"""Arrays on disk."""

import gzip
import struct

import numpy as np
import pytest
import torch

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import inputs_from, open_idx, open_npz, read_idx
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.inputs import InputContract
from shared import SHARED, needs_shared

FLAT = Preparation(InputContract((28, 28), channels=1, flatten=True))


def test_float_arrays_are_taken_as_they_are(tmp_path):
    """No scaling is guessed."""
    np.savez(tmp_path / "a.npz", x=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 0]))
    data = open_npz(tmp_path / "a.npz", Preparation(InputContract()))
    assert torch.equal(data.inputs, torch.arange(6.0).reshape(3, 2))
    assert data.classes == ("0", "1")


def test_bytes_are_images_under_the_contract(tmp_path):
    """Scaled, normalised, channels first."""
    images = np.full((2, 5, 6, 3), 255, np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1]), classes=np.array(["no", "yes"]))
    data = open_npz(tmp_path / "a.npz", Preparation(InputContract((4, 4), mean=(0.5,), std=(0.5,))))
    assert data.inputs.shape == (2, 3, 4, 4)
    assert data.inputs.unique().tolist() == [1.0]
    assert data.classes == ("no", "yes")


@needs_shared
def test_mnist_reads_as_published():
    """60,000 images; the first label is a 5, and its pixels sum to 27,525."""
    data = open_idx(SHARED / "data/mnist/train-images-idx3-ubyte.gz", FLAT)
    assert data.inputs.shape == (60000, 784)
    assert data.labels[0] == 5
    assert round(float(data.inputs[0].double().sum() * 255)) == 27525  # float32 of n/255, summed: exact after rounding


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "3 inputs and 2 labels"),
        ({"x": np.zeros((3, 2))}, "has 0 arrays named y or labels.*It has|has 0 arrays named y or labels"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2)}, "labels are float64"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "holds no examples"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, 3]), "classes": np.array(["a", "b"])}, "beyond the classes"),
        ({"x": np.array(["a", "b"]), "y": np.array([0, 1])}, "expected numbers in rows"),
    ],
)
def test_arrays_that_cannot_be_used_say_why(tmp_path, arrays, told):
    """With the file's name."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=told):
        open_npz(tmp_path / "a.npz", Preparation(InputContract()))


@pytest.mark.parametrize(
    ("own", "labels"), [(["yes", "no"], [1, 0, 1]), (["no", "yes"], [0, 1, 0]), (["no", "yes", "perhaps"], None)]
)
def test_classes_are_matched_by_name_with_those_of_the_training_data(tmp_path, own, labels):
    """Whatever their order in the file; another class is refused."""
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array([0, 1, 0]), classes=np.array(own))
    if labels is None:
        with pytest.raises(DataError, match=r"a\.npz: perhaps is not a class of the training data"):
            open_npz(tmp_path / "a.npz", Preparation(InputContract()), target=Target("classification", ("no", "yes")))
    else:
        assert (
            open_npz(
                tmp_path / "a.npz", Preparation(InputContract()), target=Target("classification", ("no", "yes"))
            ).labels.tolist()
            == labels
        )


@pytest.mark.parametrize("classes", [["cat", "dog"], ["1", "2"]])
def test_numbers_without_names_are_no_labels_of_named_classes(tmp_path, classes):
    """Nothing says which number is which name."""
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), y=np.array([0, 1]))
    with pytest.raises(DataError, match=r"(?s)labels are numbers.*have names.*Add an array `classes`"):
        open_npz(tmp_path / "a.npz", Preparation(InputContract()), target=Target("classification", tuple(classes)))
    assert open_npz(
        tmp_path / "a.npz", Preparation(InputContract()), target=Target("classification", ("0", "1", "2"))
    ).labels.tolist() == [0, 1]


def test_a_pickle_inside_is_never_executed(tmp_path):
    """Objects are refused."""
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}, None]), y=np.array([0, 1]))
    with pytest.raises(DataError, match=r"a.npz cannot be read as an .npz of arrays: Object arrays cannot be loaded"):
        open_npz(tmp_path / "a.npz", Preparation(InputContract()))


def test_idx_without_labels_names_the_missing_file(tmp_path):
    """By MNIST's own names."""
    (tmp_path / "t-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="expected t-labels-idx1-ubyte"):
        open_idx(tmp_path / "t-images-idx3-ubyte", FLAT)


@pytest.mark.parametrize("raw", [b"", b"\0\0\x08\x01", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01abcd"])
def test_damaged_idx_files_are_refused(tmp_path, raw):
    """Empty, cut, short, of another type."""
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(DataError, match="is no idx file of bytes, or it is truncated"):
        read_idx(tmp_path / "a")


def test_a_damaged_gzip_is_named(tmp_path):
    """Cut in the middle."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000))[:15])
    with pytest.raises(DataError, match=r"a.gz cannot be read"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [(np.float32(3), r"float32 of shape \(\)"), (np.full((2, 2), 1e300), r"beyond those of float32, up to 1e\+300")],
)
def test_inputs_that_float32_cannot_hold_are_refused(tmp_path, inputs, words):
    """A single number has no rows; 1e300 would become infinity."""
    np.savez(tmp_path / "a.npz", x=inputs, y=np.array([0, 1]))
    with pytest.raises(DataError, match=words):
        inputs_from(tmp_path / "a.npz", inputs, Preparation(), Target())
    assert inputs_from(tmp_path / "a.npz", np.array([[np.inf]]), Preparation(), Target()).isinf().all()


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(tmp_path):
    """A hundred kilobytes that announce, and hold, a hundred megabytes."""
    size = 100 << 20
    path = tmp_path / "images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(struct.pack(">IIII", 0x803, size // 100, 10, 10))
        for _ in range(100):
            file.write(bytes(size // 100))

    with pytest.raises(DataError, match=r"announces 10.* in a file of"):
        read_idx(path)


def test_no_more_is_unpacked_than_the_head_announces(tmp_path):
    path = tmp_path / "labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">II", 0x801, 2) + bytes(1 << 20)))

    with pytest.raises(DataError, match="no idx file of bytes, or it is truncated"):
        read_idx(path)
