"""Protocol buffers in text form."""

from pathlib import Path

import pytest

from regraft.containers.prototxt import parse_prototxt
from regraft.errors import CheckpointError
from shared import CHECKPOINTS, needs_shared


def test_all_forms_of_values_are_read():
    """Numbers, words, truth, texts, lists, messages with and without a colon, comments."""
    text = """
    name: "net"  # the name
    layer { type: "Conv" pad: 1 pad: 2 phase: TEST on: true eps: 1e-3 text: 'a "b"' }
    layer: < dims: [3, -4] >; empty {}
    """

    assert parse_prototxt(text, Path("n")) == {
        "name": ["net"],
        "layer": [
            {"type": ["Conv"], "pad": [1, 2], "phase": ["TEST"], "on": [True], "eps": [0.001], "text": ['a "b"']},
            {"dims": [3, -4]},
        ],
        "empty": [{}],
    }


@pytest.mark.parametrize(("text", "told"), [
    ("a {", "line 1: expected the name of a field and got 'the end'"), ("a: ", "expected a value and got 'the end'"),
    ("\n\na: }", "line 3: expected a value and got '}'"), ('a: "x', "is not protobuf text"), ("}", "got '}'"),
    ("a: [1, {", r"expected '\]' and got '{'"), ("a {" * 99, "expected the name"), ("a: [1", r"expected '\]'"),
])  # fmt: skip
def test_what_is_no_prototxt_is_refused_with_its_line(text, told):
    """And never hangs."""
    with pytest.raises(CheckpointError, match=told):
        parse_prototxt(text, Path("net.prototxt"))


@needs_shared
def test_a_real_prototxt_is_read():
    """MTCNN's first network."""
    path = CHECKPOINTS / "public" / "mtcnn_caffe" / "det1.prototxt"

    net = parse_prototxt(path.read_text(), path)

    assert net["input_dim"] == [1, 3, 12, 12]
    assert [layer["name"][0] for layer in net["layer"]][:3] == ["conv1", "PReLU1", "pool1"]
