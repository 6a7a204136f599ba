"""One run of the trunk: the model's own forward, watched, up to the last leaf."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regraft.cuts.arguments import Pair, by_name, pairs
from regraft.cuts.batches import Arguments
from regraft.cuts.head_run import HeadRun
from regraft.cuts.operators import function_name
from regraft.cuts.program import Features, Guards, Layout, Program, another_path
from regraft.cuts.sizes import ROWS, Size, Symbols
from regraft.errors import DataError, SplitError
from regraft.tensors.keeping import Forward, shadowed_forwards
from regraft.tensors.trees import numbers_of, tensors_of

_NOT_FOLLOWED = -2  # in the place of the index of a call


class _Captured(BaseException):
    """Ends the trunk's run when the last leaf is there. No Exception: the user's forward must not catch it."""


class UnfitLeafError(SplitError):
    """Tensors that cannot be kept by rows; `values` says which."""

    def __init__(self, message: str, values: set[int]) -> None:
        super().__init__(message)
        self.values = values


def run_trunk(program: Program, guards: Guards, args: tuple[object, ...], kwargs: Mapping[str, object]) -> "TrunkRun":
    """Run the model's forward without gradients up to the last leaf; the run holds the features of these arguments.

    Raises SplitError for arguments with which the head could not work, or on which the forward takes another path.
    """
    run = TrunkRun(program, _checked_symbols(program, guards, args, kwargs))
    inputs = list(_beside_the_example(program, guards, args, kwargs))
    try:
        return run.follow(lambda: program.model(*args, **kwargs), inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        others = _other_inputs(program, inputs)
        if not others:
            raise
        raise DataError(f"The forward of the model fails on these inputs: {error}\n{others}") from error


def _other_inputs(program: Program, inputs: Iterable[Pair]) -> str:
    """The inputs that have another type or size than those of the split, beside the number of rows; "" for none."""
    lines = []
    for slot, tensor in inputs:
        expected = program.record.values[slot.value]
        if (tensor.dtype, tuple(tensor.shape[1:])) != (expected.dtype, tuple(expected.shape[1:])):
            got = f"{tuple(tensor.shape)} {tensor.dtype}"
            lines.append(f"An input has {got}; the model was split with {tuple(expected.shape)} {expected.dtype}.")
    return "\n".join(lines)


# In evaluation they take a fused kernel, unless functions are watched.
_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


def is_changed_by_watching(program: Program) -> bool:
    """Whether the model computes with other kernels, which round otherwise, while the trunk's leaves are caught."""
    return bool(program.given_by_operations) and any(isinstance(module, _FUSED) for module in program.modules.values())


def run_model(program: Program, arguments: Arguments) -> tuple["TrunkRun", object]:
    """Run the whole forward, and take the features on the way: a run of the trunk, and the model's output."""
    (args, kwargs), outputs = arguments, list[object]()
    run = TrunkRun(program, _checked_symbols(program, Guards(), args, kwargs), goes_on=True)
    run.follow(
        lambda: outputs.append(program.model(*args, **kwargs)), _beside_the_example(program, Guards(), args, kwargs)
    )
    return run, outputs[0]


def run_trunk_from(
    program: Program, guards: Guards, shallower: Program, shallower_guards: Guards, features: Mapping[str, Tensor]
) -> "TrunkRun":
    """The same from the features of a shallower cut of the same model, without the inputs."""
    head = HeadRun(shallower, features, assumable=shallower_guards.assumed)
    args, kwargs = head.fill(shallower.record.inputs)
    with shadowed_forwards(head.shadows(dict.fromkeys(shallower.calls_in_head, 0))):
        run = TrunkRun(program, head.sizes.symbols)
        return run.follow(lambda: program.model(*args, **kwargs), _beside_the_example(program, guards, args, kwargs))


