"""A function of tensors recorded once as a flat list of operators, and run again without the Python that made it.

The list is text that can be read: `print(flat.text)`. Values keep the memory that they had while recording, so that
most operators write where they wrote before, and views cost nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from types import BuiltinFunctionType
from typing import Any, final

import torch
from torch import Tensor

from regraft.learning.operator_recording import NotFlatError, OperatorCall, Recording, memory_of, tensors_in

aten = torch.ops.aten
View = tuple[Any, ...]  # memory, offset, shape, strides, type

# What makes a tensor from the shape of another, or from nothing, whatever the values are.
EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default,
         aten.new_empty_strided.default}  # fmt: skip
SHAPED = EMPTY | {aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.new_zeros.default,
                  aten.new_ones.default, aten.new_full.default}  # fmt: skip
# Their forms for given memory resize it to the examples' losses and back, with a warning each time.
RESIZING = {aten.mse_loss.default, aten.smooth_l1_loss.default, aten.huber_loss.default, aten.soft_margin_loss.default,
            aten.binary_cross_entropy.default}  # fmt: skip
# The same arithmetic by an operator that can write into given memory.
BETTER = {aten.relu.default: (torch.clamp_min, (0,))}


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

    text       the Python that runs
    constants  tensors from outside whose values must not change between runs: results that depend on them alone were
               computed once
    call       `call(*inputs)` → the results, for inputs of the shapes that were recorded; without gradients
    """

    def __init__(self, text: str, names: dict[str, Any], constants: Iterable[Tensor] = ()) -> None:
        self.text, self.constants = text, tuple(constants)
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
        self.names: dict[str, object] = {}
        self.name_of: dict[Any, str] = {}
        self.local: dict[View, str] = {}  # view of memory -> the variable that holds it in a run
        self.numbers = count()
        self.variable: set[int] = set()  # memory that is another one in each run
        self.known: set[int] = set()  # memory of known origin
        self.constant: set[int] = set()  # memory whose values never change
        self.constants: dict[int, Tensor] = {}  # of it, what came from outside
        self.written = recording.written() | {memory_of(tensor) for tensor in changing}

    def whole(self) -> FlatFunction:
        """The whole function."""
        arguments = [self._bind(tensor) for tensor in self.recording.inputs]
        for call in self.recording.calls:
            self._write(call)
        results = ", ".join(self._word(tensor) for tensor in self.recording.results)
        body = [*self.lines, f"return ({results},)"]
        text = f"def flat({', '.join(arguments)}):\n" + "".join(f"    {line}\n" for line in body)
        return FlatFunction(text, self.names, self.constants.values())

    def _write(self, call: OperatorCall) -> None:
        """The line for one call, if it needs one."""
        outputs = tensors_in(call.outputs)
        memory = set(map(memory_of, outputs))
        for tensor in tensors_in((call.args, call.kwargs)):
            self._note_argument(tensor)
        if call.writes():
            self._line(call)
            if not memory <= self.known:
                raise NotFlatError(f"it makes new memory while it writes ({call.operator})")
        elif outputs and memory <= self.known:  # a view
            if memory & self.variable:
                self._line(call, is_bound=True)
        elif self._is_settled(call):
            self.known |= memory
            self.constant |= set() if call.operator in EMPTY else memory
        elif outputs:
            self._compute(call, outputs)

    def _compute(self, call: OperatorCall, outputs: list[Tensor]) -> None:
        """An operator with new values: into their recorded memory where it can, else into new variables."""
        function, extra, into = _writing_form(call)
        if function is None:
            for output in outputs:
                self.variable.add(memory_of(output))
            self._line(call, is_bound=True)
        else:
            words = [*self._words(call.args), *map(repr, extra)] + [
                f"{name}={self._word(value)}" for name, value in call.kwargs.items()
            ]
            words += into(list(map(self._constant, outputs)))
            self.lines.append(f"{self._constant(function, _short(call))}({', '.join(words)})")
        self.known.update(map(memory_of, outputs))

    def _line(self, call: OperatorCall, *, is_bound: bool = False) -> None:
        """The call in its own form; bound, its outputs get variables."""
        words = [*self._words(call.args), *(f"{name}={self._word(value)}" for name, value in call.kwargs.items())]
        text = f"{self._constant(_direct(call), _short(call))}({', '.join(words)})"
        # The targets come after the words: an output may take the place of an argument, as a detached view does.
        self.lines.append(self._targets(call) + text if is_bound else text)

    def _targets(self, call: OperatorCall) -> str:
        """`a, b = ` for the call's outputs; None among them keeps its place."""
        if isinstance(call.outputs, Tensor):
            return self._bind(call.outputs) + " = "
        if not all(output is None or isinstance(output, Tensor) for output in call.outputs):
            raise NotFlatError(f"its values are nested ({call.operator})")
        return ", ".join("_" if output is None else self._bind(output) for output in call.outputs) + ", = "

    def _is_settled(self, call: OperatorCall) -> bool:
        """Whether the recorded values stay right for good: they depend on constants only and nobody writes there."""
        if call.operator in EMPTY:
            return True
        if torch.Tag.nondeterministic_seeded in call.operator.tags:
            return False
        sources = [] if call.operator in SHAPED else tensors_in((call.args, call.kwargs))
        return all(memory_of(source) in self.constant for source in sources) and not any(
            memory_of(output) in self.written for output in tensors_in(call.outputs)
        )

    def _note_argument(self, tensor: Tensor) -> None:
        """Memory seen for the first time as an argument comes from outside: it is fixed."""
        memory = memory_of(tensor)
        if memory not in self.known:
            self.known.add(memory)
            if memory not in self.written:
                self.constant.add(memory)
                self.constants[memory] = tensor

    def _bind(self, tensor: Tensor) -> str:
        """A variable for this value."""
        name = f"t{next(self.numbers)}"
        self.local[_view(tensor)] = name
        self.known.add(memory_of(tensor))
        self.variable.add(memory_of(tensor))
        return name

    def _words(self, values: Sequence[object]) -> list[str]:
        return [self._word(value) for value in values]

    def _word(self, value: object) -> str:
        """How a value appears in the text."""
        if isinstance(value, Tensor):
            if memory_of(value) not in self.variable:
                return self._constant(value)
            if _view(value) not in self.local:
                raise NotFlatError("it looks at memory in a way that was not recorded")
            return self.local[_view(value)]
        if isinstance(value, (list, tuple)):
            if not any(memory_of(tensor) in self.variable for tensor in tensors_in(value)):
                return self._constant(list(value)) if tensors_in(value) else repr(list(value))
            return "[" + ", ".join(self._words(value)) + "]"
        if value is None or isinstance(value, (bool, int)):
            return repr(value)
        return self._constant(value)

    def _constant(self, value: object, hint: str = "c") -> str:
        """A name for an object that stays."""
        key = _view(value) if isinstance(value, Tensor) else id(value)
        if key not in self.name_of:
            name = hint if hint not in self.names and hint != "c" else f"{hint}{len(self.names)}"
            self.names[name], self.name_of[key] = value, name
        return self.name_of[key]


