"""Draws: the inputs of a data set with their ids; random ones are found out, or drawn by seed as views."""

import hashlib
import inspect
import multiprocessing
import os
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from regraft.caches.ragged import Shapes
from regraft.errors import CacheError
from regraft.examples import DatasetExamples, Examples, Inputs, TensorExamples, collated, has_lengths, shapes_in
from regraft.padding import padded_cat
from regraft.tensors.fingerprints import ID_BYTES, input_ids, named_ids
from regraft.tensors.trees import map_tree, tensors_of

PROMISED = 4  # examples, the first ones, by which a promise about the data is checked
PROBES = 8  # examples that are drawn twice
SEEDS = 128  # further draws when the data set has taken random numbers but gave the same inputs twice


@final
@dataclass(frozen=True)
class Drawn:
    """Rows with what was drawn for them.

    rows    (batch,) int64
    inputs  `batch` rows in each tensor, the shorter ones filled with zeros at their ends
    labels  (batch,)
    ids     (batch, 16) uint8
    shapes  of the tensors of each row's own input; None where only whole batches are handed out
    """

    rows: Tensor
    inputs: Inputs
    labels: Tensor
    ids: np.ndarray
    shapes: list[Shapes] | None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: Tensor) -> "Drawn":
        """Some of the rows, by their places in the batch."""
        inputs = map_tree(lambda tensor: tensor.index_select(0, places.to(tensor.device)), self.inputs)
        shapes = None if self.shapes is None else [self.shapes[at] for at in places.tolist()]
        return Drawn(self.rows[places], inputs, self.labels[places], self.ids[places.numpy()], shapes)

    @staticmethod
    def joined(parts: Sequence["Drawn"]) -> "Drawn":
        """Batches one after the other."""
        if len(parts) == 1:
            return parts[0]
        shapes: list[Shapes] | None = []
        for part in parts:
            shapes = None if shapes is None or part.shapes is None else shapes + part.shapes
        return Drawn(
            torch.cat([part.rows for part in parts]), join([part.inputs for part in parts]),
            torch.cat([part.labels for part in parts]), np.concatenate([part.ids for part in parts]), shapes,
        )  # fmt: skip


