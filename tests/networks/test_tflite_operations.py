"""Operators of TensorFlow Lite are those of TensorFlow."""

from regraft.networks.tensorflow_table import TABLE
from regraft.networks.tensorflow_translation import PASSED
from regraft.networks.tflite_operations import OPERATIONS, WORDS


def test_every_operator_that_is_read_has_a_translation():
    """Or only passes a value on; recurrent layers are read, and refused by name."""
    words = {word for word, _ in OPERATIONS.values()}

    assert words - TABLE.keys() - PASSED == {"UnidirectionalSequenceLSTM"}


def test_an_operator_is_either_read_or_refused_by_name():
    """Never both."""
    assert not OPERATIONS.keys() & WORDS.keys()
