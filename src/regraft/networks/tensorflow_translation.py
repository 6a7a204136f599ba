"""A TensorFlow graph as it is translated: what each of its values is, and the nodes that have been written so far.

TensorFlow Lite's operators are read as those of TensorFlow that they stand for, so that both are one walk.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, final

import numpy as np

from regraft.arrays import Checkpoint
from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import Draft, UnsupportedError, decimal, literal
from regraft.networks.network import Array, Input, Network, Untranslated
from regraft.networks.tensorflow_constants import MOST_NUMBERS, folded
from regraft.operations.moves import Reshape
from regraft.operations.operation import Operation as Move
from regraft.operations.operation import Shape

_MOST_WRITTEN = 64  # numbers of a constant that is written into the code
PASSED = frozenset({
    "Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot", "EnsureShape", "ReadVariableOp",
    "PlaceholderWithDefault", "Enter", "IdentityN", "Dequantize", "Quantize",
})  # fmt: skip
_TRUTHS = frozenset({
    "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "LogicalAnd", "LogicalOr", "LogicalNot",
    "IsNan", "IsInf", "Any", "All",
})  # fmt: skip
_SILENT = ("Const", "VariableV2", "Variable", "VarHandleOp", "NoOp", "Placeholder")
_SIZES = frozenset({"Shape", "Size", "Rank"})


@final
@dataclass
class TensorFlowTranslation:
    """What has been translated of a graph.

    operations  name → operation, of all that can be reached
    arrays      operation that gives an array of the checkpoint → its name there
    read        gives the numbers of an operation that is a constant; None for all others
    table       word of an operation → its translation
    is_lite     whether kernels are laid out as TensorFlow Lite does
    uses        how often each value is taken
    values      value → what it is: another value, an array, or a constant
    known       values whose numbers are known as the graph is read
    dtypes      value → its dtype, where it is none of float32's
    absorbed    names of operations that have become part of a layer
    branch      gives a function of the file as a network, for the values that it takes
    states      name of a state that the file keeps between calls → its value as yet
    users       value → the operations that take it
    """

    checkpoint: Checkpoint
    operations: Mapping[str, ProgramOperation]
    arrays: Mapping[str, str]
    read: Callable[[str], np.ndarray | None]
    table: "Mapping[str, Translate]"
    is_lite: bool = False
    branch: Callable[[Any, Sequence[Input]], Network] | None = None
    draft: Draft = field(default_factory=Draft)
    uses: Counter[str] = field(default_factory=Counter)
    users: dict[str, list[ProgramOperation]] = field(default_factory=dict)
    values: dict[str, Input] = field(default_factory=dict)
    known: dict[str, np.ndarray | None] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    absorbed: set[str] = field(default_factory=set)
    states: dict[str, Input] = field(default_factory=dict)
    state_shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)

    # --- what a value is ----------------------------------------------------------------------------------------------

    def value(self, name: str) -> Input:
        """An operation's input: the name of a value, an array of the checkpoint, or a constant."""
        if name in self.values:
            return self.values[name]
        value = self._constant_value(name)
        if not isinstance(value, str):
            self.values[name] = value
        return value

    def inputs(self, operation: ProgramOperation, *indices: int) -> tuple[Input, ...]:
        """All inputs, or those of these indices."""
        return tuple(self.value(operation.inputs[index]) for index in indices or range(len(operation.inputs)))

    def array(self, name: str) -> Array | None:
        """The array that a value is; None for what is computed as the network runs, and for single numbers."""
        value = self.value(name)
        return value if isinstance(value, Array) else None

    def weight(self, name: str) -> Array | None:
        """The array that a layer takes as its weight, also one of a few numbers; None for what is computed."""
        name = self.origin(name)
        value = self.value(name)
        if isinstance(value, Array):
            return value
        shown = self.arrays.get(name)
        return Array((shown,)) if shown is not None else None

    def origin(self, name: str) -> str:
        """The value that another one only passes on."""
        for _ in range(16):
            operation = self.operations.get(name)
            if operation is None or operation.op not in PASSED or not operation.inputs or name in self.arrays:
                break
            name = operation.inputs[0]
        return name

    def needed_weight(self, operation: ProgramOperation, index: int) -> Array:
        """An input that must be an array. Raises UnsupportedError when it is computed."""
        array = self.weight(operation.inputs[index])
        if array is None:
            raise UnsupportedError("its weights are computed as the network runs")
        return array

    def shape(self, array: Array) -> Shape:
        """The shape of an array as the network takes it."""
        return array.shape_in(self.checkpoint.infos)

    def constant(self, name: str) -> np.ndarray | None:
        """The numbers of a small constant; None for large ones and for what is computed as the network runs."""
        if name not in self.known:
            self.known[name] = self.read(name)
        return self.known[name]

    def integers(self, name: str) -> list[int] | None:
        """The integers of a small constant; None when they are not known."""
        value = self.constant(name)
        return None if value is None else [int(number) for number in value.reshape(-1)]

    def needed_integers(self, operation: ProgramOperation, index: int, what: str) -> list[int]:
        """The same of an input. Raises UnsupportedError when they are computed as the network runs."""
        numbers = self.integers(operation.inputs[index])
        if numbers is None:
            raise UnsupportedError(f"its {what} are computed as the network runs")
        return numbers

    def number(self, name: str) -> float | None:
        """The value of a constant that is one number; None for all others."""
        value = self.constant(name)
        return None if value is None or value.size != 1 else decimal(value.reshape(()))

    def dtype(self, name: str) -> str:
        """The dtype of a value; halves count as float32, in which they are computed."""
        dtype = self.dtypes.get(name, "")
        shown = self.arrays.get(name)
        if not dtype and shown is not None:
            dtype = self.checkpoint[shown].dtype
        return "float32" if dtype in ("", "float16", "bfloat16") else dtype

    def is_integer(self, name: str) -> bool:
        """Whether a value holds whole numbers."""
        return "int" in self.dtype(name)

    def _constant_value(self, name: str) -> Input:
        """A constant or an array of the file; the name itself for what is computed."""
        numbers = self.constant(name)
        shown = self.arrays.get(name)
        is_weight = (
            shown is not None and self.checkpoint[shown].role != "constant" and prod(self.checkpoint[shown].shape) > 1
        )
        if numbers is not None and numbers.size <= _MOST_WRITTEN and not is_weight:
            return literal(numbers)
        if shown is not None:
            return Array((shown,))
        if numbers is not None:
            raise UnsupportedError(f"the constant {name!r} is not in the checkpoint")
        return name

    # --- writing ------------------------------------------------------------------------------------------------------

    def output(self, operation: ProgramOperation, index: int = 0) -> str:
        """The name of what an operation gives."""
        return f"{operation.name}:{index}" if index else operation.name

    def emit(self, operator: str, inputs: Sequence[Input], output: str | Sequence[str], **settings: object) -> None:
        """Add a node."""
        self.draft.emit(operator, inputs, [output] if isinstance(output, str) else output, settings=settings)

    def step(self, operator: str, inputs: Sequence[Input], operation: ProgramOperation, **settings: object) -> str:
        """Add a node that the file does not have, and give the name of its value."""
        output = self.draft.unnamed(operation.name)
        self.draft.emit(operator, inputs, [output], settings=settings)
        return output

    def layer(
        self, operation: ProgramOperation, operator: str, inputs: Sequence[Input], output: str | Sequence[str],
        arrays: Mapping[str, Array], **settings: object,
    ) -> None:  # fmt: skip
        """Add a layer, named after the scope of its first array, else after its operation."""
        source = next((source for array in arrays.values() for source in array.sources), "")
        candidates = [source.rpartition("/")[0], operation.name, source]
        name = self.draft.layer_name(operator, arrays, settings, [name for name in candidates if name])
        outputs = [output] if isinstance(output, str) else output
        self.draft.emit(operator, inputs, outputs, name, arrays, settings)

    def alias(self, output: str, value: Input) -> None:
        """Let an output of an operation be another value."""
        self.values[output] = value

    def only_user(self, name: str) -> ProgramOperation | None:
        """The operation that takes a value, when nothing else does."""
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and self.uses[name] == 1 else None

    def fold(self, operation: ProgramOperation) -> bool:
        """Whether the operation's output is known as the graph is read, and has been noted."""
        if not operation.inputs:
            return False
        if operation.op in PASSED:
            return self._pass(operation)
        array = self.array(operation.inputs[0])
        if array is not None and (moves := self._moves(operation, array)) is not None:
            self.values[operation.name] = Array(array.sources, (*array.operations, *moves))
            return True
        return self._fold_constants(operation, array)

    def _fold_constants(self, operation: ProgramOperation, array: Array | None) -> bool:
        """What is computed from constants alone, and the shape of an array of the file."""
        values = [self.constant(name) for name in operation.inputs]
        if operation.op == "Shape" and array is not None:
            values = [np.broadcast_to(np.zeros(1, np.int8), self.shape(array))]
        known = [value for value in values if value is not None]
        result = folded(operation, known) if len(known) == len(values) else None
        if result is None or result.size > min(_MOST_WRITTEN, MOST_NUMBERS):
            return False
        self.known[operation.name], self.values[operation.name] = result, literal(result)
        self.dtypes[operation.name] = result.dtype.name
        return True

    def _pass(self, operation: ProgramOperation) -> bool:
        """What an operation passes on as it is."""
        for index, name in enumerate(operation.inputs if operation.op == "IdentityN" else operation.inputs[:1]):
            output = self.output(operation, index)
            self.values[output], self.known[output] = self.value(name), self.constant(name)
            self.dtypes[output] = self.dtype(name)
        return True

    def _moves(self, operation: ProgramOperation, array: Array) -> tuple[Move, ...] | None:
        """What an operation does to an array, when it only gives it another shape; None for all others."""
        shape = self.shape(array)
        if operation.op == "Reshape" and (sizes := self.integers(operation.inputs[1])) is not None:
            known = prod(size for size in sizes if size != -1)
            after = tuple(prod(shape) // max(known, 1) if size == -1 else size for size in sizes)
            return (Reshape(after),) if prod(after) == prod(shape) else None
        if operation.op == "ExpandDims" and (axes := self.integers(operation.inputs[1])) is not None:
            place = axes[0] % (len(shape) + 1)
            return (Reshape((*shape[:place], 1, *shape[place:])),)
        return None


Translate = Callable[[TensorFlowTranslation, ProgramOperation], None]


def walk(translation: TensorFlowTranslation, order: Sequence[ProgramOperation], outputs: Sequence[str]) -> None:
    """Translate all operations in their order, each after those that it takes; then name the outputs.

    outputs  values
    """
    for operation in order:
        for name in operation.inputs:
            translation.uses[name] += 1
            translation.users.setdefault(name, []).append(operation)
    translation.uses.update(outputs)
    for operation in order:
        if operation.name in translation.absorbed:
            continue
        try:
            if not translation.fold(operation):
                _translate(translation, operation)
        except UnsupportedError as error:
            translation.draft.untranslated.append(Untranslated(operation.op, operation.name, str(error)))
    for output in outputs:
        value = translation.value(output)
        if value != output:
            translation.emit("identity", [value], output)


def _translate(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Translate one operation, and note the dtype of what it gives."""
    if operation.op in _SILENT or operation.name in translation.arrays:
        return
    translate = translation.table.get(operation.op)
    if translate is None:
        raise UnsupportedError
    translate(translation, operation)
    translation.dtypes.setdefault(operation.name, _dtype_after(translation, operation))


def _dtype_after(translation: TensorFlowTranslation, operation: ProgramOperation) -> str:
    """The dtype of what an operation gives: most give that of their first input that is no setting."""
    if operation.op in _TRUTHS:
        return "bool"
    if operation.op in _SIZES:
        return str(operation.settings.get("out_type") or "int32")
    if operation.op in ("ArgMax", "ArgMin"):
        return str(operation.settings.get("output_type") or "int64")
    place = 1 if operation.op in ("Select", "SelectV2", "Split", "Concat") else 0
    return translation.dtype(operation.inputs[place]) if len(operation.inputs) > place else "float32"
