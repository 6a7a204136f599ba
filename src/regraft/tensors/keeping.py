"""Leave things as they were: a model's modes, buffers and forwards, and the generators of random numbers."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.tensors.trees import same_values

Forward = Callable[..., object]
# Held while a model is changed for a moment (modes, buffers, forwards): another thread that wants to run it so waits.
ONE_THREAD = threading.RLock()


@dataclass(frozen=True, eq=False)
class GeneratorStates:
    """The states of all global generators of random numbers: Python's, NumPy's, torch's on the CPU and on each GPU.

    gpus  (device, state) of each CUDA device; empty as long as the program has not used CUDA
    """

    python: tuple[Any, ...]
    numpy: Any
    cpu: Tensor
    gpus: tuple[tuple[int, Tensor], ...]

    def restore(self) -> None:
        """Set every generator to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for device, state in self.gpus:
            torch.cuda.set_rng_state(state, device)

    def same_as(self, other: "GeneratorStates") -> bool:
        """Whether no generator has drawn between the two."""
        return (
            self.python == other.python
            and all(np.array_equal(a, b) for a, b in zip(self.numpy, other.numpy, strict=True))
            and torch.equal(self.cpu, other.cpu)
            and len(self.gpus) == len(other.gpus)
            and all(torch.equal(a, b) for (_, a), (_, b) in zip(self.gpus, other.gpus, strict=True))
        )


def generator_states() -> GeneratorStates:
    """The present states of the global generators of random numbers."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    gpus = tuple((device, torch.cuda.get_rng_state(device)) for device in devices)
    return GeneratorStates(random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state(), gpus)


def generator_positions() -> tuple[int, ...]:
    """The positions of Python's and NumPy's generators, quick to read: every draw moves them."""
    python = random.getstate()[1]
    numpy: Any = np.random.get_state(legacy=False)["state"]
    return python[-1], python[0], numpy["pos"], int(numpy["key"][0])


@contextmanager
def kept_generators(model: nn.Module | None = None) -> Iterator[None]:
    """Restore the global generators at the end, and those that the model's own layers hold as attributes."""
    states = generator_states()
    own = {value: value.get_state() for value in _own_generators(model)} if model is not None else {}
    try:
        yield
    finally:
        states.restore()
        for generator, state in own.items():
            generator.set_state(state)


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Restore the mode of every module (training or evaluation) at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:  # setting an attribute of a module takes ten times as long as reading it
                module.training = mode


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Restore every buffer at the end: the tensor itself, which a forward may replace, and its values."""
    owners = [module._buffers for module in model.modules()]
    buffers = [(owner, name, b, b.clone()) for owner in owners for name, b in owner.items() if b is not None]
    try:
        yield
    finally:
        for owner, name, buffer, before in buffers:
            owner[name] = buffer
            if not same_values(buffer, before):
                with torch.no_grad():
                    buffer.copy_(before)


@contextmanager
def undisturbed(model: nn.Module, *, is_training: bool) -> Iterator[None]:
    """Run the model in a mode; restore modes, buffers and generators of random numbers at the end."""
    with ONE_THREAD, kept_generators(model), kept_buffers(model), kept_modes(model):
        model.train(is_training)
        torch.clear_autocast_cache()  # weights that were cast without gradients would be used again with them
        yield


@contextmanager
def shadowed_forwards(shadows: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """While in the block, these modules run another `forward`: an attribute of the instance that hides the class's.

    Only in this thread; another thread runs the modules' own, and waits here if it wants to replace them, too.
    """
    with ONE_THREAD:
        hidden = {module: module.__dict__.get("forward") for module in shadows}
        try:
            for module, forward in shadows.items():
                module.__dict__["forward"] = _in_this_thread(forward, module.forward)
            yield
        finally:
            try:
                _restore_forwards(hidden)
            except BaseException:  # Ctrl-C meanwhile: finish first, or the model would stay broken
                _restore_forwards(hidden)
                raise


def _in_this_thread(forward: Forward, own: Forward) -> Forward:
    """A forward for this thread, and the module's own for all others."""
    thread = threading.get_ident()
    return lambda *args, **kwargs: (forward if threading.get_ident() == thread else own)(*args, **kwargs)


def _restore_forwards(hidden: Mapping[nn.Module, Forward | None]) -> None:
    """Put back what the instances had of their own."""
    for module, own in hidden.items():
        if own is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = own


def _own_generators(model: nn.Module) -> Iterator[torch.Generator]:
    """The generators among the attributes of layers that are not torch's own, which have none."""
    for module in model.modules():
        if not type(module).__module__.startswith("torch.nn."):
            yield from (value for value in vars(module).values() if isinstance(value, torch.Generator))


# --- generators that a data set holds by itself ---------------------------------------------------------------------

Generator = random.Random | np.random.Generator | np.random.RandomState | torch.Generator
_MOST_VISITS = 2_000  # objects of a data set that are looked at: its transforms, not its files


def own_generators(holder: object) -> list[Generator]:
    """The generators of random numbers that an object holds, in its attributes and in what these hold."""
    found: list[Generator] = []
    waiting, seen = [holder], set[int]()
    while waiting and len(seen) < _MOST_VISITS:
        value = waiting.pop(0)
        if id(value) in seen or isinstance(value, (str, bytes, int, float, Tensor, np.ndarray, type)):
            continue
        seen.add(id(value))
        if isinstance(value, Generator):
            found.append(value)
        elif isinstance(value, dict):
            waiting += list(value.values())[:_MOST_VISITS]
        elif isinstance(value, (list, tuple)):
            waiting += value[:_MOST_VISITS]
        else:
            waiting += list(getattr(value, "__dict__", {}).values())
    return found


def position_of(generator: Generator) -> object:
    """What is another after each draw; two of them are compared by their text."""
    if isinstance(generator, random.Random):
        return hash(generator.getstate())
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return repr([part.tolist() if isinstance(part, np.ndarray) else part for part in generator.get_state()])
    return generator.get_state().numpy().tobytes()
