"""A function of tensors recorded once as a flat list of operators, and run again without the Python that made it.

The list is text that can be read: `print(flat.text)`. Values keep the memory that they had while recording, so that
most operators write where they wrote before, and views cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from types import BuiltinFunctionType
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten

# What makes a tensor from the shape of another, or from nothing, whatever the values are.
EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default,
         aten.new_empty_strided.default}  # fmt: skip
SHAPED = EMPTY | {aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.new_zeros.default,
                  aten.new_ones.default, aten.new_full.default}  # fmt: skip
# Their forms for given memory resize it to the examples' losses and back, with a warning each time.
RESIZING = {aten.mse_loss.default, aten.smooth_l1_loss.default, aten.huber_loss.default, aten.soft_margin_loss.default,
            aten.binary_cross_entropy.default}  # fmt: skip
# Methods that hand a tensor's values to Python, below which no operator runs that could be seen.
LOOKS = {"tolist", "numpy", "__array__", "__dlpack__"}
# The same arithmetic by an operator that can write into given memory.
BETTER = {aten.relu.default: (torch.clamp_min, (0,))}


class NotFlatError(Exception):
    """The function cannot be flattened; the text says why, to be put into a sentence."""


@final
@dataclass(frozen=True)
class Call:
    """One operator as it was called; tensors are held, so that no two values share memory by accident."""

    operator: torch._ops.OpOverload
    args: tuple
    kwargs: dict[str, Any]
    outputs: Any

    def numbers(self) -> tuple:
        """The operator and all that is no tensor: equal in two recordings of the same computation."""
        return self.operator, str(tree_map_only(Tensor, _shape, (self.args, self.kwargs)))

    def writes(self) -> bool:
        """Whether it changes one of its arguments, as far as its schema tells."""
        return self.operator._schema.is_mutable


@final
@dataclass(frozen=True)
class Recording:
    """The operators of one run, its inputs, and what the run returned."""

    inputs: tuple[Tensor, ...]
    calls: tuple[Call, ...]
    results: tuple[Tensor, ...]

    def made_bytes(self) -> int:
        """Bytes of all values that the operators made; they stay allocated with the recording or its function."""
        made = [tensor for call in self.work() for tensor in _tensors(call.outputs)]
        blocks = {_memory(tensor): tensor.untyped_storage() for tensor in made}
        return sum(block.nbytes() for block in blocks.values())

    def work(self) -> list[Call]:
        """The calls that compute or write: all but views."""
        known = {_memory(tensor) for tensor in self.inputs}
        found = []
        for call in self.calls:
            outputs = _tensors(call.outputs)
            known.update(map(_memory, _tensors((call.args, call.kwargs))))
            if call.writes() or not all(_memory(output) in known for output in outputs):
                found.append(call)
            known.update(map(_memory, outputs))
        return found

    def same_as(self, other: "Recording") -> bool:
        """Whether the other run did the same with its own inputs: same operators, numbers and tensors from outside."""
        if [call.numbers() for call in self.calls] != [call.numbers() for call in other.calls]:
            return False
        pairs = list(zip(self.outside(), other.outside(), strict=True))
        written = {_memory(tensor) for call in self.calls if call.writes() for tensor in _written_by(call)}
        # Memory of this run alone (a tensor made from Python numbers) stands for a constant: it has to be the same.
        return all(
            _memory(one) == _memory(two) or (_memory(one) not in written and torch.equal(one, two))
            for one, two in pairs
        )

    def outside(self) -> list[Tensor]:
        """The arguments that are neither inputs nor made by an operator, in the order in which they are met."""
        known, found = {_memory(tensor) for tensor in self.inputs}, []
        for call in self.calls:
            found += [tensor for tensor in _tensors((call.args, call.kwargs)) if _memory(tensor) not in known]
            known.update(map(_memory, _tensors(call.outputs)))
        return found


class _Recorder(TorchDispatchMode):
    """Notes each operator below autograd: forward, backward and update alike."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapping that torch would do imports its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if torch.Tag.data_dependent_output in func.tags or _has_shape_by_values(func, args):
            raise NotFlatError(f"it looks at values ({func})")
        if func.namespace == "profiler":
            return outputs
        if func.namespace != "aten":
            raise NotFlatError(f"it runs an operator of {func.namespace}")
        self.calls.append(Call(func, *tree_map_only(Tensor, _held, (tuple(args), dict(kwargs or {}), outputs))))
        return outputs


