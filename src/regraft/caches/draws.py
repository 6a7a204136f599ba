"""Draws: the inputs of a data set with their ids; random ones are found out, or drawn by seed as views."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.examples import (
    DatasetExamples,
    Examples,
    Inputs,
    TensorExamples,
    batches,
    collated,
    has_lengths,
    map_tensors,
    tensors_in,
)
from regraft.fingerprints import ID_BYTES, input_ids, named_ids
from regraft.padding import padded_cat

PROBES = 8  # examples that are drawn twice
SEEDS = 128  # further draws when the data set has taken random numbers but gave the same inputs twice


@final
class Draws:
    """Rows to be featurised: row number = example · views + view.

    names   for each example a text that changes when its input does; inputs then need not be read to be known
    hashed  False where nobody asks for ids
    """

    def __init__(
        self, examples: Examples, *, views: int = 1, seed: int = 0, names: Sequence[str] | None = None,
        hashed: bool = True,
    ) -> None:  # fmt: skip
        self.examples, self.views, self.seed, self.hashed = examples, views, seed, hashed
        self.ids: np.ndarray | None = None
        if names is not None:
            self.ids = named_ids(f"{name}\0{view}\0{seed}" for name in names for view in range(views))

    def __len__(self) -> int:
        return len(self.examples) * self.views

    def batches(
        self, rows: Tensor, batch_size: int, *, workers: int | None = None
    ) -> Iterator[tuple[Tensor, Inputs, Tensor, np.ndarray]]:
        """(rows, inputs, labels, ids) for each batch of `rows`; ids (batch, 16) uint8."""
        if self.views > 1:
            for block in rows.split(batch_size):
                yield (block, *self._seeded(block))
            return
        if workers is None and not isinstance(self.examples, DatasetExamples):
            workers = 0
        for block, (inputs, ids), labels in batches(_WithIds(self), rows, batch_size, workers=workers):
            yield block, inputs, labels, ids

    def drawn(self, rows: Tensor) -> tuple[Inputs, Tensor, np.ndarray]:
        """The inputs, labels and ids of these rows. An example that is filled up keeps the id of what it was."""
        if self.views > 1:
            return self._seeded(rows)
        if not isinstance(self.examples, DatasetExamples) or self.ids is not None or not self.hashed:
            inputs, labels = self.examples.gather(rows)
            return inputs, labels, self.ids_of(rows, inputs)
        pairs = self.examples.fetch(rows)
        inputs, labels = collated(pairs)
        if not has_lengths(pairs):
            return inputs, labels, self.ids_of(rows, inputs)
        return inputs, labels, np.concatenate([input_ids(collated([pair])[0], 1) for pair in pairs])

    def inputs_of(self, rows: Tensor) -> Inputs:
        """The inputs of these rows."""
        return self._seeded(rows)[0] if self.views > 1 else self.examples.gather(rows)[0]

    def _seeded(self, rows: Tensor) -> tuple[Inputs, Tensor, np.ndarray]:
        """Each row drawn by itself after seeding: the same view of the same example is the same input, always."""
        drawn: list[Inputs] = []
        labels: list[Tensor] = []
        bases: dict[int, bytes] = {}
        with own_randomness():
            for row in rows.tolist():
                example, view = divmod(row, self.views)
                if example not in bases:
                    bases[example] = self._base(example)
                seed_all(bases[example] + view.to_bytes(4, "little"))
                inputs, label = self.examples.gather(torch.tensor([example]))
                drawn.append(inputs)
                labels.append(label)
        inputs = join(drawn)
        return inputs, torch.cat(labels), self.ids_of(rows, inputs)

    def ids_of(self, rows: Tensor, inputs: Inputs) -> np.ndarray:
        """The rows' ids (count, 16) uint8, from their names or their inputs; zeros when nobody asks for ids."""
        if self.ids is not None:
            return self.ids[rows.numpy()]
        return input_ids(inputs, len(rows)) if self.hashed else np.zeros((len(rows), ID_BYTES), np.uint8)

    def _base(self, example: int) -> bytes:
        """What an example's seeds come from: its content, so that added and reordered data keep their views."""
        start = self.seed.to_bytes(8, "little", signed=True)
        if self.ids is not None:
            return start + self.ids[example * self.views].tobytes()
        seed_all(start)
        return start + input_ids(self.examples.gather(torch.tensor([example]))[0], 1).tobytes()


