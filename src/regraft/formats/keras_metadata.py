"""`keras_metadata.pb` beside a SavedModel of Keras 2: the model's own description, as JSON inside a protobuf.

Source: tensorflow/python/keras/protobuf/saved_metadata.proto (TensorFlow 2.5 to 2.15).
"""

import json
from pathlib import Path
from typing import Any

from regraft.containers.spans import Span
from regraft.containers.wire import as_bytes, as_text, fields
from regraft.errors import CheckpointError
from regraft.formats.keras_config import Layer, read_config

FILE_NAME = "keras_metadata.pb"
_NODE, _PATH, _METADATA = 1, 3, 5


def described_model(folder: Path) -> Layer | None:
    """The tree of layers of the SavedModel in `folder`; None when it has no such file, or its model is code alone.

    Raises CheckpointError when the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        for number, node in fields(Span(path, 0, path.stat().st_size).read()):
            told = dict(fields(as_bytes(node))) if number == _NODE else {}
            if _METADATA in told and as_text(told.get(_PATH, memoryview(b""))) == "root":
                return _model(as_text(told[_METADATA]), path)
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}. It is damaged.") from error
    return None


def _plain(told: dict[str, Any]) -> Any:
    """Tuples and shapes, which Keras 2 writes as objects, as lists."""
    return told["items"] if told.get("class_name") in ("__tuple__", "TensorShape") and "items" in told else told


def _model(text: str, path: Path) -> Layer | None:
    """The description, unless the model is a class of the user's own: then its layers are not listed."""
    try:
        told = json.loads(text, object_hook=_plain)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the model's description is no JSON: {error}. It is damaged.") from error
    config = told.get("config") if isinstance(told, dict) else None
    return read_config(json.dumps(told), path) if isinstance(config, dict) and "layers" in config else None
