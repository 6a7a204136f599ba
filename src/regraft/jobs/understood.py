"""What a job understood of its data, in words, and whether the model fits them: before anything is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.datasets.duplicates import shared_examples
from regraft.datasets.labelled import Labelled
from regraft.errors import DataError
from regraft.examples import call
from regraft.foundation.wording import counted, listed, shape_text
from regraft.learning.losses import find_logits
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import tensors_of


def understood(parts: Mapping[str, Labelled], inputs: tuple[Any, ...]) -> str:
    """The parts with their classes and counts, and a sample of the inputs after their preparation.

    inputs  the first examples, as the model takes them
    """
    lines = [f"{part:<10} {_counts_of(dataset)}" for part, dataset in parts.items()]
    return "\n".join([*lines, f"inputs     {'; '.join(map(_sample_of, tensors_of(inputs)))}"])


def shared_notes(parts: Mapping[str, Labelled]) -> list[str]:
    """A sentence for each part that shares examples with the training data: its score counts them."""
    notes = []
    for part, dataset in parts.items():
        if part != "train" and (names := shared_examples(parts["train"], dataset)):
            notes.append(
                f"{part}: {counted(len(names), 'example', 'is/are')} byte for byte among the training examples, and "
                f"{'counts' if len(names) == 1 else 'count'} in its score: {listed(names)}"
            )
    return notes


def refuse_misfit(model: nn.Module, inputs: tuple[Any, ...], classes: Sequence[str]) -> None:
    """Raise DataError when the model cannot take the inputs, or does not give one output for each class."""
    shapes = " and ".join(f"({shape_text(tensor.shape[1:])})" for tensor in tensors_of(inputs))
    try:
        with undisturbed(model, is_training=False), torch.inference_mode():
            outputs = call(model, inputs)
    except Exception as error:  # whatever the user's forward raises
        raise DataError(
            f"The model fails on the first training examples, of shape {shapes}: {type(error).__name__}: {error}\n"
            "Give it examples that it takes: see [input] in the job."
        ) from error
    logits = find_logits(outputs)
    if logits is None or logits.ndim != 2:
        given = type(outputs).__name__ if logits is None else f"outputs of shape ({shape_text(logits.shape[1:])})"
        raise DataError(f"The model gives {given} for an example; a job trains models with one output for each class.")
    if logits.shape[1] != len(classes):
        names = listed(classes)
        raise DataError(
            f"The model has {counted(logits.shape[1], 'output')}, and the training data have "
            f"{counted(len(classes), 'class/classes')}: {names}.\n"
            f"Give the model one output for each class, as in [model] args = {{num_classes = {len(classes)}}}."
        )


def _counts_of(dataset: Labelled) -> str:
    """ "720 examples of 10 classes: bag 72, boot 71 …"."""
    counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    each = [f"{name} {count:,}" for name, count in zip(dataset.classes, counts, strict=True)]
    return f"{counted(len(dataset), 'example')} of {counted(len(each), 'class/classes')}: {listed(each)}"


def _sample_of(inputs: Tensor) -> str:
    """ "3 × 224 × 224, values from -1 to 1, mean 0.03 (first 2 training examples)"."""
    values = inputs.double()
    numbers = f"values from {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
    return f"{shape_text(inputs.shape[1:])}, {numbers} (first {counted(len(inputs), 'training example')})"
