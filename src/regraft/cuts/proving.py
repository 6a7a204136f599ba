"""Prove that trunk and head together are the model: outputs, gradients and buffers equal in every bit."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest

import torch
from torch import Tensor, nn

from regraft.cuts.backward_graph import backward_graph
from regraft.cuts.batches import Arguments
from regraft.cuts.dataflow import trained_values
from regraft.cuts.frozen import is_frozen
from regraft.cuts.head_run import HeadRun
from regraft.cuts.placeholders import Stub
from regraft.cuts.program import Guards, Program
from regraft.cuts.record import Record, Value, values_in
from regraft.cuts.trunk_run import TrunkRun, run_model, run_trunk
from regraft.errors import FreezeError, RegraftError, SplitError
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import copied, dense, opaque_objects, same_values, tensors_of

# Rows computed in another batch are summed in another order: 1e-6 for float32 (measured 8.6e-6 for batch 1 in the place
# of 32), more for a deep network's largest values. What mixes examples differs in the first digits.
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}


Opaque = tuple[type, list[Tensor]]  # the class of an object, and the tensors deep inside it


class DifferenceError(SplitError):
    """Trunk and head give something else than the model."""


@dataclass(frozen=True)
class Outcome:
    """What a step gives: outputs, gradients and buffers by name, and the `opaque_objects` of the outputs."""

    tensors: dict[str, Tensor]
    opaque: list[Opaque]


Step = Callable[[nn.Module, Callable[[], object]], Outcome]  # how much of a step to run and to compare


def training_step(model: nn.Module, forward: Callable[[], object]) -> Outcome:
    """The outputs, the gradients for a loss in which every element of the outputs counts, and the buffers."""
    with torch.enable_grad():
        return outcome_of(model, forward(), _gradients)


def graph_step(model: nn.Module, forward: Callable[[], object]) -> Outcome:
    """The outputs, what a backward pass would compute from, and the buffers: equal gradients without computing them."""
    with torch.enable_grad():
        return outcome_of(model, forward(), backward_graph)


def forward_step(model: nn.Module, forward: Callable[[], object]) -> Outcome:
    """The outputs and the buffers of a forward without gradients."""
    with torch.no_grad():
        return outcome_of(model, forward())


def model_step(model: nn.Module, arguments: Arguments, *, is_training: bool) -> Outcome:
    """Outputs, gradients and buffers of a step of the unsplit model, by name. Nothing changes in the model.

    Raises SplitError when the model cannot make one.
    """
    args, kwargs = copied(arguments)
    with undisturbed(model, is_training=is_training), _in_its_own_words():
        return training_step(model, lambda: model(*args, **kwargs))


def model_step_with_features(program: Program, arguments: Arguments, step: Step) -> tuple[Outcome, TrunkRun]:
    """A step of the unsplit model and the run of the trunk, which is a part of it. Nothing changes in the model."""
    runs: list[TrunkRun] = []

    def forward() -> object:
        run, output = run_model(program, copied(arguments))
        runs.append(run)
        return output

    with undisturbed(program.model, is_training=program.is_training), _in_its_own_words():
        outcome = step(program.model, forward)
    return outcome, runs[0]


@contextmanager
def _in_its_own_words() -> Iterator[None]:
    """Turn what the model's own forward and backward raise into a SplitError."""
    try:
        yield
    except Exception as error:
        raise SplitError(f"The model itself fails in a training step on the example: {error}") from error


def watched_trunk(program: Program, guards: Guards, arguments: Arguments) -> TrunkRun:
    """The trunk's run on these arguments, which holds their features. Nothing changes in the model."""
    with undisturbed(program.model, is_training=program.is_training):
        return run_trunk(program, guards, *copied(arguments))


def prove(
    program: Program, features: Mapping[str, Tensor], expected: Outcome,
    given: Callable[[Arguments], Arguments] = lambda arguments: arguments, step: Step = training_step,
) -> Guards:  # fmt: skip
    """Run a step of the head, on the model's arguments as `given` makes them, and compare it with one of the model.

    expected  what the same `step` of the model gave

    Gives the lengths that the head took from the example, and the classes of outputs that it cannot fill. Raises
    DifferenceError when anything differs by a bit.
    """
    with undisturbed(program.model, is_training=program.is_training):
        try:
            run = HeadRun(program, features)
            got = step(program.model, lambda: run.run(given))
        except RegraftError:
            raise
        except Exception as error:  # the model's own forward may say anything to a tensor of a wrong shape
            raise DifferenceError(f"The head cannot run the example, which the model runs: {error}") from error
    names = dict.fromkeys([*expected.tensors, *got.tensors])
    different = [name for name in names if not _is_same(expected.tensors.get(name), got.tensors.get(name))]
    if different:
        raise DifferenceError(
            f"The head does not give what the model gives: {', '.join(different[:5])} differ on the example.\n"
            "Pass `at=` with the name of a layer to cut after, or train this model without cached features."
        )
    return Guards(frozenset(run.assumed_lengths), unfilled=_unfilled(expected, got))


