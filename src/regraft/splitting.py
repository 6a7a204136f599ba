"""Split a model into trunk and head at its frozen boundary, proven identical on an example.

The trunk is all that depends only on inputs and frozen layers; the head is the rest. Both run the model's own forward.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.cutting import Cut, choose_cut, describe_cut
from regraft.errors import FreezeError, SplitError
from regraft.frozen import is_frozen
from regraft.recording import Record, record_forward, slots_of
from regraft.replaying import MissingDataError, Replay
from regraft.structures import tensors_of

Features = dict[str, Tensor]


@final
class Trunk:
    """The frozen part of a model: `trunk(*args, **kwargs)` gives the features, one row per example for each leaf.

    model   the user's model
    cut     what crosses to the head
    """

    def __init__(self, model: nn.Module, replays: Mapping[bool, Replay], cut: Cut) -> None:
        self.model, self.cut = model, cut
        self._replays = replays

    def __call__(self, *args: Any, **kwargs: Any) -> Features:
        """The features of a batch: leaf name → tensor. Runs without gradients and changes nothing in the model."""
        features: Features = {}
        for is_training, replay in self._replays.items():
            if all(name in features for name in replay.choice.leaves):
                continue
            with _undisturbed(self.model, is_training=is_training):
                features |= replay.trunk(args, kwargs)
        return features

    def step_from(self, shallower: "Trunk") -> Callable[[Mapping[str, Tensor]], Features]:
        """A function from the features of a shallower trunk to the features of this one: inputs are not needed.

        Split again after freezing more layers, then compute the new features from the cached ones:
        `step = new_trunk.step_from(old_trunk)`, `new = step(old)`, batch by batch.
        """
        if shallower.model is not self.model:
            raise SplitError("Features can only be carried on from a trunk of the same model.")

        def step(features: Mapping[str, Tensor]) -> Features:
            deeper: Features = {}
            for is_training, replay in self._replays.items():
                if all(name in deeper for name in replay.choice.leaves):
                    continue
                with _undisturbed(self.model, is_training=is_training):
                    deeper |= replay.trunk_from(shallower._replays[is_training], features)
            return deeper

        return step

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the features depend on, by name."""
        names = sorted({name for replay in self._replays.values() for name in replay.tensors_before_the_cut()})
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {name: state[name].detach() for name in names}

    def describe(self) -> dict[str, Any]:
        """What, beside the tensors, the features depend on; plain data, equal for equal trunks."""
        modules = dict(self.model.named_modules())
        names = sorted({name for replay in self._replays.values() for name in replay.modules_before_the_cut()})
        classes = sorted({type(modules[name]) for name in names}, key=lambda cls: cls.__qualname__)
        return {
            "leaves": [[leaf.name, list(leaf.shape), str(leaf.dtype)] for leaf in self.cut.leaves],
            "modules": {name: f"{_class_name(type(modules[name]))}({modules[name].extra_repr()})" for name in names},
            "sources": {_class_name(cls): _source_hash(cls) for cls in classes},
            "torch": str(torch.__version__),
            "autocast": str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else "off",
            "attention": str(getattr(getattr(self.model, "config", None), "_attn_implementation", "")),
        }

    def __repr__(self) -> str:
        return f"Trunk of {type(self.model).__name__}\n{self.cut}"


