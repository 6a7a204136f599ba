"""Predicts classes for new examples with a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from regraft.datasets.array_file import INPUT_NAMES, inputs_from, read_npz
from regraft.errors import DataError
from regraft.inputs import InputContract
from regraft.progress import progress_bar
from regraft.wording import counted


@dataclass(frozen=True)
class Prediction:
    """The answer for one example.

    name           the image's path, or the row in an array file
    label          the class's name
    probability    softmax of that class's output
    probabilities  for every class, in the order of the model's outputs
    """

    name: str
    label: str
    probability: float
    probabilities: tuple[float, ...]


def predict(
    model: nn.Module, paths: Sequence[Path], contract: InputContract, classes: Sequence[str], *, batch_size: int = 64,
    skip_unreadable: bool = False, tell: Callable[[str], None] = lambda line: None,
) -> list[Prediction]:  # fmt: skip
    """The model's answer for each image, each image in a folder, or each row of an .npz.

    paths            files and folders; the images of a folder are taken in the order of their names
    contract         how the model was trained to see images
    classes          the names of the outputs, in order
    skip_unreadable  leave out damaged images instead of refusing; `tell` is given a sentence that names them

    Raises DataError that names what is missing or unreadable.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError("There is nothing at " + ", ".join(missing) + ".")
    found, skipped = list[Prediction](), list[str]()
    files = [file for path in paths for file in _files_in(path)]
    images = [file for file in files if file.suffix.lower() != ".npz"]
    with torch.inference_mode(), progress_bar("predicting", len(files)) as advance:
        for start in range(0, len(images), batch_size):
            block = images[start : start + batch_size]
            readable = _decoded(block, contract, skipped if skip_unreadable else None)
            for _, same in groupby(readable, key=lambda pair: pair[1].shape):  # without a size, images keep their own
                names, arrays = zip(*same, strict=True)
                found += _answers(model, torch.stack(arrays), names, classes)
            advance(len(block))
        for file in files:
            if file.suffix.lower() == ".npz":
                rows = _rows(file, contract)
                for start in range(0, len(rows), batch_size):
                    block_rows = rows[start : start + batch_size]
                    of_rows = [f"{file}[{start + index}]" for index in range(len(block_rows))]
                    found += _answers(model, block_rows, of_rows, classes)
                advance(1)
    if skipped:
        tell(f"{counted(len(skipped), 'unreadable image')} skipped: {', '.join(skipped)}")
    return found


def _decoded(files: Sequence[Path], contract: InputContract, skipped: list[str] | None) -> list[tuple[str, Tensor]]:
    """(name, the model's input) for each file; those that cannot be read go to `skipped` where there is such."""
    decoded = []
    for file in files:
        try:
            decoded.append((str(file), torch.from_numpy(contract.from_file(file))))
        except DataError:
            if skipped is None:
                raise
            skipped.append(str(file))
    return decoded


def _files_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    if not files:
        raise DataError(f"{path} holds no images.")
    return files


def _rows(path: Path, contract: InputContract) -> Tensor:
    arrays = read_npz(path)
    named = [name for name in arrays if name.lower() in INPUT_NAMES]
    if len(named) != 1:
        raise DataError(f"{path}: expected one array named {' or '.join(INPUT_NAMES)}; it has {', '.join(arrays)}.")
    return inputs_from(path, arrays[named[0]], contract)


def _answers(model: nn.Module, inputs: Tensor, names: Sequence[str], classes: Sequence[str]) -> list[Prediction]:
    try:
        probabilities = model(inputs).float().softmax(dim=1)
    except RuntimeError as error:
        shape = tuple(inputs.shape[1:])
        raise DataError(f"The model cannot take examples of shape {shape}, such as {names[0]}: {error}") from error
    if probabilities.shape[1] != len(classes):
        given, named = counted(probabilities.shape[1], "output"), counted(len(classes), "class/classes", "is/are")
        raise DataError(
            f"The model gives {given}, but {named} named.\nTrain one with as many outputs as classes: model.args."
        )
    best = probabilities.argmax(dim=1).tolist()
    rows = probabilities.tolist()
    return [
        Prediction(name, classes[label], row[label], tuple(row))
        for name, label, row in zip(names, best, rows, strict=True)
    ]
