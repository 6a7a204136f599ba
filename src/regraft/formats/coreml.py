"""Core ML: `.mlmodel` files and `.mlpackage` folders, with the weights of neural networks and of ML programs.

Source: apple/coremltools, mlmodel/format (Model.proto, NeuralNetwork.proto, MIL.proto) and mlmodel/src/MILBlob.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import final

from regraft.arrays import Checkpoint
from regraft.containers.protobuf import BYTES, VARINT, Fields, ProtobufFile, looks_like
from regraft.errors import CheckpointError
from regraft.formats.coreml_layers import layers_of_network
from regraft.formats.coreml_program import layers_of_program
from regraft.formats.coreml_weights import Weights
from regraft.formats.format import Format

_MANIFEST = "Manifest.json"
_LARGEST_MANIFEST = 1 << 20
# The fields that a model begins with: version, description, whether it can be updated, and one of the kinds of models.
_PROGRAM, _NETWORKS, _PIPELINE, _WRAPPED = 502, (500, 303, 403), 202, (200, 201)
_FIELDS = {1: VARINT, 2: BYTES, 10: VARINT, **dict.fromkeys((*_NETWORKS, _PROGRAM, _PIPELINE, *_WRAPPED), BYTES)}
_DEEPEST = 4  # models in a pipeline of pipelines


@final
class CoreML(Format):
    """`.mlmodel` and `.mlpackage`."""

    name = "coreml"
    layout = "coreml"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A package has a manifest and a model; a file of that suffix begins with a version."""
        if path.is_dir():
            return (path / _MANIFEST).is_file() and (path / "Data" / "com.apple.CoreML").is_dir()
        fields = looks_like(head, _FIELDS)
        return path.suffix == ".mlmodel" and bool(fields) and fields[0][0] == 1

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named `layer/leaf`."""
        model = _model_of_package(path) if path.is_dir() else path
        file = ProtobufFile(model)
        weights = Weights(file, folder=model.parent)
        try:
            for message in _models(file, file.message(file.whole), 0):
                _add_layers(weights, message)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise file.damaged(f"the layers cannot be read ({error!r:.200})") from error
        if not weights.infos:
            raise CheckpointError(f"{model}: the model is neither a neural network nor an ML program with weights.")
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=weights.infos, reader=weights.read,
            files=(model, *weights.files), requirements=tuple(weights.requirements), notes=tuple(weights.notes),
        )  # fmt: skip


def _add_layers(weights: Weights, model: Fields) -> None:
    for number in _NETWORKS:
        if model[number]:
            layers_of_network(weights, weights.file.message(model[number][-1]))
    if model[_PROGRAM]:
        layers_of_program(weights, weights.file.message(model[_PROGRAM][-1]))


def _models(file: ProtobufFile, model: Fields, depth: int) -> Iterator[Fields]:
    """The model, or those of a pipeline; a classifier's or regressor's pipeline is a message inside."""
    yield model
    if depth > _DEEPEST:
        raise file.damaged("pipelines are nested too deeply")
    wrapped = [each for number in _WRAPPED for each in model[number]]
    for pipeline in (*model[_PIPELINE], *(part for each in wrapped for part in file.message(each)[1])):
        for part in file.message(pipeline)[1]:
            yield from _models(file, file.message(part), depth + 1)


def _model_of_package(folder: Path) -> Path:
    """The model's file, as the manifest names it. Raises CheckpointError unless it lies inside of the package."""
    manifest = folder / _MANIFEST
    try:
        if manifest.stat().st_size > _LARGEST_MANIFEST:
            raise ValueError("it is longer than 1 MiB")
        known = json.loads(manifest.read_text("utf-8"))
        relative = Path(known["itemInfoEntries"][known["rootModelIdentifier"]]["path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{manifest}: the manifest does not name the model ({error!r:.200}).") from error
    data = (folder / "Data").resolve()
    model = (data / relative).resolve()
    if not model.is_relative_to(data) or not model.is_file():
        raise CheckpointError(f"{manifest}: the model {str(relative)!r:.200} is not in the package.")
    return model
