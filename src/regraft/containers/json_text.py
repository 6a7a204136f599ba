"""JSON of unknown origin: names are unique, and everything that is wrong with it is a CheckpointError."""

import json
from pathlib import Path
from typing import Any

from regraft.containers.spans import whole_file
from regraft.errors import CheckpointError

JsonObject = dict[str, Any]


def json_object(content: bytes | bytearray | str, path: Path, what: str = "the file") -> JsonObject:
    """The JSON object that `content` is.

    path, what  for messages: the file, and which part of it the text is

    Raises CheckpointError when it is no JSON object, or gives a name twice: readers would differ on which one counts.
    """
    value = json_value(content, path, what)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {what} is not a JSON object.")
    return value


def json_value(content: bytes | bytearray | str, path: Path, what: str = "the file") -> Any:
    """The same for JSON of any kind: a list, say."""
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {what} is not valid JSON: {error}.\nDownload the file again.") from error


def json_file(path: Path) -> JsonObject:
    """The JSON object that a file holds."""
    return json_object(whole_file(path).read(), path)


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a name is given twice")
    return entries
