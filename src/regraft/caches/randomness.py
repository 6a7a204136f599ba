"""Random inputs: refused, or drawn again by seed."""

import hashlib
import random

import numpy as np
import torch

from regraft.errors import CacheError
from regraft.examples import Examples, Inputs, TensorExamples
from regraft.tensors.fingerprints import input_ids
from regraft.tensors.keeping import generator_states, kept_generators
from regraft.tensors.trees import tensors_of

PROBES = 8  # examples that are fetched twice
SEEDS = 128  # further fetches when the data set has drawn random numbers but gave the same inputs twice


def refuse_random(examples: Examples) -> None:
    """Raise CacheError when an example gives another input each time it is fetched.

    A few examples are fetched twice. Where the data set draws random numbers without a difference to be seen (a rare
    augmentation), one example is fetched under many seeds. The program's random numbers stay where they were.
    """
    if isinstance(examples, TensorExamples):
        return
    with kept_generators():
        for example in probes(examples):
            if _is_random(examples, example):
                raise random_example(example)


def random_example(example: int) -> CacheError:
    """The error for an example that gives another input each time."""
    return CacheError(
        f"Example {example} gives a different input each time it is fetched: the data set draws at random (an "
        "augmentation?), and a cache would keep one draw for ever.\n"
        "Cache the data set without its random transforms, or store augmented copies: views=4."
    )


def refuse_unseeded(inputs: Inputs, again: Inputs) -> None:
    """Raise CacheError when views that were drawn twice by the same seeds differ."""
    if not all(torch.equal(a, b) for a, b in zip(tensors_of(inputs), tensors_of(again), strict=True)):
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


def _is_random(examples: Examples, example: int) -> bool:
    before = generator_states()
    first = _id_of(examples, example)
    if _id_of(examples, example) != first:
        return True
    if before.same_as(generator_states()):
        return False
    for seed in range(SEEDS // PROBES):
        seed_all(f"{example} {seed}".encode())
        if _id_of(examples, example) != first:
            return True
    return False


def _id_of(examples: Examples, example: int) -> bytes:
    return input_ids(examples.gather(torch.tensor([example]))[0], 1).tobytes()
