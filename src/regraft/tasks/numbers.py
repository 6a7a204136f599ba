"""Labels that are numbers of the outputs' shape: brought into one shape, those without a value left out."""

from torch import Tensor

from regraft.errors import DataError
from regraft.tasks.task import Task


def reshaped(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and labels of one shape and type; outputs (batch, 1) fit labels (batch,), and the other way round."""
    return outputs, labels.to(outputs.dtype).reshape(outputs.shape)


def known_positions(outputs: Tensor, labels: Tensor, ignore: float | None) -> tuple[Tensor, Tensor]:
    """Both as they are; with a mark to ignore the other positions alone, in a line."""
    if ignore is None:
        return outputs, labels
    known = ~is_mark(labels, ignore)
    return outputs[known], labels[known]


def is_mark(values: Tensor, mark: float) -> Tensor:
    """Where the values are the mark of an unknown one, which may be NaN."""
    return values.isnan() if mark != mark else values == mark


def spread_weights(weights: Tensor, labels: Tensor, ignore: float | None) -> Tensor:
    """The weight of its example (batch,) for each label that is known, in a line."""
    each = weights.reshape(-1, *[1] * (labels.ndim - 1)).expand(labels.shape)
    return known_positions(each, labels, ignore)[0].reshape(-1)


def refuse_misfit(task: Task, outputs: Tensor, labels: object) -> None:
    """Raise DataError for labels that are not of the outputs' shape, but for a dimension of size 1."""
    if not isinstance(labels, Tensor):
        raise DataError(f"The labels are a {type(labels).__name__}, and the task {task.name} takes one tensor.")
    if _without_ones(outputs) != _without_ones(labels):
        raise DataError(
            f"The labels have the shape {tuple(labels.shape)}, and the outputs {tuple(outputs.shape)}. The task "
            f"{task.name} takes one label for each output: give both the same shape."
        )


def _without_ones(values: Tensor) -> tuple[int, ...]:
    return (len(values), *(size for size in values.shape[1:] if size != 1))
