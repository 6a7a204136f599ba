"""Which files describe a network."""

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.errors import BuildError
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint


def test_a_keras_file_describes_its_network():
    """Its input, its name, its layers."""
    network = network_of(open_checkpoint(GOLDEN / "keras3_image.keras"))

    assert network.entries[0].shape == (None, 5, 7, 2)
    assert network.untranslated == ()


def test_plain_arrays_describe_none(tmp_path):
    """The message says how they are used all the same."""
    np.savez(tmp_path / "a.npz", w=np.zeros((2, 2)))

    with pytest.raises(BuildError, match="plan_reuse"):
        network_of(open_checkpoint(tmp_path / "a.npz"))
