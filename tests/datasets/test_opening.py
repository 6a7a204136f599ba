"""The form of data is found by what is there."""

import os

import numpy as np
import pytest

from regraft.contracts.preparation import Preparation
from regraft.datasets.opening import open_data
from regraft.errors import DataError
from regraft.inputs import InputContract

CONTRACT = Preparation(InputContract((4, 4)))


def test_each_known_form_is_opened(image_folder):
    """Folder, table, arrays."""
    (image_folder / "list.csv").write_text("path,label\ncat/0.png,a\ndog/0.png,b\n")
    np.savez(image_folder / "a.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    counts = [
        len(open_data(path, CONTRACT)) for path in (image_folder, image_folder / "list.csv", image_folder / "a.npz")
    ]
    assert counts == [6, 2, 2]


def test_nothing_there_is_said(tmp_path):
    """With the path."""
    with pytest.raises(DataError, match=r"There is nothing at .*none"):
        open_data(tmp_path / "none", CONTRACT)


def test_an_unknown_form_lists_the_known_ones(tmp_path):
    """What could be given instead."""
    (tmp_path / "a.xyz").touch()
    with pytest.raises(DataError, match=r"a.xyz is not a known form of data. Expected a folder of class"):
        open_data(tmp_path / "a.xyz", CONTRACT)


def test_a_named_pipe_is_no_data(tmp_path):
    """Reading it would wait for ever."""
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(DataError, match=r"data.csv is neither a file nor a folder"):
        open_data(tmp_path / "data.csv", CONTRACT)