@final
class Head(nn.Module):
    """The trainable part of a model: `head(features)` gives what the model gives. Training it trains the model.

    model   the user's model, whose own layers run; `train()`, `eval()`, `to()` reach it
    """

    takes_features = True  # tells training apart a head, called with features, from a model, called with inputs

    def __init__(self, model: nn.Module, replays: Mapping[bool, Replay]) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self._replays = dict(replays)

    def forward(self, features: Mapping[str, Tensor]) -> Any:
        """The model's output for these features (leaf name → tensor, one row per example)."""
        replay = self._replays.get(self.model.training)
        if replay is None:
            mode = "training" if self.model.training else "evaluation"
            raise SplitError(f"The example could not be run in {mode} mode, so the head cannot be either.")
        return replay.head(features)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters, as `model.<name>`; the frozen ones belong to the trunk."""
        return ((name, p) for name, p in super().named_parameters(*args, **kwargs) if p.requires_grad)


def split(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[Trunk, Head]:
    """Trunk and head of a model with frozen layers: `head(trunk(*args, **kwargs))` equals `model(*args, **kwargs)`.

    args, kwargs   an example batch, as the model takes it; two rows or more let BatchNorm train

    The example is run in training and in evaluation mode; outputs, gradients and buffers of model and head are proven
    equal bit by bit before anything is returned. The model is left as it was.

    Raises SplitError for a model that cannot be cut or proven equal, FreezeError for a frozen layer that is random.
    """
    batch_size = _batch_size(args, kwargs)
    replays, failures = {}, []
    for is_training in (True, False):
        try:
            with _undisturbed(model, is_training=is_training):
                record = record_forward(model, args, kwargs)
        except (ValueError, RuntimeError) as error:
            failures.append(error)  # BatchNorm cannot train on one row: the head then works in evaluation only
            continue
        replays[is_training] = _proven(model, record, args, kwargs, batch_size, is_training=is_training)
    if not replays:
        raise SplitError(f"The model cannot run the example: {failures[0]}") from failures[0]
    first = next(iter(replays.values()))
    cut = describe_cut(first.record, first.choice, batch_size)
    return Trunk(model, replays, cut), Head(model, replays)


def _batch_size(args: tuple, kwargs: Mapping[str, Any]) -> int:
    """Rows of the example: the first size of its first tensor with one."""
    for tensor in tensors_of((args, kwargs)):
        if tensor.dim():
            return tensor.shape[0]
    raise SplitError("The example holds no tensor with rows. Give a batch as the model takes it.")


def _proven(
    model: nn.Module, record: Record, args: tuple, kwargs: Mapping[str, Any], batch_size: int, *, is_training: bool
) -> Replay:
    """The cheapest cut that passes the proof; where a cut turns out to lack a tensor, it is added and tried again."""
    problem: SplitError | None = None
    for inside in (True, False):
        needed: set[int] = set()
        for _ in range(20):
            choice = choose_cut(record, batch_size, needed=needed, inside=inside)
            _refuse_random(model, record, choice.live)
            replay = Replay(model, record, choice, batch_size)
            try:
                _prove(model, replay, args, kwargs, is_training=is_training)
            except MissingDataError as error:
                problem = error
                if needed >= set(error.values):
                    break
                needed |= set(error.values)
            except SplitError as error:
                problem = error
                break
            else:
                return replay
    assert problem is not None
    raise problem


def _refuse_random(model: nn.Module, record: Record, live: list[bool]) -> None:
    """A frozen layer whose output depends on random numbers cannot be computed once."""
    modules = dict(model.named_modules())
    for operation in record.operations:
        if not operation.is_random:
            continue
        call = record.calls[operation.call]
        outputs = [slot.value for slot in slots_of(call.output)]
        if is_frozen(modules[call.name]) and any(live[value] for value in outputs):
            raise FreezeError(
                f"{call.name} is frozen, but its forward draws random numbers in evaluation mode ({operation.name}): "
                "its features would be one draw for all epochs.\nUnfreeze it, or switch its randomness off."
            )


def _prove(model: nn.Module, replay: Replay, args: tuple, kwargs: Mapping[str, Any], *, is_training: bool) -> None:
    """Run the model and trunk plus head from the same state; refuse when anything differs by a bit."""
    with _undisturbed(model, is_training=is_training):
        expected = _step(model, lambda: model(*args, **kwargs))
    with _undisturbed(model, is_training=is_training):
        features = replay.trunk(args, kwargs)
    with _undisturbed(model, is_training=is_training):
        got = _step(model, lambda: replay.head(features))
    different = [name for name in expected if name not in got or not _equal(expected[name], got[name])]
    if different or expected.keys() != got.keys():
        raise SplitError(
            f"The head does not give what the model gives: {', '.join(different[:5])} differ on the example.\n"
            "Train this model without cached features."
        )


def _step(model: nn.Module, forward: Callable[[], Any]) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of one training step, by name."""
    with torch.enable_grad():
        outputs = tensors_of(forward())
        result = {f"output {index}": tensor.detach() for index, tensor in enumerate(outputs)}
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        differentiable = [tensor for tensor in outputs if tensor.requires_grad]
        if differentiable and parameters:
            loss = sum(_weighted(tensor) for tensor in differentiable)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)  # type: ignore[arg-type]
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    result[f"gradient of {name}"] = gradient
    return result | {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}


def _weighted(tensor: Tensor) -> Tensor:
    """A scalar in which every element counts differently, so that no error cancels another."""
    weights = torch.linspace(0.5, 1.5, tensor.numel(), dtype=torch.float32, device=tensor.device)
    total = (tensor.reshape(-1) * weights.to(tensor.dtype)).sum()
    return total.real if total.is_complex() else total


def _equal(expected: Tensor, got: Tensor) -> bool:
    """Equal in shape, type and every bit of value; a NaN equals a NaN."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    return bool(((expected == got) | ((expected != expected) & (got != got))).all())


@contextmanager
def _undisturbed(model: nn.Module, *, is_training: bool) -> Iterator[None]:
    """Run something in a mode, and leave modes, buffers and random numbers as they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        model.train(is_training)
        with torch.random.fork_rng():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                with torch.no_grad():
                    buffer.copy_(before)


def _class_name(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _source_hash(cls: type) -> str:
    """A hash of the source of the class's forward; of its name where there is no source."""
    try:
        text = inspect.getsource(cls.forward)  # type: ignore[attr-defined]
    except (OSError, TypeError):
        text = _class_name(cls)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
