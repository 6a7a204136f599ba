"""What a job understood of its data, in words, and whether the model fits them: before anything is trained."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from regraft.datasets.duplicates import shared_examples
from regraft.datasets.labelled import Labelled, Target
from regraft.errors import Advice, DataError
from regraft.examples import call
from regraft.foundation.wording import counted, listed, shape_text
from regraft.learning.request import Request
from regraft.tasks.classes import Classes
from regraft.tasks.kinds import as_task
from regraft.tasks.outputs import find_logits, find_output
from regraft.tasks.regression import Regression
from regraft.tasks.several import Several
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import Inputs, tensors_of


def understood(parts: Mapping[str, Labelled], inputs: Inputs) -> str:
    """The task, the parts with their labels, and a sample of the inputs after their preparation.

    inputs  the first examples, as the model takes them
    """
    lines = [f"{part:<10} {_counts_of(dataset)}" for part, dataset in parts.items()]
    named = inputs.items() if isinstance(inputs, dict) else [("", tensor) for tensor in tensors_of(inputs)]
    samples = [f"{name} {_sample_of(tensor)}".strip() for name, tensor in named]
    return "\n".join([f"task       {_task_text(parts['train'].target)}", *lines, f"inputs     {'; '.join(samples)}"])


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


def refuse_misfit(model: nn.Module, inputs: Inputs, labels: object, dataset: Labelled, request: Request) -> None:
    """Raise DataError when the model cannot take the inputs, or its outputs do not fit the task and the labels.

    inputs, labels  a batch of the first examples
    request         whose loss, weights and metrics have to fit as well, else TrainError
    """
    shapes = " and ".join(f"({shape_text(tensor.shape[1:])})" for tensor in tensors_of(inputs))
    try:
        with undisturbed(model, is_training=False), torch.inference_mode():
            outputs = call(model, inputs)
    except Exception as error:  # whatever the user's forward raises
        names = ", ".join(signature(model.forward).parameters)
        named = (
            f" They are passed as {listed(list(inputs))}; forward takes {names}." if isinstance(inputs, dict) else ""
        )
        raise DataError(
            f"The model fails on the first training examples, of shape {shapes}: {type(error).__name__}: {error}\n"
            f"Give it examples that it takes: see [input] in the job.{named}"
        ) from error
    target = dataset.target
    assert target.given_task is not None, "known of every opened data set"
    task = as_task(target.given_task)
    for part, output in _outputs_by_part(outputs, target):
        _refuse_other_count(part, output, dataset)
    task.check(outputs, labels).look(labels)
    request.objective(outputs, labels, every=dataset.labels, model=model)


def _outputs_by_part(outputs: object, target: Target) -> list[tuple[Target, Tensor]]:
    """What each output is. Raises DataError where the model has none for a part."""
    if target.parts:
        logits = [find_output(outputs, part.columns[0]) for part in target.parts]
    else:
        logits = [find_logits(outputs)]
    pairs = zip(target.parts or (target,), logits, strict=True)
    by_part = [(part, output) for part, output in pairs if output is not None]
    if target.parts and len(by_part) < len(target.parts):
        names = listed([part.columns[0] for part in target.parts])
        raise DataError(
            f"The model gives a {type(outputs).__name__} for a batch, and the labels are {names}: return a dictionary "
            "with an output for each of these names."
        )
    if not by_part or any(output.ndim < 1 for _, output in by_part):
        given = "a single number" if by_part else type(outputs).__name__
        raise DataError(f"The model gives {given} for a batch; a job trains models with outputs for each example.")
    return by_part


def _refuse_other_shape(task: Classes, logits: Tensor) -> None:
    if logits.ndim < 2 or (task.name == "classification" and logits.ndim != 2):
        raise DataError(
            f"The model gives outputs of shape ({shape_text(logits.shape[1:])}) for an example; {task.name} needs one "
            "for each class."
        )


def _refuse_other_count(target: Target, logits: Tensor, dataset: Labelled) -> None:
    """Raise DataError when the outputs are not as many as the classes, labels or numbers of the data."""
    task = as_task(target.given_task or "classification")
    if isinstance(task, Several) or target.task == "language-model":  # a vocabulary has no names here
        return
    if isinstance(task, Classes):
        _refuse_other_shape(task, logits)
    count = task.size(logits)
    noun, names = "class/classes" if isinstance(task, Classes) else "label", target.classes or ()
    if isinstance(task, Regression):
        noun, names = "number", target.columns or tuple(map(str, range(_columns_of(dataset))))
    if count != len(names):
        key = "num_labels" if dataset.preparation.text is not None else "num_classes"
        raise DataError(
            f"The model has {counted(count, 'output')}, and the training data have {counted(len(names), noun)}: "
            f"{listed(names)}.\nGive the model one output for each {noun.partition('/')[0]}, as in [model] args = "
            f"{{{key} = {len(names)}}}.",
            advice=_of_one_output(target, dataset.target) if count == 1 else [],
        )


def _of_one_output(part: Target, whole: Target) -> list[Advice]:
    """What one output can learn from the labels of a part, or of all."""

    def task(name: str) -> Any:
        return {other.columns[0]: name if other is part else other.task for other in whole.parts} or name

    advice = [Advice("task", task("regression"), "predict the labels as numbers")]
    if part.classes == ("0", "1"):
        advice.insert(0, Advice("task", task("multilabel"), "learn yes or no"))
    return advice


def _columns_of(dataset: Labelled) -> int:
    labels = dataset.labels
    return labels.shape[1] if labels is not None and labels.ndim > 1 else 1


def _counts_of(dataset: Labelled) -> str:
    """ "720 examples of 10 classes: bag 72, boot 71 …"; what the labels are for other tasks."""
    examples, labels, names = counted(len(dataset), "example"), dataset.labels, dataset.classes
    if dataset.target.parts:
        rows = [dataset.label_of(index) for index in range(len(dataset))]
        known = [(part, torch.stack([row[part.columns[0]] for row in rows])) for part in dataset.target.parts]
        return "; ".join([examples, *(f"{part.columns[0]}: {_values_text(part, values)}" for part, values in known)])
    match dataset.target.task:
        case "classification" if labels is not None:
            counts = torch.bincount(labels, minlength=len(names)).tolist()
            return f"{examples} of {counted(len(names), 'class/classes')}: {_each(names, counts)}"
        case "multilabel" if labels is not None:
            return f"{examples} with {_labels_text(names, labels)}"
        case "regression" if labels is not None:
            return f"{examples}; to predict: {_ranges_of(dataset, labels)}"
        case "token-classification" | "segmentation":
            noun = "token" if dataset.target.task == "token-classification" else "pixel"
            return f"{examples} with one of {counted(len(names), 'class/classes')} for each {noun}: {listed(names)}"
    return f"{examples}; each token is predicted from those before it"


def _labels_text(names: Sequence[str], labels: Tensor) -> str:
    """ "3 labels, of which several may apply: red 20, round 7, soft 12; 4 examples have none"."""
    counts = [int(count) for count in labels.sum(0).tolist()]
    without = int((labels == 0).reshape(len(labels), -1).all(1).sum())
    kinds = "yes or no" if len(names) == 1 else f"{counted(len(names), 'label')}, of which several may apply"
    none = f"; {counted(without, 'example', 'has/have')} none" if without else ""
    return f"{kinds}: {_each(names, counts)}{none}"


def _values_text(part: Target, values: Tensor) -> str:
    """What the labels of one of several tasks are."""
    names = part.classes or ()
    if part.task == "regression":
        return f"from {values.min():.4g} to {values.max():.4g}, mean {values.double().mean():.4g}"
    counts = values.sum(0) if part.task == "multilabel" else torch.bincount(values, minlength=len(names))
    return _each(names, [int(count) for count in counts.tolist()])


def _task_text(target: Target) -> str:
    """ "classification", or "kind classification, age regression"."""
    return ", ".join(f"{part.columns[0]} {part.task}" for part in target.parts) or str(target.task)


def _each(names: Sequence[str], counts: Sequence[int]) -> str:
    return listed([f"{name} {count:,}" for name, count in zip(names, counts, strict=True)])


def _ranges_of(dataset: Labelled, labels: Tensor) -> str:
    """ "age from 3 to 91, mean 40.2" for each column."""
    columns = labels.reshape(len(labels), -1).double()
    names = dataset.target.columns or [f"number {index}" for index in range(columns.shape[1])]
    ranges = zip(names, columns.amin(0).tolist(), columns.amax(0).tolist(), columns.mean(0).tolist(), strict=True)
    return "; ".join(f"{name} from {low:.4g} to {high:.4g}, mean {mean:.4g}" for name, low, high, mean in ranges)


def _sample_of(inputs: Tensor) -> str:
    """ "3 × 224 × 224, values from -1 to 1, mean 0.03 (first 2 training examples)"."""
    values = inputs.double()
    numbers = f"values from {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
    return f"{shape_text(inputs.shape[1:])}, {numbers} (first {counted(len(inputs), 'training example')})"
