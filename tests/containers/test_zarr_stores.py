"""Folders and key-value stores that hold Zarr arrays."""

import shutil
import sys

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.containers.zarr_stores import Folders, KeyValues, files_below
from regraft.errors import CheckpointError, MissingLibraryError
from written import write_zarr


def test_both_kinds_list_the_same_arrays_and_keys():
    """One tree, written twice."""
    folders, values = Folders(GOLDEN / "orbax_folders"), KeyValues(GOLDEN / "orbax_store")

    assert folders.names() == values.names()
    assert {name: set(folders.keys(name)) for name in folders.names()} == {
        name: set(values.keys(name)) for name in values.names()
    }
    for name in folders.names():
        assert b'"zarr_format":2' in folders.read(name, ".zarray")
        assert b'"zarr_format":2' in values.read(name, ".zarray")


def test_chunks_in_folders_of_their_own_belong_to_their_array(tmp_path):
    """And files beside the arrays to none."""
    write_zarr(tmp_path, "a", np.zeros((2, 2), "f"), chunk=(1, 2), separator="/")
    (tmp_path / "other").write_bytes(b"x")

    store = Folders(tmp_path)

    assert (store.names(), sorted(store.keys("a"))) == (["a"], [".zarray", "0/0", "1/0"])
    assert store.size == sum(file.stat().st_size for file in files_below(tmp_path))


def test_a_store_without_tensorstore_says_how_to_install_it(monkeypatch):
    """No own reader of OCDBT."""
    monkeypatch.setitem(sys.modules, "tensorstore", None)

    with pytest.raises(MissingLibraryError, match=r'key-value store \(OCDBT\); [\s\S]*pip install "regraft\[orbax\]"'):
        KeyValues(GOLDEN / "orbax_store")


def test_a_damaged_store_is_refused(tmp_path):
    """The manifest and the data are checked by tensorstore's checksums."""
    shutil.copytree(GOLDEN / "orbax_store", tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.ocdbt"
    content = manifest.read_bytes()
    for damaged in (content[:40], b"\0" * 80, content[:60] + b"\x55\x55" + content[62:]):
        manifest.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="key-value store is damaged or cut short"):
            KeyValues(tmp_path / "a")
