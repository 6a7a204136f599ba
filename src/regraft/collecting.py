"""The outputs of a model for all examples of a data set, beside their labels: for any metric or plot of your own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regraft.errors import DataError
from regraft.examples import all_indices, batches
from regraft.labels import Labels, filled, joined
from regraft.learning.batches import in_memory
from regraft.learning.learner import Learner, to_device
from regraft.learning.losses import unweighted
from regraft.learning.request import remembered
from regraft.tasks.kinds import AnyTask, GivenTask, as_task
from regraft.tasks.outputs import find_logits, find_output
from regraft.tasks.several import Several, label_parts
from regraft.tensors.keeping import kept_modes
from regraft.tensors.pad_values import GivenPads
from regraft.tensors.trees import map_tree, tensors_of


@dataclass(frozen=True)
class Predictions:
    """What a model gives for each example, in the data set's order, on the CPU.

    outputs        (count, …) logits or numbers; a dict of them for several outputs. Shorter rows end in NaN
    labels         (count, …) as in the data set; shorter sequences end in -100 or NaN
    probabilities  softmax or sigmoid of the outputs by the task, the numbers themselves for a regression; in the size
                   of the masks for a segmentation. None where the task is not known
    """

    outputs: Any
    labels: Any
    probabilities: Any = None


def predictions(
    model: nn.Module,
    dataset: object,
    *,
    task: GivenTask = None,
    classes: Sequence[str] = (),
    pad: GivenPads = None,
    batch_size: int = 64,
) -> Predictions:
    """The outputs of a model for a data set, or of a head for its features, and the labels.

    task  as in `train`; None: that by which `train` has trained this model last, else no probabilities are given
    pad   as in `train`

    The model is in evaluation mode meanwhile; its modes are afterwards as they were. Raises as `evaluate` does.
    """
    learner = Learner(model)
    trained = remembered(learner.model)
    known = as_task(task) if task is not None else None if trained is None else trained.task
    examples = learner.examples(dataset, classes=classes or (() if trained is None else trained.classes), pad=pad)
    learner.refuse_stale(examples, {}, trains=False)
    learner.refuse_padding(examples, batch_size)
    examples = in_memory(examples, learner.device)
    outputs, labels, probabilities = list[Any](), list[Labels](), list[Any]()
    with kept_modes(learner.model), torch.no_grad():
        learner.model.eval()
        for indices, inputs, given in batches(examples, all_indices(examples), batch_size):
            made = _answer(learner.outputs(to_device(inputs, learner.device)), known)
            _refuse_no_rows(made, len(indices))
            outputs.append(to_device(made, torch.device("cpu")))
            probabilities.append(to_device(_activated(made, known, unweighted(given)), torch.device("cpu")))
            labels.append(to_device(unweighted(given), torch.device("cpu")))
    rows = None if known is None else filled(joined(probabilities))
    return Predictions(filled(joined(outputs)), filled(joined(labels)), rows)


def _answer(outputs: object, task: AnyTask | None) -> Any:
    """The tensors that answer: those of the task's parts, the logits, or all there are."""
    if isinstance(task, Several):
        return {name: find_output(outputs, name) for name in task.tasks}
    logits = find_logits(outputs)
    return map_tree(torch.clone, outputs) if logits is None else logits


def _activated(outputs: Any, task: AnyTask | None, labels: Labels) -> Any:
    """What the task makes of the outputs, in the size of the labels."""
    if isinstance(task, Several):
        parts = label_parts(labels)
        return {n: part.probabilities(part.fitted(outputs[n], parts[n])) for n, part in task.tasks.items()}
    return None if task is None else task.probabilities(task.fitted(outputs, labels))


def _refuse_no_rows(outputs: object, count: int) -> None:
    odd = [tuple(tensor.shape) for tensor in tensors_of(outputs) if not tensor.ndim or len(tensor) != count]
    if odd or not tensors_of(outputs):
        raise DataError(
            f"The model gives tensors of the shapes {odd} for {count} examples; expected a row for each of them."
        )
