"""TensorFlow SavedModels: of TF1, of `tf.Module` and Keras; the variables, not the program."""

from dataclasses import replace
from pathlib import Path
from typing import final

from regraft.arrays import Checkpoint
from regraft.containers.sstable import is_table
from regraft.errors import CheckpointError
from regraft.formats.bundle_checkpoint import NO_GRAPH, open_bundle
from regraft.formats.format import Format
from regraft.formats.keras_graph import wiring
from regraft.formats.keras_layers import requirements
from regraft.formats.keras_metadata import FILE_NAME, described_model
from regraft.formats.keras_owners import with_keras_layers
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
            requirements=(*requirements(model), *wiring(model)),
            notes=tuple(note for note in checkpoint.notes if note != NO_GRAPH),
        )


def _folder(path: Path) -> Path:
    return path.parent if path.name == _PROGRAM else path
