"""Examples in arrays: .npz files and MNIST's idx files."""

import gzip
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_labels import labels_from
from regraft.datasets.labelled import UNDECIDED, Labelled, Target
from regraft.errors import DataError
from regraft.examples import Examples
from regraft.foundation.wording import bytes_text
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
        target: Target,
        *,
        preparation: Preparation = Preparation(),  # noqa: B008  # frozen
        are_images: bool = False,
    ) -> None:
        self.inputs, self.labels, self.target = inputs, labels, target
        self.classes, self.preparation, self.are_images = target.classes or (), preparation, are_images
        self.ids = tuple(str(index) for index in range(len(labels)))

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        label = self.labels[index]
        return self.inputs[index], int(label) if self.target.task == "classification" else label

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (batch, …) and labels (batch, …) at `indices`."""
        return self.inputs.index_select(0, indices), self.labels.index_select(0, indices)


def open_npz(path: Path, preparation: Preparation, *, target: Target = UNDECIDED) -> ArrayExamples:
    """The examples of an .npz with inputs (x, inputs, images …) and labels (y, labels …).

    uint8 inputs (count, h, w) or (count, h, w, channels) are images under the input contract; float inputs are
    taken as they are, as float32, and so are whole numbers where a tokenizer or `target` makes them tokens. An array
    `classes` may name the label of each number.

    Labels are whole numbers (count,) for classes, 0 and 1 in rows (count, labels) where several may apply, floats for
    numbers to predict, and whole numbers (count, tokens) or (count, height, width) for a class at each position.

    Raises DataError when an array is missing, the counts differ, or the labels do not fit the task.
    """
    arrays = read_npz(path)
    inputs, labels = _named(path, arrays, INPUT_NAMES), _named(path, arrays, LABEL_NAMES)
    if len(inputs) != len(labels):
        raise DataError(f"{path}: {len(inputs)} inputs and {len(labels)} labels; each example needs one of each.")
    own = tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else None
    return _examples(path, inputs, labels, preparation, own, target)


def open_idx(path: Path, preparation: Preparation, *, target: Target = UNDECIDED) -> ArrayExamples:
    """The examples of MNIST's idx files: `…-images-idx3-ubyte[.gz]`, with the labels' file beside it.

    Raises DataError when the labels' file is missing or a file is damaged.
    """
    labels_path = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels_path == path or not labels_path.is_file():
        raise DataError(f"{path} has no file of labels beside it; expected {labels_path.name}.")
    inputs, labels = read_idx(path), read_idx(labels_path)
    if len(inputs) != len(labels):
        raise DataError(f"{path}: {len(inputs)} images, but {labels_path.name} holds {len(labels)} labels.")
    return _examples(path, inputs, labels, preparation, None, target)


def _images_from(path: Path, pixels: np.ndarray, contract: InputContract) -> Tensor:
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3, 4):
        raise DataError(
            f"{path}: inputs are bytes of shape {pixels.shape}; images are (count, height, width[, channels]).\n"
            "Put the channels last, or give float values in the form that the model takes."
        )
    return torch.from_numpy(np.stack([contract.from_pixels(Image.fromarray(image.squeeze())) for image in pixels]))


def inputs_from(path: Path, inputs: np.ndarray, preparation: Preparation, target: Target) -> Tensor:
    """Model inputs from an array: uint8 is images under the contract, floats are taken as they are.

    Whole numbers are tokens where each token has a class, and floats for any other task.
    """
    if target.task == "token-classification" and inputs.dtype.kind in "iu":
        return torch.from_numpy(inputs.astype(np.int64))
    if inputs.dtype == np.uint8 and inputs.ndim in (3, 4):
        return _images_from(path, inputs, preparation.image or InputContract())
    if inputs.dtype.kind not in "fiu" or inputs.ndim == 0:
        raise DataError(f"{path}: inputs are {inputs.dtype} of shape {inputs.shape}; expected numbers in rows.")
    with np.errstate(over="ignore"):
        values = inputs.astype(np.float32)
    if np.isfinite(values).sum() < np.isfinite(inputs).sum():
        raise DataError(f"{path}: inputs hold values beyond those of float32, up to {np.nanmax(np.abs(inputs)):.3g}.")
    return torch.from_numpy(values)


_IDX_HEAD = 4 + 4 * 255  # bytes of the longest head
_HARMLESS_BYTES, _LARGEST_RATIO = 64 << 20, 200


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
        raw = _unpacked_idx(path) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    shape = _idx_shape(raw)
    if not shape or len(raw) - 4 - 4 * len(shape) != int(np.prod(shape)):
        raise DataError(f"{path} is no idx file of bytes, or it is truncated.")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _unpacked_idx(path: Path) -> bytes:
    """The head, and as many bytes behind it as it announces and one more. Raises DataError for more than can be meant.

    A few kilobytes of gzip can hold gigabytes of zeros.
    """
    with gzip.open(path) as file:
        head = file.read(_IDX_HEAD)
        size = 4 + 4 * head[3] + prod(_idx_shape(head)) if len(head) > 3 else 0
        packed = path.stat().st_size
        if size > max(_HARMLESS_BYTES, _LARGEST_RATIO * packed):
            raise DataError(
                f"{path} announces {bytes_text(size)} in a file of {bytes_text(packed)}; it is damaged, or not images. "
                "Unpack it first if it is right."
            )
        return head + file.read(max(0, size + 1 - len(head)))


def _idx_shape(raw: bytes) -> list[int]:
    """The shape in the head of an idx file of bytes; () where there is none."""
    rank = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    return np.frombuffer(raw, ">u4", count=rank, offset=4).tolist() if rank and len(raw) >= 4 + 4 * rank else []


def _examples(
    path: Path,
    inputs: np.ndarray,
    labels: np.ndarray,
    preparation: Preparation,
    own: tuple[str, ...] | None,
    target: Target,
) -> ArrayExamples:
    """
    own     the classes that the file names, in the order of its labels
    target  with the training data's classes, for further data
    """
    values, target = labels_from(path, labels, own, target)
    are_images = inputs.dtype == np.uint8 and inputs.ndim in (3, 4)
    made = inputs_from(path, inputs, preparation, target)
    return ArrayExamples(made, values, target, preparation=preparation, are_images=are_images)


def _named(path: Path, arrays: dict[str, np.ndarray], wanted: Sequence[str]) -> np.ndarray:
    matches = [name for name in arrays if name.lower() in wanted]
    if len(matches) != 1:
        raise DataError(
            f"{path} has {len(matches)} arrays named {' or '.join(wanted)}; expected one. Arrays: {', '.join(arrays)}."
        )
    return arrays[matches[0]]
