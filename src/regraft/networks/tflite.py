"""The network of a TensorFlow Lite file: its operators, read as TensorFlow's, in the words of `network`.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, schema version 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.arrays import Checkpoint
from regraft.containers.flatbuffer import FlatTable, root_table
from regraft.containers.spans import mapped
from regraft.formats.tensorflow_program import ProgramOperation
from regraft.formats.tflite import constant_names
from regraft.networks.network import Input, Network, NetworkInput, Untranslated, nodes_needed
from regraft.networks.tensorflow_constants import MOST_NUMBERS
from regraft.networks.tensorflow_states import walk_states
from regraft.networks.tensorflow_table import TABLE
from regraft.networks.tensorflow_translation import TensorFlowTranslation, walk
from regraft.networks.tflite_operations import DTYPES, OPERATIONS, WORDS

_NOTE = (
    "The file is quantised: the network has the weights' numbers and computes activations without rounding them, "
    "so that its outputs are near those of the file's own runtime, and not equal. It takes and gives real numbers."
)
_STATES = (
    "The file keeps {} states between calls. They are inputs of the module, at first zeros, and outputs, which are the "
    "inputs of the next call."
)
_HYBRID = (
    "The file holds weights as int8, and its runtime rounds the activations before them to int8; the network does not, "
    "so that its outputs are near those of the runtime, and not equal."
)
_PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "FullyConnected", "Conv2DBackpropInput", "BatchMatMul")
_CODED = ("int8", "uint8", "int16", "int4")


@dataclass(frozen=True)
class _Tensor:
    """One tensor of a subgraph: the name of its value, its dtype in the network, its shape, whether it is quantised."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    is_coded: bool


def network_of_tflite(checkpoint: Checkpoint) -> Network:
    """What the first subgraph of the file describes.  checkpoint  an opened TensorFlow Lite file"""
    model = root_table(mapped(checkpoint.path))
    file = _File(checkpoint, model, constant_names(checkpoint.path, model))
    return replace(file.network(0, None), name=checkpoint.path.stem)


def tensor_indices(checkpoint: Checkpoint) -> dict[str, int]:
    """Value of the network → the index of its tensor in the first subgraph."""
    model = root_table(mapped(checkpoint.path))
    subgraph, constants = model.tables(2)[0], constant_names(checkpoint.path, model)[0]
    tensors = _tensors(subgraph, constants)
    _name_outputs(subgraph, tensors)
    return {tensor.name: index for index, tensor in enumerate(tensors)}


@dataclass(frozen=True)
class _File:
    """The file, and for each subgraph which of its tensors are constants: index → name in the checkpoint."""

    checkpoint: Checkpoint
    model: FlatTable
    constants: Sequence[Mapping[int, str]]

    def network(self, index: int, outer: Sequence[Input] | None) -> Network:
        """One subgraph.

        outer  what a branch takes of the surrounding graph, in the order of its inputs; None for the whole
        """
        subgraph, constants = self.model.tables(2)[index], self.constants[index]
        tensors = _tensors(subgraph, constants)
        inputs = [int(number) for number in subgraph.numbers(1, "<i4")]
        for number, value in zip(inputs, outer or (), strict=False):
            name = value if isinstance(value, str) else f"{tensors[number].name}@{index}"
            tensors[number] = replace(tensors[number], name=name)
        _name_outputs(subgraph, tensors)
        order, unknown = _operations(self.model, subgraph, tensors)
        given = {operation.name for operation in order} | {tensors[number].name for number in inputs}
        translation = self._translation(order, tensors, constants, given)
        translation.values.update(zip((tensors[number].name for number in inputs), outer or (), strict=False))
        translation.draft.untranslated += unknown
        outputs = tuple(tensors[int(number)].name for number in subgraph.numbers(2, "<i4"))
        states = walk_states(translation, order)
        walk(translation, order, (*outputs, *states.values()))
        return self._network(translation, [tensors[number] for number in inputs], outputs, states)

    def _translation(
        self,
        order: Sequence[ProgramOperation],
        tensors: Sequence[_Tensor],
        constants: Mapping[int, str],
        given: set[str],
    ) -> TensorFlowTranslation:
        arrays = {tensors[number].name: name for number, name in constants.items()}
        empty = {
            tensor.name: np.zeros([size or 0 for size in tensor.shape], "int32")
            for tensor in tensors if 0 in tensor.shape and tensor.name not in given
        }  # fmt: skip

        def read(name: str) -> np.ndarray | None:
            return empty[name] if name in empty else _small(self.checkpoint, arrays.get(name))

        translation = TensorFlowTranslation(
            self.checkpoint, {operation.name: operation for operation in order}, arrays, read, TABLE, is_lite=True,
            branch=lambda number, outer: self.network(int(number), outer),
        )  # fmt: skip
        translation.dtypes.update({tensor.name: tensor.dtype for tensor in tensors})
        if any(tensor.is_coded for tensor in tensors if tensor.name not in arrays):
            translation.draft.notes[_NOTE] = None
        elif any(_is_hybrid(operation, tensors) for operation in order):
            translation.draft.notes[_HYBRID] = None
        return translation

    def _network(
        self, translation: TensorFlowTranslation, inputs: Sequence[_Tensor], outputs: Sequence[str],
        states: Mapping[str, str],
    ) -> Network:  # fmt: skip
        """The network, with the states that the file keeps between calls as inputs and outputs."""
        draft, every = translation.draft, (*outputs, *states.values())
        entries = [NetworkInput(tensor.name, tensor.shape, tensor.dtype) for tensor in inputs]
        entries += [NetworkInput(name, translation.state_shapes[name]) for name in states]
        if states:
            draft.notes[_STATES.format(len(states))] = None
        return Network(
            tuple(entries), nodes_needed(draft.nodes, every), every, notes=tuple(draft.notes),
            untranslated=tuple(draft.untranslated),
        )  # fmt: skip


