"""The descriptions in Keras' files."""

import json

from golden_files import GOLDEN
from regraft.formats.keras_description import keras_description


def test_archives_and_hdf5_files_hold_the_same_description():
    """With the version that wrote them."""
    archive = keras_description(GOLDEN / "keras3_image.keras", "keras")
    hdf5 = keras_description(GOLDEN / "keras3_image.h5", "keras-h5")

    assert [layer.path for layer in archive.model.walk()] == [layer.path for layer in hdf5.model.walk()]
    assert (archive.version[0], hdf5.version[0]) == ("3", "3")


def test_a_file_of_weights_describes_nothing(tmp_path):
    """And a graph model has no layers."""
    assert keras_description(GOLDEN / "keras3_image.weights.h5", "keras-h5") is None
    (tmp_path / "model.json").write_text(json.dumps({"modelTopology": {"node": []}}))
    assert keras_description(tmp_path / "model.json", "tfjs") is None
