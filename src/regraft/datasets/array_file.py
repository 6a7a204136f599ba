"""Examples in arrays: .npz files and MNIST's idx files."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.datasets.labelled import Labelled, check_labels, refuse_unknown_classes
from regraft.errors import DataError
from regraft.examples import Examples
from regraft.inputs import InputContract

INPUT_NAMES = ("x", "inputs", "images", "features", "data")
LABEL_NAMES = ("y", "labels", "targets", "target")


@final
class ArrayExamples(Labelled, Examples):
    """Examples whose inputs lie in one tensor; hands out whole batches."""

    labels: Tensor

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor,
        classes: Sequence[str],
        *,
        notes: Sequence[str] = (),
        are_images: bool = False,
    ) -> None:
        self.inputs, self.labels, self.classes, self.notes = inputs, labels, tuple(classes), tuple(notes)
        self.are_images = are_images
        self.ids = tuple(str(index) for index in range(len(labels)))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.labels[index])

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (batch, …) and labels (batch,) at `indices`."""
        return self.inputs.index_select(0, indices), self.labels.index_select(0, indices)


def open_npz(path: Path, contract: InputContract, *, classes: Sequence[str] | None = None) -> ArrayExamples:
    """The examples of an .npz with inputs (x, inputs, images …) and labels (y, labels …).

    uint8 inputs (count, h, w) or (count, h, w, channels) are images under the input contract; float inputs are
    taken as they are, as float32. An array `classes` may name the label of each number.

    Raises DataError when an array is missing, the counts differ, or labels are no integers.
    """
    arrays = read_npz(path)
    inputs, labels = _named(path, arrays, INPUT_NAMES), _named(path, arrays, LABEL_NAMES)
    if len(inputs) != len(labels):
        raise DataError(f"{path}: {len(inputs)} inputs and {len(labels)} labels; each example needs one of each.")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}; expected integers of shape (n,), one class "
            "for each example.\nNumbers to predict, or several labels for an example, are trained in Python: "
            "regraft.train(head, features, loss=…)."
        )
    own = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
    return _examples(path, inputs, labels, contract, own, classes)


def open_idx(path: Path, contract: InputContract, *, classes: Sequence[str] | None = None) -> ArrayExamples:
    """The examples of MNIST's idx files: `…-images-idx3-ubyte[.gz]`, with the labels' file beside it.

    Raises DataError when the labels' file is missing or a file is damaged.
    """
    labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels_path == path or not labels_path.is_file():
        raise DataError(f"{path} has no file of labels beside it; expected {labels_path.name}.")
    inputs, labels = read_idx(path), read_idx(labels_path)
    if len(inputs) != len(labels):
        raise DataError(f"{path}: {len(inputs)} images, but {labels_path.name} holds {len(labels)} labels.")
    return _examples(path, inputs, labels, contract, None, classes)


def inputs_from(path: Path, inputs: np.ndarray, contract: InputContract) -> Tensor:
    """Model inputs from an array: uint8 is images under the contract, floats are taken as they are."""
    if inputs.dtype == np.uint8 and inputs.ndim in (3, 4):
        if inputs.ndim == 4 and inputs.shape[3] not in (1, 3, 4):
            raise DataError(
                f"{path}: inputs are bytes of shape {inputs.shape}; images are (count, height, width[, channels]).\n"
                "Put the channels last, or give float values in the form that the model takes."
            )
        rows = [contract.from_pixels(Image.fromarray(pixels.squeeze())) for pixels in inputs]
        return torch.from_numpy(np.stack(rows))
    if inputs.dtype.kind not in "fiu" or inputs.ndim == 0:
        raise DataError(f"{path}: inputs are {inputs.dtype} of shape {inputs.shape}; expected numbers in rows.")
    with np.errstate(over="ignore"):
        values = inputs.astype(np.float32)
    if np.isfinite(values).sum() < np.isfinite(inputs).sum():
        raise DataError(f"{path}: inputs hold values beyond those of float32, up to {np.nanmax(np.abs(inputs)):.3g}.")
    return torch.from_numpy(values)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz. Raises DataError when it is damaged or holds Python objects."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for damaged files
        raise DataError(f"{path} cannot be read as an .npz of arrays: {error}") from error


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file, gzipped or not. Raises DataError when it is damaged. Format: yann.lecun.com/mnist."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    shape = _idx_shape(raw)
    if not shape or len(raw) - 4 - 4 * len(shape) != int(np.prod(shape)):
        raise DataError(f"{path} is no idx file of bytes, or it is truncated.")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _idx_shape(raw: bytes) -> list[int]:
    """The shape in the head of an idx file of bytes; () where there is none."""
    rank = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    return np.frombuffer(raw, ">u4", count=rank, offset=4).tolist() if rank and len(raw) >= 4 + 4 * rank else []


def _examples(
    path: Path,
    inputs: np.ndarray,
    labels: np.ndarray,
    contract: InputContract,
    own: Sequence[str] | None,
    known: Sequence[str] | None,
) -> ArrayExamples:
    """
    own    the classes that the file names, in the order of its labels
    known  the training data's
    """
    values = torch.from_numpy(labels.astype(np.int64))
    names = own or (known if known is not None else _numbers(_count(labels)))
    check_labels(values, len(names), where=str(path), several=known is None)
    if known is not None:
        values = _of_known_classes(path, values, own, known)
    are_images = inputs.dtype == np.uint8 and inputs.ndim in (3, 4)
    classes = known if known is not None else names
    return ArrayExamples(inputs_from(path, inputs, contract), values, classes, are_images=are_images)


def _count(labels: np.ndarray) -> int:
    return int(labels.max()) + 1 if len(labels) else 0


def _named(path: Path, arrays: dict[str, np.ndarray], wanted: Sequence[str]) -> np.ndarray:
    matches = [name for name in arrays if name.lower() in wanted]
    if len(matches) != 1:
        raise DataError(
            f"{path} has {len(matches)} arrays named {' or '.join(wanted)}; expected one. Arrays: {', '.join(arrays)}."
        )
    return arrays[matches[0]]


def _of_known_classes(path: Path, labels: Tensor, own: Sequence[str] | None, known: Sequence[str]) -> Tensor:
    """The labels as numbers of the training data's classes. Raises DataError when these are not known by number."""
    if own is not None:
        refuse_unknown_classes(own, known, prefix=f"{path}: ")
        return torch.tensor([known.index(name) for name in own])[labels]
    if list(known) != _numbers(len(known)):
        raise DataError(
            f"{path}: the labels are numbers, and the training data's classes have names: {', '.join(known[:5])}.\n"
            "Add an array `classes` with the name of each label."
        )
    return labels


def _numbers(count: int) -> list[str]:
    return [str(label) for label in range(count)]