def _is_hybrid(operation: ProgramOperation, tensors: Sequence[_Tensor]) -> bool:
    """Whether a layer's weights are integers and its input is real."""
    weights = next((tensor for tensor in tensors if tensor.name in operation.inputs[1:2]), None)
    return operation.op in _PRODUCTS and weights is not None and weights.is_coded


def _small(checkpoint: Checkpoint, name: str | None) -> np.ndarray | None:
    """The numbers of a small constant."""
    is_small = name is not None and checkpoint[name].count <= MOST_NUMBERS
    return checkpoint.read(name) if name is not None and is_small else None


def _tensors(subgraph: FlatTable, constants: Mapping[int, str]) -> list[_Tensor]:
    """All tensors, each with a name of its own."""
    tensors: list[_Tensor] = []
    taken = set(constants.values())
    for index, table in enumerate(subgraph.tables(0)):
        name = constants.get(index, "")
        if not name:
            name = table.text(3) or f"tensor_{index}"
            name = name if name not in taken else f"{name}@{index}"
            taken.add(name)
        dtype = DTYPES.get(table.number(1, "b"), "unknown")
        quantisation = table.table(4)
        is_coded = quantisation is not None and bool(len(quantisation.numbers(2, "<f4"))) and dtype in _CODED
        sizes = [int(size) for size in table.numbers(0, "<i4")]
        free = [int(size) for size in table.numbers(7, "<i4")]
        shape = tuple(None if place < len(free) and free[place] < 0 else size for place, size in enumerate(sizes))
        tensors.append(_Tensor(name, "float32" if is_coded or dtype == "float16" else dtype, shape, is_coded))
    return tensors


def _name_outputs(subgraph: FlatTable, tensors: list[_Tensor]) -> None:
    """Name what an operator gives beside its first output after that one: "name:1"."""
    for table in subgraph.tables(3):
        outputs = [int(index) for index in table.numbers(2, "<i4")]
        for place, index in enumerate(outputs[1:], 1):
            tensors[index] = replace(tensors[index], name=f"{tensors[outputs[0]].name}:{place}")


def _operations(
    model: FlatTable, subgraph: FlatTable, tensors: Sequence[_Tensor]
) -> tuple[list[ProgramOperation], list[Untranslated]]:
    """(the operators as operations, those that have no translation)."""
    codes = [(max(code.number(0, "b"), code.number(3, "i")), code.text(1)) for code in model.tables(1)]
    operations: list[ProgramOperation] = []
    unknown: list[Untranslated] = []
    for table in subgraph.tables(3):
        code, custom = codes[table.number(0, "I")]
        outputs = [tensors[int(index)].name for index in table.numbers(2, "<i4")]
        if code not in OPERATIONS:
            word = WORDS.get(code, f"operator {code}")
            unknown.append(Untranslated(f"{word} {custom}".strip(), outputs[0] if outputs else "", ""))
            continue
        operations.append(_operation(code, table, tensors, outputs))
    return operations, unknown


def _operation(code: int, table: FlatTable, tensors: Sequence[_Tensor], outputs: Sequence[str]) -> ProgramOperation:
    word, read = OPERATIONS[code]
    options = table.table(4)
    settings: dict[str, Any] = {} if options is None else read(options)
    inputs = [int(index) for index in table.numbers(1, "<i4")]
    first = tensors[inputs[2 if code == 67 else 0]] if inputs else None
    settings["input_shape"] = None if first is None else first.shape
    if code in (3, 4, 67, 9, 143):
        settings["output_shape"] = tensors[int(table.numbers(2, "<i4")[0])].shape
        settings["fused_ops"] = ["BiasAdd"] if _has_bias(code, inputs) else []
    if code == 4:
        settings["depth_multiplier"] = options.number(3, "i") if options is not None else 1
    names = tuple(tensors[index].name if index >= 0 else "" for index in inputs)
    return ProgramOperation(word, outputs[0] if outputs else word, names, settings)


def _has_bias(code: int, inputs: Sequence[int]) -> bool:
    place = 3 if code == 67 else 2
    return len(inputs) > place and inputs[place] >= 0
