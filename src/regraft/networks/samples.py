"""The sizes of the empty tensors on which a network's code is tried, where the file leaves them free."""

from collections.abc import Iterator, Mapping, Sequence

from regraft.networks.network import NetworkInput, Shapes
from regraft.networks.source import BATCH

_IMAGES = (224, 256, 128, 64, 320, 416, 512, 299, 48, 32)
_LISTS = (16, 32, 64, 128, 256, 512, 576, 1024, 4096, 16000, 1)
_VOLUMES = (32, 16, 64, 128)


def sample_shapes(entries: Sequence[NetworkInput], given: Mapping[str, Sequence[int]]) -> Iterator[Shapes]:
    """Shapes for all inputs, the most likely first; networks that only work at some sizes need another one.

    given  input → its whole shape, where the user names it
    """
    open_ = [entry for entry in entries if entry.name not in given and None in entry.shape[1:]]
    yield {entry.name: _shape(entry, 0, given) for entry in entries}
    most = max((len(_choices(entry)) for entry in open_), default=1)
    for attempt in range(1, most):
        yield {entry.name: _shape(entry, attempt, given) for entry in entries}


def _choices(entry: NetworkInput) -> tuple[int, ...]:
    return {4: _IMAGES, 5: _VOLUMES}.get(len(entry.shape), _LISTS)


def _shape(entry: NetworkInput, attempt: int, given: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if entry.name in given:
        return tuple(given[entry.name])
    choices = _choices(entry)
    free = choices[min(attempt, len(choices) - 1)]
    batch = _batch_axis(entry)
    return tuple(
        size if size is not None else BATCH if axis == batch else free for axis, size in enumerate(entry.shape)
    )


def _batch_axis(entry: NetworkInput) -> int:
    """The first axis; of the states of recurrent layers, (layers, n, hidden), the second."""
    is_state = len(entry.shape) == 3 and entry.shape[0] is not None and entry.shape[1] is None
    return 1 if is_state else 0
