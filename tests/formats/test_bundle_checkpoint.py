"""What a bundle becomes: real names, no copies, no texts."""

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.bundle_checkpoint import NO_GRAPH, open_bundle
from regraft.formats.tensor_bundle import Bundle
from tables import field, shape_message, write_bundle


def opened(folder, arrays, extra=None):
    prefix = write_bundle(folder / "m", arrays, extra=extra)
    return open_bundle(prefix, Bundle(prefix), "test", program=folder / "m.meta")


def test_texts_are_left_out_with_a_note(tmp_path):
    """A table of words, say."""
    words = {b"words": field(1, 7) + field(2, shape_message((1,)))}

    checkpoint = opened(tmp_path, {"w": np.zeros(1, np.float32)}, words)

    assert list(checkpoint) == ["w"]
    assert "1 entry holds no numbers and is left out: words." in checkpoint.notes


def test_without_a_graph_it_says_what_is_not_told(tmp_path):
    """Nothing is assumed silently."""
    assert opened(tmp_path, {"w": np.zeros(1, np.float32)}).notes == (NO_GRAPH,)


def test_a_damaged_graph_costs_its_facts_and_not_the_weights(tmp_path):
    """With a note."""
    (tmp_path / "m.meta").write_bytes(b"\x12\x7f")

    checkpoint = opened(tmp_path, {"w": np.zeros(1, np.float32)})

    assert list(checkpoint) == ["w"]
    assert any("m.meta is damaged" in note for note in checkpoint.notes)


def test_a_bundle_of_texts_alone_is_refused(tmp_path):
    """A program without variables, say."""
    words = {b"words": field(1, 7) + field(2, shape_message((1,)))}

    with pytest.raises(CheckpointError, match="holds no arrays of numbers"):
        opened(tmp_path, {}, words)