def mixing_leaves(
    features: Mapping[str, Tensor], others: Mapping[str, Tensor], again: Mapping[str, Tensor], order: Tensor
) -> list[str]:
    """The leaves whose rows changed with the rest of the batch: they mix the examples.

    others  the features of the same examples in another batch, in another order: equal but for rounding
    again   those of that batch with another new row: equal in every bit, since nothing rounds otherwise in its place
    order   for each row of both the row that it is in `features`; -1 for one that is not
    """
    known = (order >= 0).nonzero()[:, 0]
    mixing = []
    for name, rows in features.items():
        indices = known.to(rows.device)
        expected = rows[order.to(rows.device)[indices]]
        is_same = same_values(others[name][indices], again[name][indices])
        mixing += [] if is_same and _same_rows(expected, others[name][indices]) else [name]
    return mixing


def same_in_another_batch(features: Mapping[str, Tensor], others: Mapping[str, Tensor], order: Tensor) -> bool:
    """Whether every row has the same bits in another batch, in which it lies at another index; see `mixing_leaves`."""
    known = (order >= 0).nonzero()[:, 0]
    return all(torch.equal(rows[order[known].to(rows.device)], others[name][known]) for name, rows in features.items())


def _same_rows(rows: Tensor, others: Tensor) -> bool:
    """Equal but for rounding, by the size of the largest value; exactly equal when they are whole numbers."""
    if rows.shape != others.shape:
        return False
    if not (rows.is_floating_point() or rows.is_complex()):
        return torch.equal(rows, others)
    finite = torch.isfinite(rows)
    if not torch.equal(finite, torch.isfinite(others)):
        return False
    rows, others = rows[finite], others[finite]
    scale = float(rows.abs().max()) if rows.numel() else 0.0
    return bool(((rows - others).abs() <= ROUNDING.get(rows.dtype, 1e-3) * scale).all())


def refuse_random_layers(model: nn.Module, record: Record, live: frozenset[int]) -> None:
    """A frozen layer whose output depends on random numbers cannot be computed once."""
    modules = dict(model.named_modules())
    draws = [(record.calls[call].name, "Python's or NumPy's") for call, _ in record.python_draws]
    for operation in record.operations:
        if operation.is_random and not live.isdisjoint(values_in(record.calls[operation.call].output)):
            draws.append((record.layer_of(operation), operation.name))
    for name, function in draws:
        if is_frozen(modules[name]):
            raise FreezeError(
                f"{name} is frozen, but its forward draws random numbers in evaluation mode ({function}): its features "
                "would be one draw for all epochs.\nUnfreeze it, or switch its randomness off."
            )


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
        if given in trained or trained.isdisjoint(affine) or not _is_channels_last(record.values[given]):
            continue
        name = record.layer_of(operation) or "the model"
        raise SplitError(
            f"{name} is a trainable group norm behind frozen layers, and its input lies channels-last in memory: "
            "PyTorch's backward pass of it ends the process on the CPU (a segmentation fault), split or not.\n"
            f"Freeze {name} too, let a layer before it be trained, or make its input contiguous() in the model."
        )


def _is_channels_last(value: Value) -> bool:
    """Whether the channels of one pixel lie side by side, in memory of the CPU."""
    if len(value.shape) not in (4, 5) or value.device.type != "cpu":
        return False
    return value.stride[1] == 1 and value.stride[-1] >= value.shape[1]


Gradients = Callable[[nn.Module, list[Tensor]], Mapping[str, Tensor]]


def outcome_of(model: nn.Module, whole: object, gradients: Gradients = lambda model, outputs: {}) -> Outcome:
    """The outcome of a forward that gave this.

    gradients  what is to be compared of the gradients of those outputs that require them
    """
    outputs = [dense(tensor) for tensor in tensors_of(whole)]
    result = {f"output {index}": tensor.detach() for index, tensor in enumerate(outputs)}
    result |= gradients(model, [tensor for tensor in outputs if tensor.requires_grad])
    buffers = {f"buffer {name}": dense(buffer.clone()) for name, buffer in model.named_buffers()}
    return Outcome(result | buffers, opaque_objects(whole))


def _gradients(model: nn.Module, outputs: list[Tensor]) -> dict[str, Tensor]:
    """The gradients of the trainable parameters for a loss in which every element of the outputs counts."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not outputs or not parameters:
        return {}
    loss = reduce(torch.add, map(_weighted, outputs))
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = zip(parameters, gradients, strict=True)
    return {f"gradient of {name}": dense(gradient) for name, gradient in named if gradient is not None}


def _weighted(tensor: Tensor) -> Tensor:
    """A scalar in which every element counts differently, so that no error cancels another."""
    weights = torch.linspace(0.5, 1.5, tensor.numel(), dtype=torch.float32, device=tensor.device)
    total = (tensor.reshape(-1) * weights.to(tensor.dtype)).sum()
    return total.real if total.is_complex() else total


def _unfilled(expected: Outcome, got: Outcome) -> tuple[type, ...]:
    """The classes of opaque objects that are not the same in both."""
    pairs = zip_longest(expected.opaque, got.opaque, fillvalue=None)
    classes = [(wanted or given or (object, []))[0] for wanted, given in pairs if not _is_same_object(wanted, given)]
    return tuple(dict.fromkeys(classes))


def _is_same_object(expected: Opaque | None, got: Opaque | None) -> bool:
    if expected is None or got is None or len(expected[1]) != len(got[1]):
        return False
    return not any(isinstance(tensor, Stub) for tensor in got[1]) and all(map(same_values, expected[1], got[1]))


def _is_same(expected: Tensor | None, got: Tensor | None) -> bool:
    return expected is not None and got is not None and same_values(expected, got)
