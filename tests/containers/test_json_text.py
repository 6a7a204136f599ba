"""JSON of unknown origin."""

from pathlib import Path

import pytest

from regraft.containers.json_text import json_file, json_object, json_value
from regraft.errors import CheckpointError


def test_an_object_and_a_list_are_read(tmp_path):
    """From bytes, text, and a file."""
    (tmp_path / "a.json").write_bytes(b'{"a": [1]}')

    assert json_object(b'{"a": [1]}', Path("a")) == json_file(tmp_path / "a.json") == {"a": [1]}
    assert json_value("[1, 2]", Path("a")) == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "a name is given twice"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("{", "not valid JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
    ],
)
def test_what_is_wrong_is_a_checkpoint_error(text, message):
    """Names given twice, nesting without end, numbers of ten thousand digits, bytes that are no text."""
    with pytest.raises(CheckpointError, match=message):
        json_object(text, Path("a.json"), "the header")


def test_a_missing_file_is_named(tmp_path):
    """With the system's reason."""
    with pytest.raises(CheckpointError, match="lost cannot be read"):
        json_file(tmp_path / "lost")
