"""Answers for new examples by a trained model, in the form of its task."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from regraft.answers.answering import Reader
from regraft.answers.answers import Answer, Prediction
from regraft.answers.unlabelled import Tell, Unlabelled, batches_of, open_inputs
from regraft.contracts.preparation import Preparation
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.examples import call
from regraft.foundation.progress import progress_bar
from regraft.foundation.wording import counted, listed
from regraft.tensors.trees import Inputs, tensors_of

__all__ = ["Answer", "Prediction", "predict"]


def predict(
    model: nn.Module,
    paths: Sequence[Path],
    preparation: Preparation,
    target: Target,
    *,
    batch_size: int = 64,
    skip_unreadable: bool = False,
    masks: Path | None = None,
    tell: Tell = lambda line: None,
) -> list[Answer]:
    """The model's answer for each file, each file of its kind in a folder, each row of a table or of an .npz.

    paths            files and folders: first files with one example each, then tables, texts (a line is an example) and
                     arrays
    preparation      how the inputs are prepared; one without any kind answers arrays of numbers only
    target           the task, and the names of classes or columns
    skip_unreadable  leave out damaged files instead of refusing
    masks            the folder for the masks of a model for segmentation; files there are never replaced
    tell             is given a sentence that names the files that were left out

    No answer depends on which other examples there are: examples of other sizes are never padded.

    Raises DataError that names what is missing or unreadable, and for inputs that the model has no preparation for.
    """
    groups = open_inputs(paths, preparation, target, tell)
    skipped: list[str] | None = [] if skip_unreadable else None
    reader = Reader(target, preparation, masks)
    answers: list[Answer] = []
    with torch.inference_mode(), progress_bar("predicting", sum(map(len, groups))) as advance:
        for examples in groups:
            answers += _answers(model, examples, reader, batch_size, skipped, advance)
    if skipped:
        noun = next((kind for kind in ("sound", "image") if kind in preparation.kinds), "file")
        tell(f"{counted(len(skipped), f'unreadable {noun}')} skipped: {listed(skipped)}")
    return answers


def _answers(
    model: nn.Module,
    examples: Unlabelled,
    reader: Reader,
    size: int,
    skipped: list[str] | None,
    advance: Callable[..., None],
) -> list[Answer]:
    """The answers in the order of the examples."""
    by_index: dict[int, Answer] = {}
    for indices, inputs in batches_of(examples, size, skipped):
        outputs = _outputs(model, inputs, examples.names[indices[0]])
        by_index |= dict(zip(indices, reader.answers(outputs, inputs, examples, indices), strict=True))
        advance(len(indices))
    return [by_index[index] for index in sorted(by_index)]


def _outputs(model: nn.Module, inputs: Inputs, name: str) -> object:
    try:
        return call(model, inputs)
    except RuntimeError as error:
        shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in tensors_of(inputs))
        raise DataError(f"The model cannot take examples of shape {shapes}, such as {name}: {error}") from error
