"""The walk through a Keras model."""

import json
from pathlib import Path

from regraft.formats.keras_config import read_config
from regraft.networks import keras
from regraft.networks.keras_builder import KerasBuilder


def test_everything_without_a_translation_is_named():
    """A Lambda among layers that are known."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 4]}},
        {"class_name": "Lambda", "config": {"name": "shift"}},
        {"class_name": "Activation", "config": {"name": "act", "activation": "relu"}},
    ]
    text = json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": layers}})
    builder = KerasBuilder({}, is_keras_3=True)

    keras._Walk(builder).model(read_config(text, Path("s.json")), ["i"])

    assert [str(entry) for entry in builder.untranslated] == [
        "Lambda shift: its function is code of Python, which is not run: use a layer of Keras in its place"
    ]
    assert [node.operator for node in builder.nodes] == ["relu"]
