"""The list of readers, and that only those are imported that a path may belong to."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from regraft.formats.readers import FORMATS


@pytest.mark.parametrize("lazy", FORMATS, ids=lambda lazy: lazy.name)
def test_the_list_says_what_the_readers_say(lazy):
    """Name and layout are written in both places; a reader holds no state, since all calls share it."""
    reader = lazy.load()

    assert (reader.name, reader.layout, vars(reader)) == (lazy.name, lazy.layout, {})


def test_names_are_unique():
    """The list of known formats is unambiguous."""
    assert len({reader.name for reader in FORMATS}) == len(FORMATS)


def test_only_the_readers_that_a_file_may_belong_to_are_imported(tmp_path):
    """Importing all of them takes as long as NumPy."""
    save_file({"a": np.ones(3)}, tmp_path / "m.safetensors")
    code = (
        "import sys; from regraft.reading import open_checkpoint; open_checkpoint(sys.argv[1]); "
        "print(sorted(name for name in sys.modules if name.startswith('regraft.formats.')))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.safetensors")], capture_output=True, text=True, check=True
    )

    names = {name.removeprefix("regraft.formats.") for name in eval(done.stdout)}
    # A header's size may begin as a Caffe message does.
    expected = {"format", "hub_files", "index_of_shards", "readers", "roles", "safetensors", "unknown", "writers"}
    assert names - {"caffe"} == expected
