"""Record one forward of a model: which module was called when, which operation read and wrote which tensor."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from regraft.cuts.operators import (
    READS_DATA,
    Operator,
    flops_of,
    function_name,
    is_cheap,
    is_random,
    needs_data,
    normalises_by_batch,
    plain_arguments,
    reads_only_shape,
    written_arguments,
)
from regraft.cuts.record import Call, Record, RecordedOperation, RecordedStep, Slot, Value
from regraft.errors import SplitError
from regraft.tensors.keeping import Forward, generator_positions, shadowed_forwards
from regraft.tensors.trees import PLAIN, T, find_in, map_tree, parts_of, tensors_of

Signature = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]
DEPTH = 4  # containers in containers: a cache of keys and values is an object with a list of objects


def record_forward(model: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[Record, object]:
    """Run `model(*args, **kwargs)` once without gradients, in its present mode: its record, and the output itself.

    The run moves running statistics and draws random numbers as any forward does: the caller restores them.
    """
    recorder = _Recorder(model)
    inputs = recorder.register_inputs(args, dict(kwargs))
    with torch.no_grad(), shadowed_forwards(recorder.shadows()), _Operators(recorder), _Functions(recorder):
        output: object = model(*args, **kwargs)
    calls = tuple(call for call in recorder.calls if call is not None)
    values, operations = tuple(recorder.values), tuple(recorder.operations)
    return Record(values, operations, calls, inputs, tuple(recorder.python_draws)), output


@dataclass
class _Running:
    """An operation that is running: what is known of it so far. It has no index before torch runs something for it."""

    name: str
    ordinal: int
    arguments: tuple[int, ...]
    plain: str = ""
    numbers: tuple[int, ...] = ()
    index: int = -1
    call: int = -1
    gives_python: bool = False
    steps: list[RecordedStep] = field(default_factory=list)

    def finished(self, outputs: object, changes: Mapping[int, int]) -> RecordedOperation:
        """The operation as it is recorded."""
        return RecordedOperation(
            self.index, self.name, self.call, self.ordinal, self.arguments, outputs, changes, tuple(self.steps),
            self.gives_python, self.plain, self.numbers,
        )  # fmt: skip


class _Recorder:
    """Holds the state of a recording: which tensor holds which value now, and which call and operation is running."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.values: list[Value] = []
        self.operations: list[RecordedOperation] = []
        self.calls: list[Call | None] = []  # None as long as the call is running
        self.python_draws: list[tuple[int, int]] = []
        self.running: list[int] = []  # the running calls, from the outside in
        self.counts: dict[tuple[int, str], int] = {}
        self.operation: _Running | None = None
        self.current: dict[Signature, int] = {}  # a view's signature → the value that it holds
        self.last_write: dict[int, int] = {}  # a storage → the value last written into it
        self.first: dict[int, int] = {}  # a storage → the first value seen in it
        # A tensor object → its value: distinguishes views of the same memory. Weak, as are the storages: a recording
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

    def register_inputs(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Give every tensor of the inputs its value; the structure of (args, kwargs) with Slots."""
        named = dict(zip(_positional_names(self.model, len(args)), args, strict=True)) | kwargs
        for name, value in named.items():
            tensors = tensors_of(value)
            for position, tensor in enumerate(tensors):
                if self.signature(tensor) not in self.current:
                    self.add(tensor, "input", name=name if len(tensors) == 1 else f"{name}.{position}")
        return self.slots((args, kwargs))

    def signature(self, tensor: Tensor) -> Signature:
        """What distinguishes this view from others: storage, offset, shape, strides, type."""
        if tensor.is_nested:
            raise SplitError("it makes a nested tensor, which has no shape. Pad instead, or leave the layer trainable.")
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse and other tensors without a storage
            self.bare.append(tensor)
            return (-id(tensor), 0, tuple(tensor.shape), (), tensor.dtype)
        if storage._cdata not in self.storages:
            self.storages[storage._cdata] = StorageWeakRef(storage)
        return (storage._cdata, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def add(
        self, tensor: Tensor, kind: str, *, name: str = "", operation: int = -1, base: int = -1,
        is_trainable: bool = False,
    ) -> int:  # fmt: skip
        """A new value, which this tensor's view now holds."""
        signature = self.signature(tensor)
        storage, _, shape, stride, dtype = signature
        index, constant = len(self.values), tensor if kind == "constant" else None
        self.values.append(
            Value(
                index, kind, shape, stride, dtype, tensor.device, storage, name, operation, base, is_trainable, constant
            )
        )
        self.current[signature] = self.objects[tensor] = index
        if storage not in self.first:
            self.first[storage] = index
            if kind in ("parameter", "buffer", "constant"):
                self.outside.add(storage)
        return index

    def known(self, tensor: Tensor) -> int:
        """The value that was last seen in this tensor object; -1 for a new object."""
        return int(self.objects.get(tensor, -1))

    def value_of(self, tensor: Tensor) -> int:
        """The value that this tensor holds now."""
        signature = self.signature(tensor)
        written = self.last_write.get(signature[0], -1)
        for known in (self.known(tensor), self.current.get(signature, -1)):
            if known >= max(written, 0):
                self.objects[tensor] = known
                return known
        base = written if written >= 0 else self.first.get(signature[0], -1)
        return self.add(tensor, "constant") if base < 0 else self.add(tensor, "view", base=base)

    def slots(self, value: T) -> T:
        """The structure with a Slot for each tensor."""
        return map_tree(lambda tensor: Slot(self.value_of(tensor)), value)

    def shadows(self) -> dict[nn.Module, Forward]:
        """For each module a forward that notes the call and runs the true one."""
        counts: dict[str, int] = {}
        return {
            module: _noting(self, name, module, counts)
            for name, module in self.model.named_modules()
            if not isinstance(module, torch.jit.ScriptModule)
        }

    def count(self, name: str) -> int:
        """How many functions of this name the running call has run; counts one more."""
        key = (self.running[-1] if self.running else -1, name)
        self.counts[key] = self.counts.get(key, -1) + 1
        return self.counts[key]

    def watch_generators(self) -> None:
        """Note when the running call has drawn random numbers that are not torch's since the last look."""
        positions = generator_positions()
        if positions != self.positions and self.running:
            self.python_draws.append((self.running[-1], self.watched))
        self.positions, self.watched = positions, len(self.operations)

    def note(self, operation: _Running) -> None:
        """Give the operation its place in the record, once."""
        if operation.index < 0 and self.running:
            operation.index, operation.call = len(self.operations), self.running[-1]

    def finish(
        self, operation: _Running, result: object, before: Sequence[int] = (), given: Sequence[Tensor] = ()
    ) -> None:
        """Record the operation, if torch ran anything for it inside the model's forward.

        before  the values that the `given` tensors held before it
        """
        if operation.index >= 0:
            outputs = self.slots(result)
            changes = {b: after for b, t in zip(before, given, strict=True) if (after := self.value_of(t)) != b}
            self.operations.append(operation.finished(outputs, changes))


def _positional_names(model: nn.Module, count: int) -> list[str]:
    """The names of the forward's first parameters; their positions where the forward takes `*args`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, p in inspect.signature(model.forward).parameters.items() if p.kind in kinds]
    return [names[position] if position < len(names) else str(position) for position in range(count)]


def _noting(recorder: _Recorder, name: str, module: nn.Module, counts: dict[str, int]) -> Forward:
    """A forward that notes its call, its arguments and its output."""
    forward: Forward = module.forward
    is_torchs = type(module).__module__.startswith("torch.nn.")  # known to draw and to leave nothing; looks take time

    def forward_and_note(*args: object, **kwargs: object) -> object:
        recorder.watch_generators()
        index, parent = len(recorder.calls), recorder.running[-1] if recorder.running else -1
        ordinal = counts[name] = counts.get(name, -1) + 1
        recorder.calls.append(None)
        with torch._C.DisableTorchFunction():
            arguments = tuple(recorder.value_of(tensor) for tensor in tensors_of((args, kwargs)))
        recorder.running.append(index)
        effects = None if is_torchs else SideEffects(module, args, kwargs)
        output: object = None
        try:
            output = forward(*args, **kwargs)
            if is_torchs:
                recorder.watched = len(recorder.operations)
            else:
                recorder.watch_generators()
        finally:
            recorder.running.pop()
            with torch._C.DisableTorchFunction():
                slots = recorder.slots(output)
            has_effects = effects is not None and (effects.any() or gives_code(output))
            recorder.calls[index] = Call(index, name, ordinal, parent, arguments, slots, has_effects)
        return output

    return forward_and_note


class _Functions(TorchFunctionMode):
    """Sees each function of torch as the forward calls it."""

    def __init__(self, recorder: _Recorder) -> None:
        self.recorder = recorder

    def __torch_function__(
        self, func: Forward, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        recorder, kwargs = self.recorder, kwargs or {}
        if recorder.operation is not None:
            return func(*args, **kwargs)
        given = tensors_of((args, kwargs))
        before = [recorder.value_of(tensor) for tensor in given]
        name = function_name(func)
        operation = _Running(name, recorder.count(name), tuple(dict.fromkeys(before)), *plain_arguments(args, kwargs))
        recorder.operation, result = operation, None
        try:
            result = func(*args, **kwargs)
        finally:  # an operation that failed is recorded, too: the forward may go on without it
            recorder.operation = None
            operation.gives_python = name in READS_DATA and bool(given)
            # Some functions run nothing and give what they got: `contiguous`, `to`, a dropout in evaluation.
            if operation.gives_python or any(result is tensor for tensor in given):
                recorder.note(operation)
            recorder.finish(operation, result, before, given)
        return result


class _Operators(TorchDispatchMode):
    """Sees each operator that torch runs, with what it reads and writes."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapping that torch would do imports its compiler: four seconds, once a process

    def __torch_dispatch__(
        self, func: Operator, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        recorder, kwargs = self.recorder, kwargs or {}
        reads = tuple(dict.fromkeys(recorder.value_of(tensor) for tensor in tensors_of((args, kwargs))))
        operation = recorder.operation or _Running(func._schema.name.split("::")[-1], -1, reads)
        recorder.note(operation)
        changed = written_arguments(func, args, kwargs)
        is_stateful = any(recorder.signature(tensor)[0] in recorder.outside for tensor in changed)
        result = func(*args, **kwargs)
        writes = _write(recorder, operation.index, changed, tensors_of(result))
        operation.steps.append(RecordedStep(
            _as_given(recorder.values, operation, reads), writes, reads_only_shape(func),
            is_random=is_random(func, args, kwargs),
            is_stateful=is_stateful or normalises_by_batch(func, args, kwargs),
            needs_data=needs_data(func, args, kwargs),
            is_cheap=is_cheap(func),
            flops=flops_of(func, args, kwargs, result),
        ))  # fmt: skip
        if recorder.operation is None:
            recorder.finish(operation, result)
        return result


def _write(recorder: _Recorder, operation: int, changed: list[Tensor], results: list[Tensor]) -> tuple[int, ...]:
    """New values for what an operator changed in place and for what it gave."""
    written = []
    for tensor in changed:
        recorder.value_of(tensor)  # so that the storage is known before it changes
        index = recorder.add(tensor, "result", operation=operation)
        recorder.last_write[recorder.signature(tensor)[0]] = index
        written.append(index)
    for tensor in results:
        known = recorder.known(tensor)
        if known < 0 or known < recorder.last_write.get(recorder.signature(tensor)[0], -1):
            written.append(recorder.add(tensor, "result", operation=operation))
    return tuple(written)


def _as_given(values: Sequence[Value], operation: _Running, reads: tuple[int, ...]) -> tuple[int, ...]:
    """The reads, with the operation's own argument in the place of another view of the argument's storage."""
    given = {values[argument].storage: argument for argument in operation.arguments}
    own = {value for step in operation.steps for value in step.writes}.union(operation.arguments)
    return tuple(read if read in own else given.get(values[read].storage, read) for read in reads)


class SideEffects:
    """What a call changes beside its output: the module's attributes, the containers in its arguments.

    Made before the call, it remembers what is in them; `any` compares with what is in them now.
    """

    def __init__(self, module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        own = [module.__dict__, module._buffers, module._parameters, module._modules]
        held = [value for name, value in module.__dict__.items() if not name.startswith("_")]
        inside = _containers((held, args, tuple(kwargs.values())), DEPTH)
        self.before = [(container, _contents(container)) for container in (*own, *inside)]

    def any(self) -> bool:
        """Whether one of them holds something else now."""
        return any(not _same(_contents(container), contents) for container, contents in self.before)


def gives_code(output: object) -> bool:
    """Whether there is a function or an iterator in an output: the tensors that it holds are out of sight."""
    return any(True for _ in find_in(output, (FunctionType, MethodType, partial, Iterator)))


def _containers(value: object, depth: int) -> Iterator[object]:
    """The lists, dictionaries and objects in a value, itself included."""
    if depth == 0 or isinstance(value, PLAIN) or callable(value):
        return
    is_tuple = isinstance(value, tuple)
    if not is_tuple:
        yield value
    for item in value if isinstance(value, set) else parts_of(value).values():
        yield from _containers(item, depth - (not is_tuple))


def _contents(container: object) -> list[object]:
    """What is in a container now: its keys and its items."""
    parts = parts_of(container)
    return list(container) if isinstance(container, set) else [*parts, *parts.values()]


def _same(items: list[object], others: list[object]) -> bool:
    """The same objects, or equal numbers and texts."""
    return len(items) == len(others) and all(
        a is b or (type(a) is type(b) and isinstance(a, (int, float, str)) and a == b)
        for a, b in zip(items, others, strict=True)
    )
