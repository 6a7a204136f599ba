"""Backward passes in which PyTorch ends the whole process: refused by name before the proof would run one."""

from regraft.cuts.hindrances import trained_values
from regraft.cuts.record import Record, Value
from regraft.errors import SplitError


def refuse_crash(record: Record) -> None:
    """Raise SplitError for a trainable group norm right behind the frozen layers whose input lies channels-last.

    PyTorch 2.13 on the CPU writes the input's gradient through a null pointer when nobody has asked for it:
    `F.group_norm(torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2), 1, weight).sum().backward()` is a segmentation fault.
    """
    trained = trained_values(record)
    for operation in record.operations:
        if "group_norm" not in operation.name:
            continue
        given, *affine = operation.arguments
        if trained[given] or not any(trained[value] for value in affine) or not _is_channels_last(record.values[given]):
            continue
        name = record.calls[operation.call].name or "the model"
        raise SplitError(
            f"{name} is a trainable group norm behind frozen layers, and its input lies channels-last in memory: "
            "PyTorch's backward pass of it ends the process on the CPU (a segmentation fault), split or not.\n"
            f"Freeze {name} too, let a layer before it be trained, or make its input contiguous() in the model."
        )


def _is_channels_last(value: Value) -> bool:
    """Whether the channels of one place lie side by side, in memory of the CPU."""
    if len(value.shape) not in (4, 5) or value.device.type != "cpu":
        return False
    return value.stride[1] == 1 and value.stride[-1] >= value.shape[1]
