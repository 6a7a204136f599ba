"""Predicts classes for new examples with a trained model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from regraft.datasets.array_file import INPUT_NAMES, inputs_from, read_npz
from regraft.errors import DataError
from regraft.foundation.progress import progress_bar
from regraft.foundation.wording import counted, listed
from regraft.inputs import InputContract, is_image

Tell = Callable[[str], None]
Batch = tuple[Sequence[str], Tensor]  # names, inputs


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
    images, arrays = _files_of(paths, tell)
    skipped: list[str] | None = [] if skip_unreadable else None
    answers: list[Prediction] = []
    with torch.inference_mode(), progress_bar("predicting", len(images) + len(arrays)) as advance:
        for names, inputs in chain(
            _image_batches(images, contract, batch_size, skipped, advance),
            (batch for file in arrays for batch in _row_batches(file, contract, batch_size, advance)),
        ):
            answers += _answers(model, inputs, names, classes)
    if skipped:
        tell(f"{counted(len(skipped), 'unreadable image')} skipped: {', '.join(skipped)}")
    return answers


def _files_of(paths: Sequence[Path], tell: Tell) -> tuple[list[Path], list[Path]]:
    """The images and the array files. Raises DataError with every path that does not exist."""
    _refuse("do not exist", [path for path in paths if not path.exists()])
    _refuse("are neither files nor folders", [path for path in paths if not path.is_file() and not path.is_dir()])
    files = [file for path in paths for file in (_images_in(path, tell) if path.is_dir() else [path])]
    arrays = [file for file in files if file.suffix.lower() == ".npz"]
    return [file for file in files if file not in arrays], arrays


def _refuse(fault: str, paths: Sequence[Path]) -> None:
    if paths:
        raise DataError(f"These files {fault}: {', '.join(map(str, paths))}.")


def _images_in(folder: Path, tell: Tell) -> list[Path]:
    """A folder's images, at any depth; its other files are named."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    images = list(filter(is_image, files))
    if not images:
        raise DataError(f"{folder} holds no images.")
    others = [str(file) for file in files if not is_image(file)]
    if others:
        tell(f"{counted(len(others), 'file')} left out, not images by their suffix: {listed(others)}")
    return images


def _image_batches(
    files: Sequence[Path],
    contract: InputContract | None,
    size: int,
    skipped: list[str] | None,
    advance: Callable[..., None],
) -> Iterator[Batch]:
    """Names and inputs of the images, those of one shape together: without a size, images keep their own.

    skipped   takes the names of images that cannot be read; None refuses them
    """
    if files and contract is None:
        raise DataError(_without_contract(files[0]))
    for start in range(0, len(files), size):
        block = files[start : start + size]
        readable = [(str(file), inputs) for file in block if (inputs := _decoded(file, contract, skipped)) is not None]
        for _, alike in groupby(readable, key=lambda pair: pair[1].shape):
            names, arrays = zip(*alike, strict=True)
            yield names, torch.stack(arrays)
        advance(len(block))


def _decoded(file: Path, contract: InputContract | None, skipped: list[str] | None) -> Tensor | None:
    """The model's input for the image; None for one that cannot be read and is skipped."""
    assert contract is not None
    try:
        return torch.from_numpy(contract.from_file(file))
    except DataError:
        if skipped is None:
            raise
        skipped.append(str(file))
        return None


def _row_batches(
    path: Path, contract: InputContract | None, size: int, advance: Callable[..., None]
) -> Iterator[Batch]:
    """Names and inputs of an array file's rows."""
    rows = _rows_of(path, contract)
    for start in range(0, len(rows), size):
        inputs = rows[start : start + size]
        yield [f"{path}[{start + index}]" for index in range(len(inputs))], inputs
    advance()


def _rows_of(path: Path, contract: InputContract | None) -> Tensor:
    arrays = read_npz(path)
    named = [name for name in arrays if name.lower() in INPUT_NAMES]
    if len(named) != 1:
        raise DataError(f"{path}: expected one array named {' or '.join(INPUT_NAMES)}; it has {', '.join(arrays)}.")
    if contract is None and arrays[named[0]].dtype == "uint8":
        raise DataError(_without_contract(path))
    return inputs_from(path, arrays[named[0]], contract or InputContract())


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
    if not probabilities.isfinite().all():
        name = names[int((~probabilities.isfinite()).any(dim=1).nonzero()[0])]
        raise DataError(f"The model's outputs for {name} are not finite. Does the example hold NaN or infinity?")
    best = probabilities.argmax(dim=1).tolist()
    rows = probabilities.tolist()
    return [
        Prediction(name, classes[label], row[label], tuple(row))
        for name, label, row in zip(names, best, rows, strict=True)
    ]