def _writing_form(call: OperatorCall) -> tuple[Any, tuple[Any, ...], Callable[[list[str]], list[str]]]:
    """How to call the operator so that it writes into given memory: (function, further arguments, its words).

    None where it would compute elsewhere and copy (torch tags such forms as generated).
    """
    if call.operator in BETTER:
        return *BETTER[call.operator], _as_out
    if call.operator in RESIZING:
        return None, (), _as_out
    form = _out_overload(call.operator)
    if form is None:
        return None, (), _as_out
    into = [argument.name for argument in form._schema.arguments if argument.is_out]
    function = getattr(torch, call.operator.overloadpacket.__name__, None)
    if isinstance(function, BuiltinFunctionType) and (into == ["out"] or len(into) > 1):
        return function, (), _as_out
    return form._op, (), lambda words: [f"{name}={word}" for name, word in zip(into, words, strict=True)]


def _out_overload(operator: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """The overload with the same arguments that writes its results into given memory; None where there is none."""
    packet = operator.overloadpacket
    arguments = [argument.name for argument in operator._schema.arguments]
    forms: list[torch._ops.OpOverload] = [getattr(packet, name) for name in packet.overloads()]
    for form in forms:
        schema = form._schema.arguments
        inputs = [argument.name for argument in schema if not argument.is_out]
        if inputs == arguments != [argument.name for argument in schema] and torch.Tag.generated not in form.tags:
            return form
    return None


def _as_out(words: list[str]) -> list[str]:
    """`out=` as torch's Python functions take it."""
    return [f"out={words[0]}" if len(words) == 1 else f"out=({', '.join(words)})"]


def _direct(call: OperatorCall) -> Any:
    """The quickest way to call an operator: torch's own Python function where there is one (2 µs less), or method."""
    name = call.operator.overloadpacket.__name__
    function = getattr(torch, name, None)
    if isinstance(function, BuiltinFunctionType) and call.operator not in SHAPED:
        return function
    method = getattr(Tensor, name, None)
    if name.endswith("_") and not name.startswith("_") and method is not None:
        return method
    return call.operator._op


def _short(call: OperatorCall) -> str:
    """The operator's name without its overload."""
    return str(call.operator.overloadpacket.__name__)


def _view(tensor: Tensor) -> View:
    """Which part of memory it shows, and how: equal for two tensors that are the same values at any time."""
    look = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    return memory_of(tensor), *look, tensor.is_conj(), tensor.is_neg()