@final
class Draws:
    """Rows to be featurised: row number = example · views + view.

    names   for each example a text that changes when its input does; inputs then need not be read to be known
    rename  gives those texts again for some examples, to see whether they have changed meanwhile
    hashed  False where nobody asks for ids
    """

    def __init__(
        self, examples: Examples, *, views: int = 1, seed: int = 0, names: Sequence[str] | None = None,
        rename: Callable[[list[int]], Sequence[str] | None] | None = None, hashed: bool = True,
    ) -> None:  # fmt: skip
        self.examples, self.views, self.seed, self.hashed, self.rename = examples, views, seed, hashed, rename
        self.ids: np.ndarray | None = None
        if names is not None:
            self.ids = self._named(names).reshape(-1, ID_BYTES)
        self._bases: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.examples) * self.views

    def batches(self, rows: Tensor, batch_size: int, *, workers: int | None = None) -> Iterator[Drawn]:
        """`rows` in batches, fetched ahead.

        workers  threads, for views processes: a view is drawn from the global generators, of which a process has one
                 set. None: one for each core where examples are fetched one by one
        """
        blocks = rows.split(batch_size)
        if not isinstance(self.examples, DatasetExamples):
            workers = 0 if workers is None or self.views > 1 else workers
        if self.views > 1:
            processes = min(_processes() if workers is None else workers, len(blocks) // 2)
            yield from in_processes(self.drawn, blocks, processes)
            return
        for _, drawn, _ in _AsExamples(self).in_order(blocks, workers=_cores() if workers is None else workers):
            yield drawn

    def drawn(self, rows: Tensor) -> Drawn:
        """The inputs, labels and ids of these rows. An example that is filled up keeps the id of what it was."""
        if self.views > 1:
            return self._seeded(rows)
        if not isinstance(self.examples, DatasetExamples):
            inputs, labels = self.examples.gather(rows)
            return Drawn(rows, inputs, labels, self._ids_of(rows, [(inputs, len(rows))]), None)
        pairs = self.examples.fetch(rows)
        inputs, labels = collated(pairs)
        shapes = [shapes_in(pair[0]) for pair in pairs]
        each: Any = [(inputs, len(rows))] if not has_lengths(pairs) else ((collated([pair])[0], 1) for pair in pairs)
        return Drawn(rows, inputs, labels, self._ids_of(rows, each), None if None in shapes else shapes)  # type: ignore[arg-type]

    def inputs_of(self, rows: Tensor) -> Inputs:
        """The inputs of these rows."""
        return self._seeded(rows).inputs if self.views > 1 else self.examples.gather(rows)[0]

    def refuse_changed(self, rows: Sequence[int], ids: np.ndarray) -> None:
        """Raise CacheError when an example is no longer what its id says: edited while its features were computed."""
        if self.rename is None:
            return
        names = self.rename([row // self.views for row in rows])
        assert names is not None, "they were given names before"
        now = self._named(names)[np.arange(len(rows)), np.array(rows) % self.views]
        changed = [row // self.views for row in np.array(rows)[(now != ids).any(1)]]
        if changed:
            raise changed_meanwhile(changed)

    def _named(self, names: Sequence[str]) -> np.ndarray:
        """The ids (examples, views, 16) of these names."""
        drawn = f"{self.seed} drawn" if self.views > 1 else f"{self.seed}"
        ids = named_ids(f"{name}\0{view}\0{drawn}" for name in names for view in range(self.views))
        return ids.reshape(-1, self.views, ID_BYTES)

    def _seeded(self, rows: Tensor) -> Drawn:
        """Each row drawn by itself after seeding: the same view of the same example is the same input, always."""
        inputs, labels = [], []
        with own_randomness():
            for row in rows.tolist():
                example, view = divmod(row, self.views)
                seed_all(self._base(example) + view.to_bytes(4, "little"))
                drawn, label = self.examples.gather(torch.tensor([example]))
                inputs.append(drawn)
                labels.append(label)
        shapes = [tuple(tuple(tensor.shape[1:]) for tensor in tensors_of(alone)) for alone in inputs]
        ids = self._ids_of(rows, ((alone, 1) for alone in inputs))
        return Drawn(rows, join(inputs), torch.cat(labels), ids, shapes)

    def _ids_of(self, rows: Tensor, inputs: Iterable[tuple[Inputs, int]]) -> np.ndarray:
        """The rows' ids (count, 16) uint8, from their names or their inputs; zeros when nobody asks for ids."""
        if self.ids is not None:
            return self.ids[rows.numpy()]
        if not self.hashed:
            return np.zeros((len(rows), ID_BYTES), np.uint8)
        return np.concatenate([input_ids(some, count) for some, count in inputs])

    def _base(self, example: int) -> bytes:
        """What an example's seeds come from: its content, so that added and reordered data keep their views."""
        start = self.seed.to_bytes(8, "little", signed=True)
        if self.ids is not None:
            return start + self.ids[example * self.views].tobytes()
        if example not in self._bases:
            seed_all(start)
            self._bases[example] = input_ids(self.examples.gather(torch.tensor([example]))[0], 1).tobytes()
        return start + self._bases[example]


@final
class _AsExamples(Examples):
    """Draws whose inputs are all that was drawn: the hashing is done where the fetching is, in its threads."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def gather(self, indices: Tensor) -> tuple[Drawn, Tensor]:
        drawn = self.draws.drawn(indices)
        return drawn, drawn.labels


@final
class _Blocks(Dataset):
    """Blocks of rows as a data set of what is drawn for them, in bytes: these need no shared memory."""

    def __init__(self, draw: Callable[[Tensor], Drawn], blocks: Sequence[Tensor]) -> None:
        self.draw, self.blocks = draw, blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, number: int) -> bytes:
        return pickle.dumps(self.draw(self.blocks[number]))


def in_processes(draw: Callable[[Tensor], Drawn], blocks: Sequence[Tensor], workers: int) -> Iterator[Drawn]:
    """What is drawn for each block, in their order; by so many processes, 0 for this one."""
    if workers < 1:
        yield from map(draw, blocks)
        return
    for content in DataLoader(_Blocks(draw, blocks), batch_size=None, num_workers=workers):
        yield pickle.loads(content)  # noqa: S301 - from a process of our own


def _processes() -> int:
    """One for each core where a process is made by a fork; elsewhere it would import everything again."""
    return _cores() if multiprocessing.get_start_method() == "fork" else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def names_of(examples: Examples, data_id: str | None = None) -> Sequence[str] | None:
    """A text for each example that changes when its input does, where somebody vouches for that."""
    if data_id is not None:
        seed_all(b"probe")
        # The first ones: examples that are added do not change the names of those that were there.
        first = [examples.gather(torch.tensor([index]))[0] for index in range(min(len(examples), PROMISED))]
        probe = hashlib.sha256(b"".join(input_ids(inputs, 1).tobytes() for inputs in first)).hexdigest()
        return [f"{data_id}\0{probe}\0{index}" for index in range(len(examples))]
    vouched = _vouching(examples)
    return vouched() if vouched else None


def renaming(examples: Examples) -> Callable[[list[int]], Sequence[str] | None] | None:
    """What gives the names of some examples again, where the data set can tell them for some."""
    vouched = _vouching(examples)
    return vouched if vouched is not None and inspect.signature(vouched).parameters else None


def _vouching(examples: Examples) -> Callable[..., Sequence[str] | None] | None:
    return getattr(examples, "content_ids", None) or getattr(getattr(examples, "dataset", None), "content_ids", None)


def changed_meanwhile(examples: Sequence[int]) -> CacheError:
    """The error for data that was edited while its features were computed."""
    several = f"Examples {', '.join(map(str, examples[:5]))}{' …' if len(examples) > 5 else ''} were"
    return CacheError(
        f"{f'Example {examples[0]} was' if len(examples) == 1 else several} changed while the features were computed.\n"
        "Nothing of their part was stored. Run again: what is stored already stays."
    )


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
    columns = iter([padded_cat(column) for column in zip(*map(tensors_of, parts), strict=True)])
    return map_tree(lambda _: next(columns), parts[0])


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
    return all(torch.equal(a, b) for a, b in zip(tensors_of(once), tensors_of(again), strict=True))


def _states() -> tuple[Any, Any, Tensor]:
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def _same_states(first: tuple[Any, Any, Tensor], second: tuple[Any, Any, Tensor]) -> bool:
    numpy_same = all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    return first[0] == second[0] and numpy_same and torch.equal(first[2], second[2])
