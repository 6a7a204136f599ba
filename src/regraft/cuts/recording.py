"""Record one forward of a model: which module was called when, which operation read and wrote which tensor."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from regraft.cuts.computation import plain_arguments
from regraft.cuts.operators import (
    READS_DATA,
    flops_of,
    function_name,
    is_cheap,
    is_random,
    needs_data,
    normalises_by_batch,
    reads_only_shape,
    written_arguments,
)
from regraft.cuts.record import Call, Operation, Record, Slot, Value
from regraft.cuts.traces import Traces, gives_code
from regraft.errors import SplitError
from regraft.tensors.keeping import generator_positions
from regraft.tensors.trees import map_tree, tensors_of


def record_forward(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> Record:
    """Run `model(*args, **kwargs)` once without gradients, in its present mode, and record it.

    The run moves running statistics and draws random numbers as any forward does: the caller restores them.
    """
    recorder = _Recorder(model)
    recorder.record.inputs = recorder.register_inputs(args, dict(kwargs))
    with torch.no_grad(), shadowed_forwards(recorder.shadows()), _Operators(recorder), _Functions(recorder):
        model(*args, **kwargs)
    return recorder.record


@contextmanager
def shadowed_forwards(shadows: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """While in the block, these modules run another `forward`: an attribute of the instance that hides the class's."""
    hidden = {module: module.__dict__.get("forward") for module in shadows}
    try:
        for module, forward in shadows.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, own in hidden.items():
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = own


