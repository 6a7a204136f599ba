"""Predicts classes for new examples with a trained model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from regraft.datasets.array_file import INPUT_NAMES, inputs_from, read_npz
from regraft.errors import DataError
from regraft.inputs import InputContract
from regraft.progress import progress_bar
from regraft.wording import counted

LISTED = 20  # names of files that a note lists
Tell = Callable[[str], None]


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
    model: nn.Module,
    paths: Sequence[Path],
    contract: InputContract | None,
    classes: Sequence[str],
    *,
    batch_size: int = 64,
    skip_unreadable: bool = False,
    tell: Tell = lambda line: None,
) -> list[Prediction]:
    """The model's answer for each image, each image in a folder, or each row of an .npz: first images, then arrays.

    paths            files and folders; the images of a folder are taken in the order of their names
    contract         how the model was trained to see images; None answers arrays of numbers only
    classes          the names of the outputs, in order
    skip_unreadable  leave out damaged images instead of refusing
    tell             is given a sentence that names the files that were left out

    Raises DataError that names what is missing or unreadable, and for images without a contract.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError("These files do not exist: " + ", ".join(missing) + ".")
    files = [file for path in paths for file in _files_in(path, tell)]
    arrays = [file for file in files if file.suffix.lower() == ".npz"]
    images = [file for file in files if file not in set(arrays)]
    skipped: list[str] | None = [] if skip_unreadable else None
    answers: list[Prediction] = []
    with torch.inference_mode(), progress_bar("predicting", len(files)) as advance:
        for start in range(0, len(images), batch_size):
            block = images[start : start + batch_size]
            for names, inputs in _image_batches(block, contract, skipped):
                answers += _answers(model, inputs, names, classes)
            advance(len(block))
        for file in arrays:
            for names, inputs in _row_batches(file, contract, batch_size):
                answers += _answers(model, inputs, names, classes)
            advance()
    if skipped:
        tell(f"{counted(len(skipped), 'unreadable image')} skipped: {', '.join(skipped)}")
    return answers


def _files_in(path: Path, tell: Tell) -> list[Path]:
    """The file, or a folder's images; its other files are named."""
    if not path.is_dir():
        return [path]
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in suffixes]
    if not images:
        raise DataError(f"{path} holds no images.")
    others = [str(file) for file in files if file.suffix.lower() not in suffixes]
    if others:
        more = f", … ({len(others) - LISTED:,} more)" if len(others) > LISTED else ""
        tell(f"{counted(len(others), 'file')} left out, not images by their suffix: {', '.join(others[:LISTED])}{more}")
    return images


def _image_batches(
    files: Sequence[Path], contract: InputContract | None, skipped: list[str] | None
) -> Iterator[tuple[list[str], Tensor]]:
    """Names and inputs of the images, those of one shape together: without a size, images keep their own.

    skipped   takes the names of images that cannot be read; None refuses them
    """
    if contract is None:
        raise DataError(_without_contract(files[0]))
    readable = []
    for file in files:
        try:
            readable.append((str(file), torch.from_numpy(contract.from_file(file))))
        except DataError:
            if skipped is None:
                raise
            skipped.append(str(file))
    for _, alike in groupby(readable, key=lambda pair: pair[1].shape):
        names, inputs = zip(*alike, strict=True)
        yield list(names), torch.stack(inputs)


def _row_batches(path: Path, contract: InputContract | None, size: int) -> Iterator[tuple[list[str], Tensor]]:
    """Names and inputs of an array file's rows."""
    arrays = read_npz(path)
    named = [name for name in arrays if name.lower() in INPUT_NAMES]
    if len(named) != 1:
        raise DataError(f"{path}: expected one array named {' or '.join(INPUT_NAMES)}; it has {', '.join(arrays)}.")
    if contract is None and arrays[named[0]].dtype == "uint8":
        raise DataError(_without_contract(path))
    rows = inputs_from(path, arrays[named[0]], contract or InputContract())
    for start in range(0, len(rows), size):
        inputs = rows[start : start + size]
        yield [f"{path}[{start + index}]" for index in range(len(inputs))], inputs


def _without_contract(path: Path) -> str:
    return (
        f"The model was saved without an input contract, so images such as {path} cannot be prepared as in training.\n"
        "Save it with inputs=InputContract(…), or give the rows as the model takes them, as numbers in an .npz."
    )


def _answers(model: nn.Module, inputs: Tensor, names: Sequence[str], classes: Sequence[str]) -> list[Prediction]:
    try:
        outputs = model(inputs)
    except RuntimeError as error:
        shape = tuple(inputs.shape[1:])
        raise DataError(f"The model cannot take examples of shape {shape}, such as {names[0]}: {error}") from error
    if not isinstance(outputs, Tensor) or outputs.shape[:-1] != (len(names),):
        given = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"The model gives {given} for {counted(len(names), 'example')}; expected one row of class scores for each."
        )
    if outputs.shape[1] != len(classes):
        given, named = counted(outputs.shape[1], "output"), counted(len(classes), "class/classes", "is/are")
        raise DataError(
            f"The model gives {given}, but {named} named.\nTrain one with as many outputs as classes: model.args."
        )
    probabilities = outputs.float().softmax(dim=1)
    best = probabilities.argmax(dim=1).tolist()
    rows = probabilities.tolist()
    return [
        Prediction(name, classes[label], row[label], tuple(row))
        for name, label, row in zip(names, best, rows, strict=True)
    ]