def _checked_symbols(
    program: Program, guards: Guards, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Symbols:
    """The rows and lengths of these arguments; refused where the head could not know one that it needs."""
    symbols, example = program.batch.measured(args, kwargs), program.sizes.example
    for symbol in sorted(guards.assumed - guards.free):
        if symbols.get(symbol) != example[symbol]:
            size = "number of rows" if symbol == ROWS else symbol
            raise SplitError(
                f"The {size} is {symbols.get(symbol)}; on the example it was {example[symbol]}. The head asks for it, "
                "and no tensor that crosses gives it.\nPad all batches to the same size, or split again on such a "
                "batch."
            )
    return symbols


def _beside_the_example(
    program: Program, guards: Guards, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> list[Pair]:
    """The tensors of these arguments, each with the recorded one in its place; refused where these differ."""
    any_count = program.batch.rows if program.batch.is_listed and program.by_row else -1
    given = by_name(program.model, args, kwargs)
    return list(pairs(program.recorded_arguments, given, plain=guards.reads_plain, any_count=any_count))


class TrunkRun:
    """One run of the trunk of a program; calls are followed in the order in which the recording made them.

    goes_on   whether the forward goes on behind the last leaf, as the model's own does
    features  leaf name → rows, captured so far
    layouts   leaf value → how the forward laid the leaf out in memory
    """

    def __init__(self, program: Program, symbols: Symbols, *, goes_on: bool = False) -> None:
        self.program, self.symbols, self.goes_on = program, symbols, goes_on
        self.features: Features = {}
        self.layouts: dict[int, Layout] = {}
        self.inputs: dict[int, Tensor] = {}
        self.running: list[list[int]] = [[-1, 0]]  # for each running call: its index, calls that it has made so far

    def follow(self, forward: Callable[[], object], inputs: Iterable[Pair]) -> "TrunkRun":
        """Run the forward, whose inputs stand beside the recorded ones, until every leaf is captured."""
        program = self.program
        for slot, tensor in inputs:
            self.inputs[slot.value] = tensor
            for name in program.leaf_names.get(slot.value, ()):
                self.keep(name, tensor)
        shadows = {program.modules[name]: self.shadow(name) for name in program.called}
        mode = _Catch(self) if program.given_by_operations else nullcontext()
        try:
            # As in a training step: without gradients torch takes other kernels for recurrent layers, which round
            # otherwise. Frozen layers record nothing, and what is kept is detached.
            with torch.enable_grad(), shadowed_forwards(shadows), mode:
                self.stop_when_whole()
                forward()
        except _Captured:
            pass
        missing = [name for name in program.leaves if name not in self.features]
        if missing:
            raise another_path(missing[0])
        self.features = {name: self.features[name] for name in program.leaves}
        return self

    def keep(self, name: str, tensor: Tensor) -> None:
        """Take a leaf, as rows; copied where the forward writes into it later."""
        if name in self.features:
            return
        program, value = self.program, self.program.leaves[name]
        self._check_shape(name, tensor)
        tensor = tensor.detach()
        self.layouts[value] = (tuple(tensor.shape), tensor.stride())
        rows = program.leaf_rows.get(value)
        if rows is not None:
            tensor = rows.to_rows(tensor, self.symbols.get(ROWS))
        mean = program.choice.means.get(name)
        if mean is not None:
            with torch._C.DisableTorchFunction():  # no function of the forward's own, which are counted
                tensor = mean.of(tensor, self.inputs.get(mean.mask))
        self.features[name] = tensor.clone() if value in program.overwritten else tensor

    def _check_shape(self, name: str, tensor: Tensor) -> None:
        """Refuse a leaf without rows, and one of another shape than the example leads to expect."""
        program, value = self.program, self.program.leaves[name]
        if tensor.is_nested or tensor.layout != torch.strided:
            raise UnfitLeafError(f"{name} is a nested or sparse tensor: it has no rows that could be kept.", {value})
        shape, expected = tuple(tensor.shape), program.sizes.shape(program.record, value, self.symbols)
        if program.by_row and expected not in (None, shape):
            sizes = ", ".join(f"{symbol} {size}" for symbol, size in self.symbols.items())
            raise SplitError(
                f"{name} has the shape {shape}; by the example it would be {expected} for {sizes}.\n"
                "Split with an example of this size, or train without cached features."
            )
        rows = program.leaf_rows.get(value)
        if rows is not None and shape[rows.axis] % (rows.each or self.symbols.get(ROWS) or 1):
            raise UnfitLeafError(f"{name} has the shape {shape}: it cannot be divided into examples.", {value})

    def stop_when_whole(self) -> None:
        """End the run when nothing is missing."""
        if len(self.features) == len(self.program.leaves) and not self.goes_on:
            raise _Captured

    def shadow(self, name: str) -> Forward:
        """A module's own forward, whose place in the order and whose output are looked at."""
        program, forward = self.program, self.program.modules[name].forward

        def look(*args: object, **kwargs: object) -> object:
            index = self.call_of(name)
            self.running.append([index, 0])
            try:
                output: object = forward(*args, **kwargs)
            finally:
                self.running.pop()
            if index in program.choice.skipped:
                self.check_numbers(index, output)
                if index in program.given_by_calls:
                    tensors = tensors_of(output)
                    for position, leaf in program.given_by_calls[index]:
                        self.keep(leaf, tensors[position])
                    self.stop_when_whole()
            return output

        return look

    def call_of(self, name: str) -> int:
        """Which recorded call this is. Inside skipped calls the forward may take any path, and nothing is followed."""
        record, parent = self.program.record, self.running[-1]
        if parent[0] == _NOT_FOLLOWED or (parent[0] >= 0 and parent[0] not in self.program.choice.opened):
            return _NOT_FOLLOWED
        expected = record.children.get(parent[0], [])
        position, parent[1] = parent[1], parent[1] + 1
        if position >= len(expected) or record.calls[expected[position]].name != name:
            raise another_path(record.calls[expected[position]].name if expected[position:] else name)
        return expected[position]

    def check_numbers(self, index: int, output: object) -> None:
        """Refuse when a call whose result the head will not compute gives other plain numbers than on the example."""
        recorded = self.program.numbers[index]
        if not recorded:
            return
        expected = [number.at(self.symbols) if isinstance(number, Size) else number for number in recorded]
        numbers = numbers_of(output)
        if expected != numbers:
            name = self.program.record.calls[index].name or "The model"
            raise SplitError(
                f"{name} gives the numbers {numbers[:5]}; on the example it gave {expected[:5]}: they depend on the "
                "batch, so they cannot be kept.\nTrain without cached features, or leave it trainable."
            )


class _Catch(TorchFunctionMode):
    """Catches the leaves that are made by operations of an opened call's own forward."""

    def __init__(self, run: TrunkRun) -> None:
        self.run, self.wanted = run, run.program.given_by_operations
        self.names = {key[:2] for key in self.wanted}
        self.counts: dict[tuple[int, str], int] = {}

    def __torch_function__(
        self, func: Forward, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        key = (self.run.running[-1][0], function_name(func))
        if key in self.names:
            ordinal = self.counts.get(key, 0)
            self.counts[key] = ordinal + 1
            for position, leaf in self.wanted.get((*key, ordinal), ()):
                self.run.keep(leaf, tensors_of(result)[position])
            self.run.stop_when_whole()
        return result
