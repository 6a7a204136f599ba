"""TensorFlow SavedModels: of TF1, of `tf.Module` and Keras; the variables, not the program."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from regraft.arrays import Checkpoint
from regraft.containers.protobuf import field_bytes, field_text, fields
from regraft.containers.spans import Span
from regraft.containers.sstable import is_table
from regraft.errors import CheckpointError
from regraft.formats.bundle_checkpoint import NO_GRAPH, open_bundle
from regraft.formats.format import Format
from regraft.formats.keras_config import KerasLayer, read_config, with_keras_layers
from regraft.formats.keras_graph import keras_wiring
from regraft.formats.keras_layers import requirements
from regraft.formats.tensor_bundle import Bundle

_PROGRAM = "saved_model.pb"
_VARIABLES = Path("variables", "variables")


@final
class SavedModel(Format):
    """A folder with `saved_model.pb` and `variables/`, named by the folder or by the file."""

    name = "savedmodel"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the program and a folder of variables lie there."""
        try:
            folder = _folder(path)
            return (folder / _PROGRAM).is_file() and (folder / _VARIABLES.parent).is_dir()
        except (OSError, ValueError):
            return False

    def open(self, path: Path) -> Checkpoint:
        """The variables under their own names. The program is never run; its graph tells paddings and the like."""
        folder = _folder(path)
        if not is_table(Path(f"{folder / _VARIABLES}.index")):
            raise CheckpointError(
                f"{folder / _VARIABLES}.index is missing or damaged: this SavedModel holds no variables that can be "
                "read.\nA frozen model keeps its weights in the program; export it with variables."
            )
        checkpoint = open_bundle(path, Bundle(folder / _VARIABLES), self.name, program=folder / _PROGRAM)
        model = described_model(folder)
        if model is None:
            return checkpoint
        return replace(
            checkpoint,
            infos=with_keras_layers(checkpoint.infos, model),
            files=(*checkpoint.files, folder / FILE_NAME),
            requirements=(*requirements(model), *keras_wiring(model)),
            notes=tuple(note for note in checkpoint.notes if note != NO_GRAPH),
        )


def _folder(path: Path) -> Path:
    return path.parent if path.name == _PROGRAM else path


FILE_NAME = "keras_metadata.pb"
_NODE, _PATH, _METADATA = 1, 3, 5


def described_model(folder: Path) -> KerasLayer | None:
    """The tree of layers of the SavedModel in `folder`; None when it has no such file, or its model is code alone.

    Raises CheckpointError when the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        for number, node in fields(Span(path, 0, path.stat().st_size).read()):
            values = dict(fields(field_bytes(node))) if number == _NODE else {}
            if _METADATA in values and field_text(values.get(_PATH, memoryview(b""))) == "root":
                return _model(field_text(values[_METADATA]), path)
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}. It is damaged.") from error
    return None


def _plain(value: dict[str, Any]) -> Any:
    """Tuples and shapes, which Keras 2 writes as objects, as lists."""
    return value["items"] if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value else value


def _model(text: str, path: Path) -> KerasLayer | None:
    """The description, unless the model is a class of the user's own: then its layers are not listed."""
    try:
        description = json.loads(text, object_hook=_plain)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the model's description is no JSON: {error}. It is damaged.") from error
    config = description.get("config") if isinstance(description, dict) else None
    return read_config(json.dumps(description), path) if isinstance(config, dict) and "layers" in config else None