class _Watcher(TorchFunctionMode):
    """Refuses what hands values to Python without an operator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in LOOKS:
            raise NotFlatError(f"it looks at values ({func.__name__})")
        return func(*args, **(kwargs or {}))


def _has_shape_by_values(operator: torch._ops.OpOverload, args: tuple) -> bool:
    """Whether the values of its arguments decide the shape of what it makes. Indexing has it only by masks."""
    if operator is aten.index.Tensor:
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return torch.Tag.dynamic_output_shape in operator.tags or operator is aten._pack_padded_sequence.default


def record(function: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> Recording:
    """Run `function(*inputs)` and note every operator of it; it really runs, with all its effects.

    Raises NotFlatError when it looks at values, or works on tensors without memory of their own.
    """
    with _Watcher(), _Recorder() as recorder:
        results = function(*inputs)
    return Recording(tuple(map(_held, inputs)), tuple(recorder.calls), tuple(map(_held, results)))


def flatten(recording: Recording, changing: Sequence[Tensor]) -> "FlatFunction":
    """The recorded operators as one Python function of the inputs, which gives the results.

    changing   the tensors from outside that may change between runs: parameters, buffers, state. All others from
               outside, apart from the inputs, are taken for constants

    A result is overwritten by the next run. Raises NotFlatError for memory that has no known origin.
    """
    return _Writer(recording, changing).whole()


@final
class FlatFunction:
    """Operators in a row: no loop, no module, no autograd.

    text   the Python that runs
    call   `call(*inputs)` → the results, for inputs of the shapes that were recorded; without gradients
    """

    def __init__(self, text: str, names: dict[str, Any]) -> None:
        self.text = text
        exec(compile(text, "<flat>", "exec"), names)  # noqa: S102  our own text, as torch.fx does: operators and numbers
        self.call: Callable[..., tuple[Tensor, ...]] = names["flat"]

    @property
    def operators(self) -> int:
        """How many operators run."""
        return self.text.count("\n") - 2


class _Writer:
    """Writes the text, and decides for each value whether it keeps its recorded memory.

    Fixed memory (parameters, buffers, constants, results of operators that can write into given memory) appears as a
    name of its own. All else is a local variable.
    """

    def __init__(self, recording: Recording, changing: Sequence[Tensor]) -> None:
        self.recording = recording
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.name_of: dict[Any, str] = {}
        self.local: dict[tuple, str] = {}  # where in memory -> variable that holds it in a run
        self.numbers = count()
        self.moving: set[int] = set()  # memory that is another one in each run
        self.known: set[int] = set()  # memory whose origin is told
        self.constant: set[int] = set()  # memory whose values never change
        self.written = {
            _memory(tensor) for call in recording.calls if call.writes() for tensor in _written_by(call)
        } | {_memory(tensor) for tensor in changing}

    def whole(self) -> FlatFunction:
        """The whole function."""
        arguments = [self._bind(tensor) for tensor in self.recording.inputs]
        for call in self.recording.calls:
            self._write(call)
        results = ", ".join(self._word(tensor) for tensor in self.recording.results)
        body = [*self.lines, f"return ({results},)"]
        text = f"def flat({', '.join(arguments)}):\n" + "".join(f"    {line}\n" for line in body)
        return FlatFunction(text, self.names)

    def _write(self, call: Call) -> None:
        """The line for one call, if it needs one."""
        outputs = _tensors(call.outputs)
        for tensor in _tensors((call.args, call.kwargs)):
            self._meet(tensor)
        if call.writes():
            self._line(call)
            if any(_memory(output) not in self.known for output in outputs):
                raise NotFlatError(f"it makes new memory while it writes ({call.operator})")
        elif outputs and all(_memory(output) in self.known for output in outputs):  # a view
            if any(_memory(output) in self.moving for output in outputs):
                self._line(call, is_bound=True)
        elif self._is_settled(call):
            for output in outputs:
                self.known.add(_memory(output))
                if call.operator not in EMPTY:
                    self.constant.add(_memory(output))
        elif outputs:
            self._compute(call, outputs)

    def _compute(self, call: Call, outputs: list[Tensor]) -> None:
        """An operator with new values: into their recorded memory where it can, else into new variables."""
        function, extra, into = _writing_form(call)
        if function is None:
            for output in outputs:
                self.moving.add(_memory(output))
            self._line(call, is_bound=True)
        else:
            words = [*self._words(call.args), *map(repr, extra)] + [
                f"{name}={self._word(value)}" for name, value in call.kwargs.items()
            ]
            words += into(list(map(self._constant, outputs)))
            self.lines.append(f"{self._constant(function, _short(call))}({', '.join(words)})")
        self.known.update(map(_memory, outputs))

    def _line(self, call: Call, *, is_bound: bool = False) -> None:
        """The call in its own form; bound, its outputs get variables."""
        words = [*self._words(call.args), *(f"{name}={self._word(value)}" for name, value in call.kwargs.items())]
        text = f"{self._constant(_direct(call), _short(call))}({', '.join(words)})"
        # The targets come after the words: an output may take the place of an argument, as a detached view does.
        self.lines.append(self._targets(call) + text if is_bound else text)

    def _targets(self, call: Call) -> str:
        """`a, b = ` for the call's outputs; None among them keeps its place."""
        if isinstance(call.outputs, Tensor):
            return self._bind(call.outputs) + " = "
        if not all(output is None or isinstance(output, Tensor) for output in call.outputs):
            raise NotFlatError(f"its values are nested ({call.operator})")
        return ", ".join("_" if output is None else self._bind(output) for output in call.outputs) + ", = "

    def _is_settled(self, call: Call) -> bool:
        """Whether the recorded values stay right for good: they depend on constants only and nobody writes there."""
        if call.operator in EMPTY:
            return True
        if torch.Tag.nondeterministic_seeded in call.operator.tags:
            return False
        sources = [] if call.operator in SHAPED else _tensors((call.args, call.kwargs))
        return all(_memory(source) in self.constant for source in sources) and not any(
            _memory(output) in self.written for output in _tensors(call.outputs)
        )

    def _meet(self, tensor: Tensor) -> None:
        """Memory seen for the first time as an argument comes from outside: it is fixed."""
        memory = _memory(tensor)
        if memory not in self.known:
            self.known.add(memory)
            if memory not in self.written:
                self.constant.add(memory)

    def _bind(self, tensor: Tensor) -> str:
        """A variable for this value."""
        name = f"t{next(self.numbers)}"
        self.local[_place(tensor)] = name
        self.known.add(_memory(tensor))
        self.moving.add(_memory(tensor))
        return name

    def _words(self, values: Sequence[Any]) -> list[str]:
        return [self._word(value) for value in values]

    def _word(self, value: Any) -> str:
        """How a value appears in the text."""
        if isinstance(value, Tensor):
            if _memory(value) not in self.moving:
                return self._constant(value)
            if _place(value) not in self.local:
                raise NotFlatError("it looks at memory in a way that was not recorded")
            return self.local[_place(value)]
        if isinstance(value, (list, tuple)):
            if not any(_memory(tensor) in self.moving for tensor in _tensors(value)):
                return self._constant(list(value)) if _tensors(value) else repr(list(value))
            return "[" + ", ".join(self._words(value)) + "]"
        if value is None or isinstance(value, (bool, int)):
            return repr(value)
        return self._constant(value)

    def _constant(self, value: Any, hint: str = "c") -> str:
        """A name for an object that stays."""
        key = _place(value) if isinstance(value, Tensor) else id(value)
        if key not in self.name_of:
            name = hint if hint not in self.names and hint != "c" else f"{hint}{len(self.names)}"
            self.names[name], self.name_of[key] = value, name
        return self.name_of[key]


