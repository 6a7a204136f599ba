"""Which axis of a recorded tensor holds the channels, as the operations that made it decide."""

from math import prod

from regraft.cuts.record import Record, RecordedOperation, Value

# Functions of torch whose output has its channels on the second axis, and those that have them on the last.
_SECOND = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d batch_norm group_norm instance_norm
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d interpolate pixel_shuffle
pixel_unshuffle local_response_norm
"""
_LAST = """
linear layer_norm rms_norm embedding scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh
rnn_relu
"""
SECOND, LAST = frozenset(_SECOND.split()), frozenset(_LAST.split())
SWAPS = ("transpose", "swapaxes", "swapdims")
LAST_TWO = ("mT", "t")
REORDERS = ("permute", *SWAPS, *LAST_TWO)
JOINS = ("cat", "concat", "concatenate")
UNKNOWN = ("movedim", "moveaxis", "T", "H", "matmul", "bmm", "einsum")
RESHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view")


def channel_axis(record: Record, value: int) -> int | None:
    """The axis of the value's channels; None where the operations do not decide it.

    A convolution, a pooling or a batch norm has them on the second axis, a linear layer, a layer norm, an embedding or
    an attention on the last. Element by element operations keep the axis of their inputs, permutations move it.
    """
    known: dict[int, int | None] = {}
    todo = [value]
    while todo:  # a loop: a network of hundreds of layers is deeper than Python's recursion may be
        index = todo[-1]
        unknown = [before for before in _needed(record, record.values[index]) if before not in known]
        if not unknown:
            known[todo.pop()] = _decided(record, record.values[index], known)
        todo += unknown
    return known[value]


def _needed(record: Record, value: Value) -> list[int]:
    """The earlier values whose axes decide that of the value."""
    if value.operation < 0:
        return [value.base] if value.base >= 0 else []
    operation = record.operations[value.operation]
    if operation.name in SECOND | LAST:
        return []
    kinds = ("parameter", "buffer")
    return [i for i in operation.arguments if i < value.index and record.values[i].kind not in kinds]


def _decided(record: Record, value: Value, known: dict[int, int | None]) -> int | None:
    before = _needed(record, value)
    if value.operation < 0:
        return _moved(record.values[before[0]], value, known[before[0]]) if before else None
    operation = record.operations[value.operation]
    if operation.name in SECOND:
        return 1 if len(value.shape) > 2 else None
    if operation.name in LAST:
        return len(value.shape) - 1
    axes = {_carried(operation, record.values[index], value, known[index]) for index in before} - {None}
    return axes.pop() if len(axes) == 1 else None


def _carried(operation: RecordedOperation, before: Value, after: Value, axis: int | None) -> int | None:
    """Where an operation leaves the channel axis of one of its inputs."""
    if axis is None:
        return None
    if operation.name in REORDERS:
        return _reordered(operation, len(before.shape), axis)
    if operation.name in RESHAPES:
        return _moved(before, after, axis)
    if len(after.shape) != len(before.shape) or operation.name in UNKNOWN:
        return None
    return axis if operation.name in JOINS or after.shape[axis] == before.shape[axis] else None


def _reordered(operation: RecordedOperation, dims: int, axis: int) -> int | None:
    """The axis behind a permutation, or an exchange of two axes, of so many."""
    numbers = [number % dims for number in operation.numbers]
    if operation.name == "permute":
        return numbers.index(axis) if len(numbers) == dims else None
    if operation.name in LAST_TWO:
        numbers = [dims - 2, dims - 1] if dims > 1 else [axis, axis]
    return dict(zip(numbers, reversed(numbers), strict=True)).get(axis, axis) if len(numbers) == 2 else None


def _moved(before: Value, after: Value, axis: int | None) -> int | None:
    """The axis in another shape of the same elements in the same order; None where it was merged or divided."""
    if axis is None:
        return None
    outside, size = prod(before.shape[:axis]), before.shape[axis]
    same = [new for new, length in enumerate(after.shape) if length == size and prod(after.shape[:new]) == outside]
    return same[-1] if same else None
