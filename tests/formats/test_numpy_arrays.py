"""`.npy` and `.npz`: order of names, layouts in memory, hidden pickles."""

import zipfile

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.numpy_arrays import NumpyArchive, NumpyArray


def test_automatic_names_come_in_the_order_of_their_numbers(tmp_path):
    """arr_10 after arr_9, behind the named ones."""
    np.savez(tmp_path / "a.npz", *(np.array([i]) for i in range(12)), named=np.array([1]))

    assert list(NumpyArchive().open(tmp_path / "a.npz")) == ["named", *(f"arr_{i}" for i in range(12))]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_columns_first_and_compressed_arrays_are_read(tmp_path, save):
    """As NumPy gives them."""
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    save(tmp_path / "a.npz", a=array)

    got = NumpyArchive().open(tmp_path / "a.npz").read("a")

    np.testing.assert_array_equal(got, array.astype("f4"), strict=True)


def test_members_that_are_no_arrays_are_left_out_with_a_note(tmp_path):
    """A README in the archive, say."""
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README", "hello")

    checkpoint = NumpyArchive().open(tmp_path / "a.npz")

    assert list(checkpoint) == ["a"]
    assert "left out: README" in checkpoint.notes[0]


def test_a_pickle_hidden_in_an_archive_is_read_without_running_it(tmp_path):
    """Named by member and key."""
    np.savez(tmp_path / "a.npz", d=np.array({"w": np.ones(3)}, dtype=object), allow_pickle=True)

    np.testing.assert_array_equal(NumpyArchive().open(tmp_path / "a.npz").read("d.w"), np.ones(3))


def test_a_file_with_bytes_left_over_is_refused(tmp_path):
    """Truncated and too long alike."""
    np.save(tmp_path / "a.npy", np.zeros(4))
    content = (tmp_path / "a.npy").read_bytes()
    for damaged in (content + b"\0", content[:-1]):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"float64 of shape \(4,\), 32 bytes, but 3[13] follow its header"):
            NumpyArray().open(tmp_path / "a.npy")


def test_raw_pairs_of_bytes_are_taken_as_bfloat16_with_a_note(tmp_path):
    """NumPy has no name for it."""
    np.save(tmp_path / "a.npy", np.array([0x3FC0], np.uint16).view("V2"))

    checkpoint = NumpyArray().open(tmp_path / "a.npy")

    assert checkpoint.read("a").tolist() == [1.5]
    assert "taken as bfloat16" in checkpoint["a"].note


def test_texts_and_dates_beside_the_arrays_are_left_out_with_a_note(tmp_path):
    """They do not close the archive; alone they are no checkpoint."""
    texts = {"classes": np.array(["a", "b"]), "day": np.array("2020-01-01", "M8[D]")}
    np.savez(tmp_path / "m.npz", w=np.ones(2), **texts)
    np.savez(tmp_path / "texts.npz", **texts)

    checkpoint = NumpyArchive().open(tmp_path / "m.npz")

    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == ("2 arrays hold no numbers and are left out: classes, day.",)
    with pytest.raises(CheckpointError, match="holds no array of numbers, only classes, day"):
        NumpyArchive().open(tmp_path / "texts.npz")