class _Recorder:
    """Holds the state of a recording: which tensor holds which value now, and which call and operation is running."""

    def __init__(self, model: nn.Module) -> None:
        self.record = Record()
        self.model = model
        self.running: list[Call] = []
        self.counts: dict[tuple[int, str], int] = {}
        self.operation: Operation | None = None
        self.current: dict[tuple, int] = {}  # a view's signature → the value that it holds
        self.last_write: dict[int, int] = {}  # a storage → the value last written into it
        self.first: dict[int, int] = {}  # a storage → the first value seen in it
        # A tensor object → its value: tells apart two views of the same place. Weak, as are the storages: a recording
        # needs no more memory than the forward.
        self.objects = WeakTensorKeyDictionary()
        self.storages: dict[int, StorageWeakRef] = {}  # as long as one is known, its address is not used again
        self.bare: list[Tensor] = []  # tensors without a storage, kept for the same reason
        self.positions, self.watched = generator_positions(), 0
        self.outside: set[int] = set()  # storages that were there before the forward, other than inputs
        for name, parameter in model.named_parameters():
            self.add(parameter, "parameter", name=name, is_trainable=parameter.requires_grad)
        for name, buffer in model.named_buffers():
            self.add(buffer, "buffer", name=name)

    def register_inputs(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Give every tensor of the inputs its value; the structure of (args, kwargs) with Slots."""
        named = dict(zip(_positional_names(self.model, len(args)), args, strict=True)) | kwargs
        for name, value in named.items():
            tensors = tensors_of(value)
            for position, tensor in enumerate(tensors):
                if self.signature(tensor) not in self.current:
                    self.add(tensor, "input", name=name if len(tensors) == 1 else f"{name}.{position}")
        return self.slots((args, kwargs))

    def signature(self, tensor: Tensor) -> tuple:
        """What tells this view from others: storage, place, shape, type."""
        if tensor.is_nested:
            raise SplitError("it makes a nested tensor, which has no shape. Pad instead, or leave the layer trainable.")
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse and other tensors without a storage
            self.bare.append(tensor)
            return (-id(tensor), 0, tuple(tensor.shape), (), tensor.dtype)
        if storage._cdata not in self.storages:
            self.storages[storage._cdata] = StorageWeakRef(storage)
        return (storage._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def add(self, tensor: Tensor, kind: str, **details: Any) -> int:
        """A new value, which this tensor's view now holds."""
        signature = self.signature(tensor)
        shape, stride = signature[2], signature[3]
        value = Value(len(self.record.values), kind, shape, stride, tensor.dtype, tensor.device, **details)
        value.storage = signature[0]
        value.tensor = tensor if kind == "constant" else None
        self.record.values.append(value)
        self.current[signature] = self.objects[tensor] = value.index
        if signature[0] not in self.first:
            self.first[signature[0]] = value.index
            if kind in ("parameter", "buffer", "constant"):
                self.outside.add(signature[0])
        return value.index

    def value_of(self, tensor: Tensor) -> int:
        """The value that this tensor holds now."""
        signature = self.signature(tensor)
        written = self.last_write.get(signature[0], -1)
        for known in (self.objects.get(tensor, -1), self.current.get(signature, -1)):
            if known >= max(written, 0):
                self.objects[tensor] = known
                return known
        source = written if written >= 0 else self.first.get(signature[0], -1)
        if source < 0:
            return self.add(tensor, "constant")
        return self.add(tensor, "view", sources=(source,))

    def slots(self, value: Any) -> Any:
        """The structure with a Slot for each tensor."""
        return map_tree(lambda tensor: Slot(self.value_of(tensor)), value)

    def shadows(self) -> dict[nn.Module, Callable]:
        """For each module a forward that notes the call and runs the true one."""
        counts: dict[str, int] = {}
        return {
            module: _noting(self, name, module, counts)
            for name, module in self.model.named_modules()
            if not isinstance(module, torch.jit.ScriptModule)
        }

    def count(self, name: str) -> int:
        """How many functions of this name the running call has run; counts one more."""
        key = (self.running[-1].index if self.running else -1, name)
        self.counts[key] = self.counts.get(key, -1) + 1
        return self.counts[key]

    def watch_generators(self) -> None:
        """Note when the running call has drawn random numbers that are not torch's since the last look."""
        positions = generator_positions()
        if positions != self.positions and self.running:
            self.record.draws.append((self.running[-1].index, self.watched))
        self.positions, self.watched = positions, len(self.record.operations)

    def note(self, operation: Operation) -> None:
        """Give the operation its place in the record, once."""
        if operation.index >= 0 or not self.running:
            return
        call = self.running[-1]
        operation.index, operation.call = len(self.record.operations), call.index
        self.record.operations.append(operation)
        call.operations.append(operation.index)


def _positional_names(model: nn.Module, count: int) -> list[str]:
    """The names of the forward's first parameters; their positions where the forward takes `*args`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, p in inspect.signature(model.forward).parameters.items() if p.kind in kinds]
    return [names[position] if position < len(names) else str(position) for position in range(count)]


def _noting(recorder: _Recorder, name: str, module: nn.Module, counts: dict[str, int]) -> Callable:
    """A forward that notes its call, its arguments and its output."""
    forward = module.forward
    is_torchs = type(module).__module__.startswith("torch.nn.")  # known to draw and to leave nothing; looks take time

    def forward_and_note(*args: Any, **kwargs: Any) -> Any:
        recorder.watch_generators()
        parent = recorder.running[-1].index if recorder.running else -1
        call = Call(len(recorder.record.calls), name, counts.get(name, 0), parent)
        counts[name] = call.ordinal + 1
        recorder.record.calls.append(call)
        with torch._C.DisableTorchFunction():
            call.arguments = tuple(recorder.value_of(tensor) for tensor in tensors_of((args, kwargs)))
        recorder.running.append(call)
        traces = None if is_torchs else Traces(module, args, kwargs)
        try:
            output = forward(*args, **kwargs)
            if is_torchs:
                recorder.watched = len(recorder.record.operations)
            else:
                recorder.watch_generators()
        finally:
            recorder.running.pop()
        with torch._C.DisableTorchFunction():
            call.output = recorder.slots(output)
        call.has_traces = traces is not None and (traces.left() or gives_code(output))
        return output

    return forward_and_note


class _Functions(TorchFunctionMode):
    """Sees each function of torch as the forward calls it."""

    def __init__(self, recorder: _Recorder) -> None:
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, kwargs = self.recorder, kwargs or {}
        if recorder.operation is not None:
            return func(*args, **kwargs)
        before_each = [recorder.value_of(tensor) for tensor in tensors_of((args, kwargs))]
        name = function_name(func)
        operation = Operation(-1, name, -1, recorder.count(name), tuple(dict.fromkeys(before_each)))
        operation.plain = plain_arguments(name, args, kwargs)
        recorder.operation = operation
        try:
            result = func(*args, **kwargs)
        finally:
            recorder.operation = None
        if operation.name in READS_DATA and operation.arguments:
            operation.needs_data = True
            recorder.note(operation)
        if operation.index >= 0:
            operation.outputs = recorder.slots(result)
            given = tensors_of((args, kwargs))
            after = {before: recorder.value_of(tensor) for before, tensor in zip(before_each, given, strict=True)}
            operation.changes = {before: value for before, value in after.items() if value != before}
        return result


class _Operators(TorchDispatchMode):
    """Sees each operator that torch runs, with what it reads and writes."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapping that torch would do imports its compiler: four seconds, once a process

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, kwargs = self.recorder, kwargs or {}
        reads = tuple(dict.fromkeys(recorder.value_of(tensor) for tensor in tensors_of((args, kwargs))))
        operation = recorder.operation or Operation(-1, func._schema.name.split("::")[-1], -1, -1, reads)
        recorder.note(operation)
        changed = written_arguments(func, args, kwargs)
        if any(recorder.signature(tensor)[0] in recorder.outside for tensor in changed):
            operation.is_stateful = True
        result = func(*args, **kwargs)
        operation.is_stateful |= normalises_by_batch(func, args, kwargs)
        operation.is_random |= is_random(func, args, kwargs)
        operation.needs_data |= needs_data(func, args, kwargs)
        operation.is_cheap &= is_cheap(func)
        operation.flops += flops_of(func, args, kwargs, result)
        written = _write(recorder, operation, changed, tensors_of(result))
        operation.steps.append((operation.as_given(reads, recorder.record.values), written, reads_only_shape(func)))
        if recorder.operation is None:
            operation.outputs = recorder.slots(result)
        return result


def _write(recorder: _Recorder, operation: Operation, changed: list[Tensor], results: list[Tensor]) -> tuple[int, ...]:
    """New values for what an operator changed in place and for what it gave."""
    written = []
    for tensor in changed:
        recorder.value_of(tensor)  # so that the storage is known before it changes
        index = recorder.add(tensor, "result", operation=operation.index)
        recorder.last_write[recorder.signature(tensor)[0]] = index
        written.append(index)
    for tensor in results:
        known = recorder.objects.get(tensor, -1)
        if known < 0 or known < recorder.last_write.get(recorder.signature(tensor)[0], -1):
            written.append(recorder.add(tensor, "result", operation=operation.index))
    return tuple(written)
