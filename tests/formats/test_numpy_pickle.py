"""Pickles of Python 2, byte by byte, and which files are taken for pickles."""

import numpy as np

from regraft.formats.numpy_pickle import NumpyPickle

VALUES = np.array([1.5, -2, 0.25], np.float32)
ESCAPED = "".join(f"\\x{byte:02x}" for byte in VALUES.tobytes())
# What Python 2.7 with NumPy 1.16 writes for [np.array([1.5, -2, 0.25], "float32")], protocol 0.
PYTHON_2_TEXT = (
    "(lp0\ncnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n"
    "(I1\n(I3\ntp7\ncnumpy\ndtype\np8\n(S'f4'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\n"
    f"S'{ESCAPED}'\np14\ntp15\nba."
).encode()
# The same in protocol 2: short strings are U, long integers and tuples have codes of their own.
PYTHON_2_BINARY = (
    b"\x80\x02]q\x00cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    b"(K\x01K\x03\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    b"U\x0c" + VALUES.tobytes() + b"tba."
)


def test_pickles_of_python_2_are_read(tmp_path):
    """Text and binary; their strings are bytes."""
    for number, content in enumerate((PYTHON_2_TEXT, PYTHON_2_BINARY)):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(content)

        assert NumpyPickle().recognises(path, content)
        np.testing.assert_array_equal(NumpyPickle().open(path).read("0"), VALUES, strict=True)


def test_torchs_pickles_are_not_taken(tmp_path):
    """They have a reader of their own."""
    assert not NumpyPickle().recognises(tmp_path / "m.pt", bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"))
