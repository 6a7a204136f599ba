"""The task that labels and outputs make certain; what they leave open is refused with the ways to say it."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from regraft.errors import Advice, DataError
from regraft.tasks.classes import PROBABILITY_ATOL
from regraft.tasks.kinds import TASKS, AnyTask
from regraft.tasks.outputs import find_output, logits_of
from regraft.tasks.several import Several, label_parts, naming
from regraft.tasks.task import Task

EFFECTS = {
    "classification": "learn one class for each example",
    "multilabel": "learn yes or no for each output",
    "regression": "learn numbers",
    "token-classification": "learn one class for each position, with the classes on the last axis",
    "segmentation": "learn one class for each position, with the classes on the second axis",
    "language-model": "learn the next token, where the labels are the token ids themselves",
    "masked-language-model": "learn the token of each position that has a label",
}
Answer = tuple[AnyTask, str]  # the task, and the reason in a few words


def infer_task(
    outputs: object, labels: object, *, every: object = None, loss: str = "", model: nn.Module | None = None
) -> Answer:
    """The task of these outputs and labels, and why, in a few words.

    outputs, labels  of some examples
    every            the labels of all examples, where they are at hand; None: those of the examples decide
    loss             the name of the loss that was passed: it belongs to a kind of task; "" for none
    model            a model whose vocabulary is as large as its number of classes may be a language model

    Raises DataError where several tasks fit, with each as advice.
    """
    parts = label_parts(labels)
    if not parts:
        return _single(logits_of(outputs), labels, labels if every is None else every, loss, model)
    whole = label_parts(labels if every is None else every)
    tasks, reasons = dict[str, Task](), list[str]()
    for name, part in parts.items():
        output = find_output(outputs, name)
        if output is None:
            raise DataError(
                f"The labels have a part {name!r}, and the model has no output of that name or index.\nName the parts "
                "of the labels as those of the outputs, or pass a function of outputs and labels as the loss."
            )
        with naming(name):
            task, reason = _single(output, part, whole[name], loss, model)
        assert isinstance(task, Task), "a part is a tensor"
        tasks[name] = task
        reasons.append(f"{name} is {task.name} ({reason})")
    return Several(tasks), "; ".join(reasons)


def _single(outputs: Tensor, labels: Any, every: Any, loss: str, model: nn.Module | None) -> Answer:
    if not isinstance(labels, Tensor):
        raise DataError(
            f"The labels are a {type(labels).__name__}; expected a tensor, or a dictionary or tuple of them."
        )
    if loss == "binary_cross_entropy":
        return TASKS["multilabel"], f"the loss is {loss}"
    if loss not in ("", "cross_entropy"):
        return TASKS["regression"], f"the loss is {loss}"
    shapes = f"outputs {_text(outputs)}, labels {_text(labels)}"
    if labels.ndim == outputs.ndim - 1 and _are_whole(labels) and outputs.shape[1:2] != (1,):
        return _by_axis(outputs, labels, shapes, model)
    if loss == "cross_entropy":
        return TASKS["classification"], "the loss is cross_entropy"
    if _is_one_number(outputs):
        return _of_one_output(labels, every, shapes)
    if labels.shape == outputs.shape:
        return _of_one_shape(every, shapes)
    return TASKS["classification"], f"no other task has such shapes: {shapes}"  # its check says what does not fit


def _by_axis(outputs: Tensor, labels: Tensor, shapes: str, model: nn.Module | None) -> Answer:
    """The task of class numbers, by the axis on which the classes can be."""
    if outputs.ndim == 2:
        return TASKS["classification"], f"the labels are class numbers: {shapes}"
    second = outputs.shape[:1] + outputs.shape[2:] == labels.shape
    last = outputs.shape[:-1] == labels.shape
    if second and last:
        raise _open(
            f"The classes may be on the second or on the last axis: {shapes}.", ["token-classification", "segmentation"]
        )
    if last and model is not None and _vocabulary(model, outputs.shape[-1]):
        raise _open(
            f"The model has an embedding of {outputs.shape[-1]} tokens and gives as many classes, so that it may be a "
            f"language model: {shapes}.",
            ["language-model", "masked-language-model", "token-classification"],
        )
    if last:
        return TASKS["token-classification"], f"each position has a class number, and the classes are last: {shapes}"
    return TASKS["segmentation"], f"each position has a class number, and the classes are second: {shapes}"


def _of_one_output(labels: Tensor, every: Tensor, shapes: str) -> Answer:
    """The task of a model with one number for each example."""
    if bool(((every == 0) | (every == 1)).all()):
        raise _open(f"The labels are 0 and 1, and the model has one output: {shapes}.", ["multilabel", "regression"])
    return TASKS["regression"], f"the model has one output, and the labels are not only 0 and 1: {shapes}"


def _of_one_shape(every: Tensor, shapes: str) -> Answer:
    """The task of labels that have the shape of the outputs."""
    values = every.double()
    sums = values.sum(1) if values.ndim > 1 else values
    is_distribution = bool(((sums - 1).abs() <= PROBABILITY_ATOL).all()) and bool((values >= 0).all())
    is_yes_no = bool(((values == 0) | (values == 1)).all())
    if is_distribution and _are_whole(every):
        raise _open(f"Each row of the labels has a single 1: {shapes}.", ["multilabel"], one_hot=True)
    if is_distribution:
        return TASKS["classification"], f"the labels are probabilities, which sum to 1: {shapes}"
    if is_yes_no:
        return TASKS["multilabel"], f"the labels are 0 and 1 and have the shape of the outputs: {shapes}"
    if bool(((values >= 0) & (values <= 1)).all()):
        raise _open(f"The labels are between 0 and 1: {shapes}.", ["multilabel", "regression"])
    return TASKS["regression"], f"the labels are numbers and have the shape of the outputs: {shapes}"


def _text(values: Tensor) -> str:
    """A shape as (batch, 5)."""
    return f"({', '.join(['batch', *map(str, values.shape[1:])])})"


def _is_one_number(outputs: Tensor) -> bool:
    return outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)


def _are_whole(labels: Tensor) -> bool:
    return not labels.is_floating_point() and not labels.is_complex()


def _vocabulary(model: nn.Module, count: int) -> bool:
    """Whether the model embeds as many tokens as it has outputs."""
    return any(layer.num_embeddings == count for layer in model.modules() if isinstance(layer, nn.Embedding))


def _open(text: str, names: Sequence[str], *, one_hot: bool = False) -> DataError:
    """The error where several tasks fit."""
    more = "\nFor one class per example pass labels.argmax(1)." if one_hot else ""
    return DataError(
        f"The task is not certain. {text}{more}", advice=[Advice("task", name, EFFECTS[name]) for name in names]
    )
