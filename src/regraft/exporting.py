"""Writes a saved model for use without regraft: ONNX, torch.export, safetensors, timm, transformers, Keras, TF1."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from regraft.errors import SaveError
from regraft.exports.exported import Exported
from regraft.exports.hubs import write_timm, write_transformers
from regraft.exports.keras_file import write_keras
from regraft.exports.onnx import write_onnx
from regraft.exports.state import write_state
from regraft.exports.tensorflow1 import write_tensorflow1
from regraft.exports.torch_program import write_program
from regraft.foundation.wording import near_names
from regraft.model_record import ModelRecord
from regraft.saving import load, read_record

ExportFormat = Literal["onnx", "torch-export", "safetensors", "timm", "hf", "keras", "tf1"]


@dataclass(frozen=True)
class ExportWriter:
    """A format: the name of what is written by default, and what writes it; a name without suffix is a folder."""

    name: str
    write: Callable[[Exported, Path], None]


TARGETS: Mapping[ExportFormat, ExportWriter] = {
    "onnx": ExportWriter("model.onnx", write_onnx),
    "torch-export": ExportWriter("model.pt2", write_program),
    "safetensors": ExportWriter("exported.safetensors", write_state),
    "timm": ExportWriter("timm-model", write_timm),
    "hf": ExportWriter("hf-model", write_transformers),
    "keras": ExportWriter("model.keras", write_keras),
    "tf1": ExportWriter("tf1-checkpoint", write_tensorflow1),
}


def export(
    run: str | Path,
    to: ExportFormat,
    out: str | Path | None = None,
    *,
    model: nn.Module | None = None,
    shape: Sequence[int] | None = None,
) -> Path:
    """Write the model of a run, or of a folder that `save` wrote, in another format; gives the path.

    to     "onnx" (checked against ONNX Runtime), "torch-export" (a program that runs without the model's code),
           "safetensors" (the plain state dict), "timm" or "hf" (folders that these libraries load), "keras" or "tf1" (a
           Keras file, a folder with a TensorFlow 1 checkpoint, for a model whose layers came from there)
    out    a file, or a folder for "timm", "hf" and "tf1"; by default beside the run
    model  a module for the weights; without it the run's recorded factory is executed: only for runs that you trust
    shape  of one input without the batch, where the run does not record it

    Raises SaveError for a run that cannot be written in this format or a path that exists; VerifyError when the
    exported file gives other outputs than the model. Nothing is left then.
    """
    if to not in get_args(ExportFormat):
        raise SaveError(f"There is no export format {to!r}. {near_names(to, get_args(ExportFormat))}")
    folder = Path(run)
    target = TARGETS[to]
    path = folder.resolve().parent / target.name if out is None else Path(out)
    if path.exists():
        raise SaveError(f"{path} exists already; nothing was changed. Choose another path.")
    record = read_record(folder)
    exported = Exported(folder, load(folder, model=model), record, _example(record, shape))
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        written = Path(temporary) / path.name
        target.write(exported, written)
        written.rename(path)
    return path


def _example(record: ModelRecord, shape: Sequence[int] | None) -> Tensor | None:
    """Two inputs of zeros; None where no shape is known."""
    inputs = record.inputs
    if shape is None and inputs is not None and inputs.size is not None:
        shape = (inputs.channels, *inputs.size)
        if inputs.flatten:
            shape = (shape[0] * shape[1] * shape[2],)
    return None if shape is None else torch.zeros(2, *shape)
