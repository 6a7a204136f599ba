"""Makes answers of a model's outputs, task by task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from regraft.answers.answers import Answer, Labels, Mask, NextToken, Numbers, Parts, Prediction, Tags
from regraft.answers.unlabelled import Unlabelled
from regraft.contracts.preparation import Preparation
from regraft.contracts.text import TextEncoder
from regraft.datasets.labelled import Target
from regraft.datasets.masks import WITHOUT_CLASS
from regraft.errors import DataError
from regraft.foundation.wording import counted
from regraft.inputs import unfit
from regraft.tasks.kinds import TASKS
from regraft.tasks.outputs import find_logits, find_output
from regraft.tensors.trees import Inputs, tensors_of

YES = 0.5  # the probability from which a label applies


@dataclass
class Reader:
    """Reads a model's outputs as the task and the names of a saved model say.

    masks  the folder of the masks that are written; None: masks are refused
    """

    target: Target
    preparation: Preparation
    masks: Path | None = None

    def answers(self, outputs: object, inputs: Inputs, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
        """The answer for each of these examples. Raises DataError for outputs that do not fit task and names.

        inputs  of the examples: a model may give masks of fewer pixels than its images
        """
        if self.target.parts:
            return self._parts(outputs, inputs, examples, indices)
        names = [examples.names[index] for index in indices]
        logits = _finite_logits(outputs, names)
        task = self.target.task or "classification"
        assert task != "several", "it has parts"
        if logits.ndim < 2 and task not in ("regression", "multilabel"):
            raise _no_scores(logits, len(names))
        for image in (tensor for tensor in tensors_of(inputs) if tensor.ndim == 4):
            logits = TASKS[task].fitted(logits, image[:, 0])
        probabilities = TASKS[task].probabilities(logits).float()
        return MAKERS[task](self, probabilities, examples, indices)

    def _parts(self, outputs: object, inputs: Inputs, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
        """The answers of several tasks, each by a reader of its own."""
        answers: dict[str, list[Answer]] = {}
        for part in self.target.parts:
            output = find_output(outputs, name := part.columns[0])
            if output is None:
                raise DataError(f"The model gives a {type(outputs).__name__} without an output {name!r}.")
            answers[name] = Reader(part, self.preparation).answers(output, inputs, examples, indices)
        rows = zip(*answers.values(), strict=True)
        return [Parts(row[0].name, dict(zip(answers, row, strict=True))) for row in rows]

    @cached_property
    def encoder(self) -> TextEncoder:
        """The tokenizer of a model of texts."""
        assert self.preparation.text is not None
        return TextEncoder(self.preparation.text)

    def names_for(self, probabilities: Tensor, axis: int = 1) -> tuple[str, ...]:
        """The names of the classes or labels. Raises DataError where the model has another number of outputs."""
        count = probabilities.shape[axis] if probabilities.ndim > 1 else 1
        names = self.target.classes or ()
        if count != len(names):
            given, named = counted(count, "output"), counted(len(names), "class/classes", "is/are")
            raise DataError(
                f"The model gives {given}, but {named} named.\nTrain one with as many outputs as classes: model.args."
            )
        return names


def _finite_logits(outputs: object, names: Sequence[str]) -> Tensor:
    """The logits, a row for each example. Raises DataError where they have other rows, or NaN or infinity in one."""
    logits = find_logits(outputs)
    if logits is None or logits.ndim < 1 or len(logits) != len(names):
        given = type(outputs).__name__ if logits is None else f"a tensor of shape {tuple(logits.shape)}"
        raise DataError(
            f"The model gives {given} for {counted(len(names), 'example')}; expected one row of outputs for each."
        )
    is_finite = logits.isfinite()
    if not is_finite.all():
        bad = names[int((~is_finite).reshape(len(names), -1).any(1).nonzero()[0])]
        raise DataError(f"The model's outputs for {bad} are not finite. Does the example hold NaN or infinity?")
    return logits


def _class(reader: Reader, probabilities: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    if probabilities.ndim != 2:
        raise _no_scores(probabilities, len(indices))
    names = reader.names_for(probabilities)
    best, rows = probabilities.argmax(dim=1).tolist(), probabilities.tolist()
    return [
        Prediction(examples.names[index], names[label], row[label], tuple(row), names)
        for index, label, row in zip(indices, best, rows, strict=True)
    ]


def _labels(reader: Reader, probabilities: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    names = reader.names_for(probabilities)
    rows = [dict(zip(names, row, strict=True)) for row in probabilities.reshape(len(indices), -1).tolist()]
    return [
        Labels(examples.names[index], tuple(name for name in names if row[name] >= YES), row)
        for index, row in zip(indices, rows, strict=True)
    ]


def _numbers(reader: Reader, values: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    rows = values.reshape(len(indices), -1).tolist()
    count = len(rows[0])
    names = reader.target.columns or (("value",) if count == 1 else tuple(f"value{index}" for index in range(count)))
    if len(names) != count:
        raise DataError(
            f"The model gives {counted(count, 'number')}, and {counted(len(names), 'column')} are recorded."
        )
    return [
        Numbers(examples.names[index], dict(zip(names, row, strict=True)))
        for index, row in zip(indices, rows, strict=True)
    ]


def _tags(reader: Reader, probabilities: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    names = reader.names_for(probabilities, axis=-1)
    best = probabilities.max(-1)
    answers: list[Answer] = []
    for row, index in enumerate(indices):
        tokens = range(probabilities.shape[1])
        word_of = examples.word_of[index] if examples.word_of else tokens
        words = examples.words[index] if examples.words else [str(token) for token in tokens]
        first = {word: token for token, word in reversed(list(enumerate(word_of))) if word is not None}
        at = torch.tensor([first[word] for word in range(len(words))])
        tags = tuple(names[tag] for tag in best.indices[row, at].tolist())
        answers.append(Tags(examples.names[index], tuple(words), tags, tuple(best.values[row, at].tolist())))
    return answers


def _masks(reader: Reader, probabilities: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    names = reader.names_for(probabilities)
    if reader.masks is None:
        raise DataError("The answers are masks. Give a folder for them: regraft predict RUN FILES --masks FOLDER.")
    values = np.asarray(reader.target.mask_values or range(len(names)))
    return [
        _written(reader, examples, index, names, values[classes.numpy()])
        for index, classes in zip(indices, probabilities.argmax(1), strict=True)
    ]


def _written(reader: Reader, examples: Unlabelled, index: int, names: Sequence[str], mask: np.ndarray) -> Mask:
    """Write a mask with the pixel values of the training masks, in the size of its image where there is a file."""
    assert reader.masks is not None
    values = reader.target.mask_values or tuple(range(len(names)))
    picture = Image.fromarray(mask.astype(np.int32))
    if examples.files and reader.preparation.image is not None:
        with Image.open(examples.files[index]) as image:
            size = ImageOps.exif_transpose(image).size
        picture = unfit(picture, size, reader.preparation.image, border=WITHOUT_CLASS)
    pixels = np.asarray(picture)
    name = examples.names[index]
    path = reader.masks / f"{Path(name).stem}.png"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{Path(name).stem}-{number}.png")
    reader.masks.mkdir(parents=True, exist_ok=True)
    is_wide = int(pixels.max()) > WITHOUT_CLASS
    Image.fromarray(pixels.astype(np.uint16 if is_wide else np.uint8)).save(path)
    shares = {label: float((pixels == value).mean()) for label, value in zip(names, values, strict=True)}
    return Mask(name, str(path), shares)


def _next(reader: Reader, probabilities: Tensor, examples: Unlabelled, indices: Sequence[int]) -> list[Answer]:
    best = probabilities[:, -1].max(-1)
    tokens = [reader.encoder.tokenizer.decode([token]) for token in best.indices.tolist()]
    return [
        NextToken(examples.names[index], token, probability)
        for index, token, probability in zip(indices, tokens, best.values.tolist(), strict=True)
    ]


def _no_scores(outputs: Tensor, count: int) -> DataError:
    given = f"a tensor of shape {tuple(outputs.shape)} for {counted(count, 'example')}"
    return DataError(f"The model gives {given}; expected one row of class scores for each.")


MAKERS: dict[str, Callable[[Reader, Tensor, Unlabelled, Sequence[int]], list[Answer]]] = {
    "classification": _class,
    "multilabel": _labels,
    "regression": _numbers,
    "token-classification": _tags,
    "segmentation": _masks,
    "language-model": _next,
}
