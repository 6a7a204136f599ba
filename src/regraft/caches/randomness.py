"""Random inputs: refused, or drawn again by seed."""

import hashlib
import random
from itertools import repeat
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from regraft.errors import Advice, CacheError
from regraft.examples import DatasetExamples, Examples, Pads, TensorExamples
from regraft.tensors.fingerprints import as_bytes
from regraft.tensors.keeping import kept_generators
from regraft.tensors.trees import Inputs, map_tree, named_tensors, tensors_of

PROBES = 8  # examples that are fetched twice before anything is computed
DRAWS = 128  # that are compared at least where the data set draws random numbers, spread over its examples


def refuse_random(examples: Examples) -> None:
    """Raise CacheError when one of a few examples gives another input the second time it is fetched.

    A random transform of rare examples is found by `refuse_redrawn` during the build. The program's random numbers stay
    where they were.
    """
    if isinstance(examples, TensorExamples):
        return
    with kept_generators():
        for example in probes(examples):
            first, again = (examples.gather(torch.tensor([example]))[0] for _ in range(2))
            if not equal_inputs(first, again):
                raise random_example(example)


def refuse_redrawn(examples: Examples, rows: Tensor, inputs: Inputs) -> None:
    """Raise CacheError when an example gives another input than the one that was just fetched.

    Asked for when a generator of random numbers has drawn while they were fetched. It may have been another thread, or
    a draw that changes nothing, so each example is fetched again; often where there are few.

    inputs  of the examples `rows` (batch,), the shorter ones filled up
    """
    pads = examples.pads if isinstance(examples, DatasetExamples) else {}
    for index, example in enumerate(rows.tolist()):
        for _ in range(max(1, DRAWS // len(examples))):
            again = examples.gather(torch.tensor([example]))[0]
            row = map_tree(lambda tensor, index=index: tensor[index : index + 1], inputs)
            if not equal_inputs(row, again, pads):
                raise random_example(example)


def equal_inputs(first: Inputs, again: Inputs, pads: Pads = MappingProxyType({})) -> bool:
    """Whether two inputs of one example are the same bits, where the first may be filled up at its ends."""
    fills = [pads.get(path, 0) for path, _ in named_tensors(first)] if pads else repeat(0)
    tensors, others = tensors_of(first), tensors_of(again)
    return len(tensors) == len(others) and all(map(_same_bits, tensors, others, fills))


def random_example(example: int) -> CacheError:
    """The error for an example that gives another input each time."""
    return CacheError(
        f"Example {example} gives a different input each time it is fetched: the data set draws at random (an "
        "augmentation?), and a cache would keep one draw for ever.\n"
        "Cache the data set without its random transforms, or store augmented copies. Under a data_id, or for files, "
        "clear the entry first: it may hold such draws.",
        advice=[Advice("views", 4, "store four seeded copies of each example")],
    )


def refuse_unseeded(inputs: Inputs, again: Inputs) -> None:
    """Raise CacheError when views that were drawn twice by the same seeds differ."""
    if not equal_inputs(inputs, again):
        raise CacheError(
            "The data set draws at random from a generator of its own, so its views cannot be drawn again.\n"
            "Let its transforms use the global generator of torch, NumPy or Python, which views seed for each example."
        )


def probes(examples: Examples) -> list[int]:
    """A few examples, spread evenly from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, len(examples) - 1, PROBES)})


def seed_all(content: bytes) -> None:
    """Seed the global generators of Python, NumPy and torch from any bytes."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def _same_bits(filled: Tensor, tensor: Tensor, fill: float) -> bool:
    if filled.ndim != tensor.ndim or any(a < b for a, b in zip(filled.shape, tensor.shape, strict=True)):
        return False
    own = tuple(slice(size) for size in tensor.shape)
    rest = torch.ones_like(filled, dtype=torch.bool)
    rest[own] = False
    return np.array_equal(as_bytes(filled[own]), as_bytes(tensor)) and bool((filled[rest] == fill).all())