def _writing_form(call: Call) -> tuple[Any, tuple, Callable[[list[str]], list[str]]]:
    """How to call the operator so that it writes into given memory: (function, further arguments, its words).

    None where it would compute elsewhere and copy (torch tags such forms as generated).
    """
    if call.operator in BETTER:
        function, extra = BETTER[call.operator]
        return function, extra, _as_out
    if call.operator in RESIZING:
        return None, (), _as_out
    packet = call.operator.overloadpacket
    arguments = [argument.name for argument in call.operator._schema.arguments]
    for name in packet.overloads():
        form = getattr(packet, name)
        schema = form._schema.arguments
        own = [argument.name for argument in schema if not argument.is_out]
        into = [argument.name for argument in schema if argument.is_out]
        if into and own == arguments and torch.Tag.generated not in form.tags:
            door = getattr(torch, packet.__name__, None)
            if isinstance(door, BuiltinFunctionType) and (into == ["out"] or len(into) > 1):
                return door, (), _as_out
            return form._op, (), lambda words, into=into: [f"{a}={b}" for a, b in zip(into, words, strict=True)]
    return None, (), _as_out


def _as_out(words: list[str]) -> list[str]:
    """`out=` as torch's Python functions take it."""
    return [f"out={words[0]}" if len(words) == 1 else f"out=({', '.join(words)})"]


def _direct(call: Call) -> Any:
    """The quickest way to call an operator: torch's own Python function where there is one (2 µs less), or method."""
    name = call.operator.overloadpacket.__name__
    door = getattr(torch, name, None)
    if isinstance(door, BuiltinFunctionType) and call.operator not in SHAPED:
        return door
    method = getattr(Tensor, name, None)
    if name.endswith("_") and not name.startswith("_") and method is not None:
        return method
    return call.operator._op


def _short(call: Call) -> str:
    """The operator's name without its overload."""
    return call.operator.overloadpacket.__name__


def _written_by(call: Call) -> list[Tensor]:
    """The arguments that the call changes."""
    values = dict(zip((argument.name for argument in call.operator._schema.arguments), call.args, strict=False))
    values |= call.kwargs
    changed = [a.name for a in call.operator._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [tensor for name in changed for tensor in _tensors(values.get(name))]


def _held(tensor: Tensor) -> Tensor:
    """The same memory without history."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        raise NotFlatError(f"it works on a {type(tensor).__name__} of layout {tensor.layout}")
    return tensor.detach()


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    """Which block of memory it looks at; recorded blocks are held, so the number is not used again."""
    return tensor.untyped_storage()._cdata


def _place(tensor: Tensor) -> tuple:
    """Where in memory it looks, and how: equal for two tensors that are the same values at any time."""
    look = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    return _memory(tensor), *look, tensor.is_conj(), tensor.is_neg()


def _shape(tensor: Tensor) -> str:
    return f"{tensor.dtype}{tuple(tensor.shape)}"
