"""The steps of a built network run one by one, to compare each with what the source runtime gives for it."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from regraft.networks.axis_orders import as_stored, moved
from regraft.networks.runtime_functions import FRAME, HELPERS
from regraft.networks.source import ModuleSource, StepValue


def run_steps(model: nn.Module, source: ModuleSource, inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """What each step gives: value of the file → tensor in the file's order of axes.

    inputs  input of the file → tensor in the order of the code
    """
    frame: dict[str, Any] = {**FRAME, **HELPERS, "self": model}
    for entry in source.entries:
        frame[entry.variable] = inputs[entry.name]
        frame.setdefault("device", inputs[entry.name].device)
    for statement in source.statements:
        exec(statement.line, frame)  # a line of the module's own source, which `emit` has checked
        yield {value.name: in_file_order(frame[value.variable], value) for value in statement.values}


def in_file_order(tensor: Tensor, value: StepValue) -> Tensor:
    """What the code holds, with the axes in the order of the file."""
    return tensor.permute(moved(value.order, as_stored(tensor.dim()))) if tensor.dim() == len(value.order) else tensor


def in_code_order(tensor: Tensor, value: StepValue) -> Tensor:
    """What the file holds, with the axes in the order of the code."""
    return tensor.permute(value.order) if tensor.dim() == len(value.order) else tensor
