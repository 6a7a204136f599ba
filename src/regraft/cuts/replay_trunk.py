"""One run of the trunk: the model's own forward, watched, up to the last leaf."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from regraft.cuts.arguments import Pair
from regraft.cuts.operators import function_name
from regraft.cuts.recording import shadowed_forwards
from regraft.cuts.sizes import ROWS, Size, Symbols
from regraft.errors import SplitError
from regraft.tensors.trees import numbers_of, tensors_of

if TYPE_CHECKING:
    from regraft.cuts.replay import Replay


class _Captured(BaseException):
    """Ends the trunk's run when the last leaf is there. No Exception: the user's forward must not catch it."""


class UnfitLeafError(SplitError):
    """Tensors that cannot be kept by rows; `values` says which."""

    def __init__(self, message: str, values: set[int]) -> None:
        super().__init__(message)
        self.values = values


class TrunkRun:
    """One run of the trunk of a `Replay`; calls are followed in the order in which the recording made them."""

    def __init__(self, replay: "Replay", symbols: Symbols) -> None:
        self.replay, self.symbols = replay, symbols
        self.features: dict[str, Tensor] = {}
        self.running: list[list[int]] = [[-1, 0]]  # for each running call: its index (-2: not followed), calls so far

    def run(self, forward: Callable[[], Any], inputs: Iterable[Pair]) -> dict[str, Tensor]:
        """Run the forward, whose inputs stand beside the recorded ones, until every leaf is captured."""
        self.take_inputs(inputs)
        shadows = {self.replay.modules[name]: self.shadow(name) for name in self.replay.called}
        mode: Any = _Catch(self) if self.replay.caught_inside else nullcontext()
        try:
            # As in a training step: without gradients torch takes other kernels for recurrent layers, which round
            # otherwise. Frozen layers record nothing, and what is kept is detached.
            with torch.enable_grad(), shadowed_forwards(shadows), mode:
                self.stop_when_whole()
                forward()
        except _Captured:
            pass
        missing = [name for name in self.replay.choice.leaves if name not in self.features]
        if missing:
            raise other_order(missing[0])
        return {name: self.features[name] for name in self.replay.choice.leaves}

    def take_inputs(self, inputs: Iterable[Pair]) -> None:
        """The leaves that are inputs."""
        for slot, tensor in inputs:
            if slot.value in self.replay.leaf_names:
                self.keep(self.replay.leaf_names[slot.value], tensor)

    def keep(self, name: str, tensor: Tensor) -> None:
        """Take a leaf, as rows; copied where the forward writes into it later."""
        replay = self.replay
        value = replay.choice.leaves[name]
        if tensor.is_nested or tensor.layout != torch.strided:
            raise UnfitLeafError(f"{name} is a nested or sparse tensor: it has no rows that could be kept.", {value})
        shape = replay.sizes.shape(replay.record, value, self.symbols)
        if shape is not None and tuple(tensor.shape) != shape and replay.by_row:
            raise SplitError(
                f"{name} has the shape {tuple(tensor.shape)}; by the example it would be {shape} for "
                f"{', '.join(f'{size} as {symbol}' for symbol, size in self.symbols.items())}.\n"
                "Split with an example of this size, or train without cached features."
            )
        tensor = tensor.detach()
        rows = replay.leaf_rows.get(value)
        if rows is not None and tensor.shape[rows.axis] % (rows.each or self.symbols.get(ROWS) or 1):
            raise UnfitLeafError(f"{name} has the shape {tuple(tensor.shape)}: its examples cannot be told.", {value})
        if rows is not None and value not in replay.laid_out:
            # Not as recorded: a forward that is watched takes other kernels (nn.MultiheadAttention does).
            rows = replay.leaf_rows[value] = replace(rows, shape=tuple(tensor.shape), stride=tensor.stride())
            replay.laid_out.add(value)
        tensor = rows.to_rows(tensor, self.symbols.get(ROWS)) if rows is not None else tensor
        self.features.setdefault(name, tensor.clone() if value in replay.overwritten else tensor)

    def stop_when_whole(self) -> None:
        """End the run when nothing is missing."""
        if len(self.features) == len(self.replay.choice.leaves):
            raise _Captured

    def shadow(self, name: str) -> Callable:
        """A module's own forward, whose place in the order and whose output are looked at."""
        forward = self.replay.modules[name].forward

        def look(*args: Any, **kwargs: Any) -> Any:
            index = self.place_of(name)
            self.running.append([index, 0])
            try:
                output = forward(*args, **kwargs)
            finally:
                self.running.pop()
            if index in self.replay.choice.skipped:
                self.check_numbers(index, output)
                if index in self.replay.given_by_calls:
                    tensors = tensors_of(output)
                    for position, leaf in self.replay.given_by_calls[index]:
                        self.keep(leaf, tensors[position])
                    self.stop_when_whole()
            return output

        return look

    def place_of(self, name: str) -> int:
        """Which recorded call this is. Inside skipped calls the forward may take any way, and nothing is followed."""
        parent = self.running[-1]
        if parent[0] == -2 or (parent[0] >= 0 and parent[0] not in self.replay.choice.opened):
            return -2
        expected = self.replay.children.get(parent[0], [])
        position, parent[1] = parent[1], parent[1] + 1
        if position >= len(expected) or self.replay.record.calls[expected[position]].name != name:
            raise other_order(self.replay.record.calls[expected[position]].name if expected[position:] else name)
        return expected[position]

    def check_numbers(self, index: int, output: Any) -> None:
        """Refuse when a call whose result the head will not compute gives other plain numbers than on the example."""
        recorded = self.replay.numbers[index]
        if not recorded:
            return
        expected = [number.at(self.symbols) if isinstance(number, Size) else number for number in recorded]
        if expected != numbers_of(output):
            name = self.replay.record.calls[index].name or "The model"
            raise SplitError(
                f"{name} gives the numbers {numbers_of(output)[:5]}; on the example it gave {expected[:5]}: they "
                "depend on the batch, so they cannot be kept.\nTrain without cached features, or leave it trainable."
            )


def other_order(name: str) -> SplitError:
    """The error for a forward that does not call its layers as it did on the example."""
    return SplitError(
        f"{name or 'The model'} is not called as it was on the example: the forward takes another way for this batch.\n"
        "Split with an example that takes the same way, or train without cached features."
    )


class _Catch(TorchFunctionMode):
    """Catches the leaves that are made by operations of an opened call's own forward."""

    def __init__(self, run: TrunkRun) -> None:
        self.run = run
        self.counts: dict[tuple[int, str], int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        key = (self.run.running[-1][0], function_name(func))
        if key in self.run.replay.caught_names:
            ordinal = self.counts.get(key, 0)
            self.counts[key] = ordinal + 1
            for position, leaf in self.run.replay.caught_inside.get((*key, ordinal), ()):
                self.run.keep(leaf, tensors_of(result)[position])
            self.run.stop_when_whole()
        return result


def measured(replay: "Replay", args: tuple, kwargs: Mapping[str, Any]) -> dict[str, int | None]:
    """The symbols of these arguments; refused where the head could not know a length that it needs."""
    symbols = replay.batch.measured(args, kwargs)
    for symbol in replay.fixed - replay.free:
        if symbols.get(symbol) != replay.sizes.example[symbol] and symbol != ROWS:
            raise SplitError(
                f"The {symbol} is {symbols.get(symbol)}; on the example it was {replay.sizes.example[symbol]}. The "
                "head asks for it, and no tensor that crosses tells it.\nPad all batches to the same length."
            )
    return symbols