@final
class _WithIds:
    """Examples whose inputs are the pair (inputs, ids): the hashing is done where the fetching is, in its threads."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def gather(self, indices: Tensor) -> tuple[tuple[Inputs, np.ndarray], Tensor]:
        inputs, labels, ids = self.draws.drawn(indices)
        return (inputs, ids), labels


def names_of(examples: Examples, data_id: str | None = None) -> Sequence[str] | None:
    """A text for each example that changes when its input does, where somebody vouches for that."""
    if data_id is not None:
        seed_all(b"probe")
        probe = input_ids(examples.gather(torch.arange(1))[0], 1).tobytes().hex()
        return [f"{data_id}\0{probe}\0{index}" for index in range(len(examples))]
    vouched = getattr(examples, "content_ids", None) or getattr(getattr(examples, "dataset", None), "content_ids", None)
    return vouched() if vouched else None


def refuse_random(examples: Examples) -> None:
    """Raise CacheError when an example gives another input each time it is asked for.

    A few examples are drawn twice. Where the data set takes random numbers without a difference to be seen (a rare
    augmentation), one example is drawn under many seeds. The program's random numbers stay where they were.
    """
    if isinstance(examples, TensorExamples):
        return
    example = _find_random(examples)
    if example is not None:
        raise CacheError(
            f"Example {example} gives a different input each time it is asked for: the data set draws at random "
            "(an augmentation?), and a cache would freeze one draw for ever.\n"
            "Give the data set without its random transforms, or ask for stored augmented copies: views=4."
        )


def refuse_own_randomness(draws: Draws) -> None:
    """Raise CacheError when the same seed gives different inputs: such views could not be found again."""
    rows = torch.tensor(probes(draws.examples)) * draws.views
    if not _equal(draws.inputs_of(rows), draws.inputs_of(rows)):
        raise CacheError(
            "The data set draws at random from a generator of its own, so its views cannot be drawn again.\n"
            "Let its transforms use torch's, NumPy's or Python's global generator, which views seed for each example."
        )


def probes(examples: Examples) -> list[int]:
    """A few examples, spread evenly from the first to the last."""
    return sorted({round(at) for at in np.linspace(0, len(examples) - 1, PROBES)})


def join(parts: Sequence[Inputs]) -> Inputs:
    """Batches of the same structure, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = iter([padded_cat(column) for column in zip(*map(tensors_in, parts), strict=True)])
    return map_tensors(lambda _: next(columns), parts[0])


@contextmanager
def own_randomness() -> Iterator[None]:
    """Leave the program's random numbers where they were, whatever is drawn inside."""
    states = _states()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


def seed_all(content: bytes) -> None:
    """Seed Python's, NumPy's and torch's global generators from any bytes."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def _find_random(examples: Examples) -> int | None:
    def id_of(example: int) -> bytes:
        return input_ids(examples.gather(torch.tensor([example]))[0], 1).tobytes()

    with own_randomness():
        for example in probes(examples):
            before = _states()
            first = id_of(example)
            if id_of(example) != first:
                return example
            if not _same_states(before, _states()) and _differs(partial(id_of, example), example, first):
                return example
    return None


def _differs(draw: Callable[[], bytes], example: int, first: bytes) -> bool:
    for seed in range(SEEDS // PROBES):
        seed_all(f"{example} {seed}".encode())
        if draw() != first:
            return True
    return False


def _equal(once: Inputs, again: Inputs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors_in(once), tensors_in(again), strict=True))


def _states() -> tuple[Any, Any, Tensor]:
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def _same_states(first: tuple[Any, Any, Tensor], second: tuple[Any, Any, Tensor]) -> bool:
    numpy_same = all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    return first[0] == second[0] and numpy_same and torch.equal(first[2], second[2])
