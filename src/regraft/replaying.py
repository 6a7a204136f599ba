"""Run a part of a recorded forward: the trunk up to the cut, or the head from the cut on.

The user's own forward runs. A skipped call gives its leaf, or a stub: a tensor with shape and type and no data.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regraft.cutting import Choice
from regraft.errors import SplitError
from regraft.operators import function_name
from regraft.recording import Operation, Record, Slot, shadowed_forwards, slots_of
from regraft.structures import map_structure, tensors_of

# What may be asked of a tensor without looking at its data.
_METADATA = """
shape size dim ndim ndimension stride numel nelement element_size dtype device layout itemsize nbytes names
is_floating_point is_complex is_signed is_contiguous is_cuda is_cpu is_mps is_meta is_sparse is_quantized
is_nested is_leaf is_xpu is_mkldnn requires_grad grad_fn grad __len__ __hash__ get_device storage_offset
is_inference is_conj is_neg _backward_hooks output_nr retains_grad is_xla is_hpu is_mtia is_ipu is_vulkan
is_maia is_shared _is_view _version __torch_function__
"""
METADATA = frozenset(_METADATA.split())


class Stub(Tensor):
    """A tensor that knows its shape, type and device, and has no data: what a skipped layer gives."""

    value: int
    run: "_HeadRun"

    @staticmethod
    def __new__(cls, shape: tuple[int, ...], stride: tuple[int, ...], dtype: Any, device: Any) -> "Stub":
        """A stub; its creator sets `value` and `run`."""
        return Tensor._make_wrapper_subclass(cls, shape, stride, dtype=dtype, device=device)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function_name(func) in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        stubs = [tensor for tensor in tensors_of((args, kwargs)) if isinstance(tensor, Stub)]
        return stubs[0].run.operate(func, stubs, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        stubs = [tensor for tensor in tensors_of((args, kwargs)) if isinstance(tensor, Stub)]
        raise stubs[0].run.no_data(stubs, func)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Stub(shape={tuple(self.shape)}, dtype={self.dtype}, value={self.value})"


class MissingDataError(SplitError):
    """The head needs the data of a tensor that is no leaf; `values` says which."""

    def __init__(self, message: str, values: tuple[int, ...]) -> None:
        super().__init__(message)
        self.values = values


class Replay:
    """A recorded forward with a choice of where to cut it: runs its trunk and its head with the model's own modules."""

    def __init__(self, model: nn.Module, record: Record, choice: Choice, batch_size: int) -> None:
        self.model, self.record, self.choice, self.batch_size = model, record, choice, batch_size
        self.leaf_names = {value: name for name, value in choice.leaves.items()}
        self.modules = dict(model.named_modules())
        # module name → for each of its calls the output to give, None where its forward runs
        self.outputs: dict[str, list[Any]] = {}
        for call in record.calls:
            if call.index in choice.skipped:
                waiting = self.outputs.setdefault(call.name, [])
                waiting += [None] * (call.ordinal - len(waiting))
                waiting.append(call.output)
        self.operations: dict[tuple, list[Operation]] = {}
        real = self._real_values()
        for operation in record.operations:
            stubs = tuple(value for value in operation.arguments if value not in real)
            if operation.call in choice.opened and stubs:
                self.operations.setdefault((operation.name, stubs), []).append(operation)
        writes = [value for operation in record.operations for value in operation.changes.values()]
        self.overwritten = {
            leaf
            for leaf in choice.leaves.values()
            if any(w > leaf and record.values[w].storage == record.values[leaf].storage for w in writes)
        }

    def _real_values(self) -> set[int]:
        """The values that the head holds with data."""
        kinds = ("parameter", "buffer", "constant")
        real = {value.index for value in self.record.values if value.kind in kinds} | set(self.leaf_names)
        real |= {v for index in self.choice.repeated for v in self.record.operations[index].writes}
        for value in self.record.values:
            if value.sources and all(source in real for source in value.sources):
                real.add(value.index)
        skipped_inside = set()
        for operation in self.record.operations:
            if operation.call in self.choice.opened and operation.index not in self.choice.repeated:
                # An operation on nothing but real tensors runs as it is, needed or not.
                if all(argument in real for argument in operation.arguments):
                    real.update(operation.writes)
            elif operation.call not in self.choice.opened:
                skipped_inside.update(operation.writes)
        return real

    def head(self, features: Mapping[str, Tensor]) -> Any:
        """The model's output from the features."""
        missing = [name for name in self.choice.leaves if name not in features]
        if missing:
            raise SplitError(
                f"The features lack {', '.join(missing)}; they hold {', '.join(features) or 'nothing'}.\n"
                "Compute them with the trunk of the same split."
            )
        return _HeadRun(self, features).run()

    def trunk(self, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The features of these inputs: the model's forward without gradients, up to the last leaf."""
        return _TrunkRun(self).run(lambda: self.model(*args, **kwargs), args, kwargs)

    def trunk_from(self, shallower: "Replay", features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The features from those of a shallower cut of the same model, without the inputs."""
        run = _HeadRun(shallower, features)
        args, kwargs = run.fill(shallower.record.inputs)
        with shadowed_forwards(run.shadows({})):
            return self.trunk(args, kwargs)

    def modules_before_the_cut(self) -> set[str]:
        """The names of the modules that ran in the trunk."""
        before = self._operations_before_the_cut()
        return {self.record.calls[operation.call].name for operation in before}

    def tensors_before_the_cut(self) -> set[str]:
        """The names of the parameters and buffers that the leaves depend on."""
        values = {value for operation in self._operations_before_the_cut() for value in operation.inputs}
        kinds = ("parameter", "buffer")
        return {self.record.values[v].name for v in self._roots(values) if self.record.values[v].kind in kinds}

    def _roots(self, values: set[int]) -> set[int]:
        """The values together with those whose storage they look at."""
        found, todo = set(), list(values)
        while todo:
            value = todo.pop()
            if value not in found:
                found.add(value)
                todo += self.record.values[value].sources
        return found

    def _operations_before_the_cut(self) -> list[Operation]:
        """The operations that the leaves depend on."""
        found: set[int] = set()
        todo, seen = list(self.choice.leaves.values()), set()
        while todo:
            index = todo.pop()
            if index in seen:
                continue
            seen.add(index)
            value = self.record.values[index]
            todo += value.sources
            if value.operation >= 0:
                found.add(value.operation)
                todo += self.record.operations[value.operation].inputs
        return [self.record.operations[index] for index in sorted(found)]


class _HeadRun:
    """One run of the head."""

    def __init__(self, replay: Replay, features: Mapping[str, Tensor]) -> None:
        self.replay = replay
        self.leaves = {value: features[name] for name, value in replay.choice.leaves.items()}
        first = next(iter(self.leaves.values()), None)
        self.batch_size = replay.batch_size if first is None else first.shape[0]
        self.counts: dict[tuple, int] = {}

    def run(self) -> Any:
        """Run the model's forward with the skipped modules shadowed."""
        replay = self.replay
        if 0 in replay.choice.skipped:
            return self.fill(replay.record.calls[0].output)
        progress: dict[str, int] = {}
        args, kwargs = self.fill(replay.record.inputs)
        with shadowed_forwards(self.shadows(progress)):
            result = replay.model(*args, **kwargs)
        for name, waiting in replay.outputs.items():
            if progress.get(name, 0) < len(waiting):
                raise other_order(name)
        return result

    def shadows(self, progress: dict[str, int]) -> dict[nn.Module, Callable]:
        """For each module with skipped calls what it runs instead; `progress` counts its calls."""
        return {self.replay.modules[name]: self.shadow(name, progress) for name in self.replay.outputs}

    def shadow(self, name: str, progress: dict[str, int]) -> Callable:
        """The forward of a module with skipped calls: gives what the call gave in the recording."""
        waiting, module = self.replay.outputs[name], self.replay.modules[name]
        forward = module.forward

        def give(*args: Any, **kwargs: Any) -> Any:
            position = progress.get(name, 0)
            progress[name] = position + 1
            if position >= len(waiting) or waiting[position] is None:
                return forward(*args, **kwargs)
            return self.fill(waiting[position])

        return give

    def fill(self, structure: Any) -> Any:
        """The recorded structure with leaves and stubs in the place of Slots."""
        if isinstance(structure, Slot):
            return self.tensor(structure)
        return map_structure(self.tensor, structure, kind=Slot)

    def tensor(self, slot: Slot) -> Tensor:
        """The leaf, copied when the head writes into it; else a stub."""
        leaf = self.leaves.get(slot.value)
        if leaf is not None:
            return leaf.clone() if slot.value in self.replay.overwritten else leaf
        value = self.replay.record.values[slot.value]
        if value.kind in ("parameter", "buffer"):
            getter = self.replay.model.get_parameter if value.kind == "parameter" else self.replay.model.get_buffer
            return getter(value.name)
        shape = value.shape
        if shape[:1] == (self.replay.batch_size,):
            shape = (self.batch_size, *shape[1:])
        return self.stub(slot.value, shape, value.stride, value.dtype, value.device)

    def stub(self, value: int, shape: tuple[int, ...], stride: tuple[int, ...], dtype: Any, device: Any) -> Stub:
        """A stub that belongs to this run."""
        stub = Stub(shape, stride, dtype, device)
        stub.value, stub.run = value, self
        return stub

    def operate(self, func: Any, stubs: list[Stub], args: tuple, kwargs: dict[str, Any]) -> Any:
        """What an operation on stubs gives: what it gave in the recording, as leaves and stubs."""
        name = function_name(func)
        key = (name, tuple(dict.fromkeys(stub.value for stub in stubs)))
        known = self.replay.operations.get(key)
        if known is None:
            raise self.no_data(stubs, func)
        position = self.counts.get(key, 0)
        self.counts[key] = position + 1
        operation = known[min(position, len(known) - 1)]
        if operation.index in self.replay.choice.repeated:
            return func(*map_structure(_hollow, args), **map_structure(_hollow, kwargs))
        before = {stub: stub.value for stub in stubs}
        for stub in stubs:
            stub.value = operation.changes.get(stub.value, stub.value)
        changed = {stub.value: stub for stub, value in before.items() if stub.value != value}

        def give(slot: Slot) -> Tensor:
            return changed[slot.value] if slot.value in changed else self.tensor(slot)

        return map_structure(give, operation.outputs, kind=Slot)

    def no_data(self, stubs: list[Stub], func: Any) -> MissingDataError:
        """The error for an operation that needs what the features do not hold."""
        values = tuple(stub.value for stub in stubs)
        return MissingDataError(
            f"{function_name(func)} asks for the data of a frozen layer's output that the features do not hold.", values
        )


def _hollow(tensor: Tensor) -> Tensor:
    """A real tensor of a stub's shape, for an operation that looks at nothing but shape and type."""
    if not isinstance(tensor, Stub):
        return tensor
    return torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


def other_order(name: str) -> SplitError:
    """The error for a forward that does not call its layers as it did on the example."""
    return SplitError(
        f"{name or 'The model'} is not called as it was on the example: the forward takes another way for this batch.\n"
        "Split with an example that takes the same way, or train without cached features."
    )


class _Captured(BaseException):
    """Ends the trunk's run when the last leaf is there. No Exception: the user's forward must not catch it."""


class _TrunkRun:
    """One run of the trunk."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.features: dict[str, Tensor] = {}
        self.running: list[int] = []
        record, choice = replay.record, replay.choice
        self.call_index = {(call.name, call.ordinal): call.index for call in record.calls}
        self.calls = {}  # index of a skipped call → its leaves, by their position among its tensors
        for index in choice.skipped:
            positions = [
                (position, replay.leaf_names[slot.value])
                for position, slot in enumerate(slots_of(record.calls[index].output))
                if slot.value in replay.leaf_names
            ]
            if positions:
                self.calls[index] = positions
        given = {name for positions in self.calls.values() for _, name in positions}
        self.inside: dict[tuple[int, str, int], list[tuple[int, str]]] = {}
        for name, index in choice.leaves.items():
            value = record.values[index]
            if name not in given and value.kind != "input":
                operation = record.operations[value.operation]
                position = [slot.value for slot in slots_of(operation.outputs)].index(index)
                key = (operation.call, operation.name, operation.ordinal)
                self.inside.setdefault(key, []).append((position, name))

    def run(self, forward: Callable[[], Any], args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run the forward until every leaf is captured."""
        self.take_inputs(args, kwargs)
        names = {self.replay.record.calls[index].name for index in self.calls}
        if self.inside:
            names = {call.name for call in self.replay.record.calls}
        counts: dict[str, int] = {}
        shadows = {self.replay.modules[name]: self.shadow(name, counts) for name in names}
        mode: Any = _Catch(self) if self.inside else nullcontext()
        try:
            with torch.no_grad(), shadowed_forwards(shadows), mode:
                self.stop_when_whole()
                forward()
        except _Captured:
            pass
        missing = [name for name in self.replay.choice.leaves if name not in self.features]
        if missing:
            raise other_order(missing[0])
        return {name: self.features[name] for name in self.replay.choice.leaves}

    def take_inputs(self, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """The leaves that are inputs."""
        slots, tensors = slots_of(self.replay.record.inputs), tensors_of((args, dict(kwargs)))
        if len(slots) != len(tensors):
            raise SplitError(f"The trunk got {len(tensors)} tensors; the example had {len(slots)}.")
        for slot, tensor in zip(slots, tensors, strict=True):
            if slot.value in self.replay.leaf_names:
                self.keep(self.replay.leaf_names[slot.value], tensor)

    def keep(self, name: str, tensor: Tensor) -> None:
        """Take a leaf; copied where the forward writes into it later."""
        copied = self.replay.choice.leaves[name] in self.replay.overwritten
        self.features.setdefault(name, tensor.detach().clone() if copied else tensor.detach())

    def stop_when_whole(self) -> None:
        """End the run when nothing is missing."""
        if len(self.features) == len(self.replay.choice.leaves):
            raise _Captured

    def shadow(self, name: str, counts: dict[str, int]) -> Callable:
        """A module's own forward, whose output is looked at."""
        forward = self.replay.modules[name].forward

        def look(*args: Any, **kwargs: Any) -> Any:
            ordinal = counts.get(name, 0)
            counts[name] = ordinal + 1
            index = self.call_index.get((name, ordinal), -1)
            self.running.append(index)
            try:
                output = forward(*args, **kwargs)
            finally:
                self.running.pop()
            if index in self.calls:
                tensors = tensors_of(output)
                for position, leaf in self.calls[index]:
                    self.keep(leaf, tensors[position])
                self.stop_when_whole()
            return output

        return look


class _Catch(TorchFunctionMode):
    """Catches the leaves that are made by operations of an opened call's own forward."""

    def __init__(self, run: _TrunkRun) -> None:
        self.run = run
        self.counts: dict[tuple[int, str], int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        call, name = self.run.running[-1] if self.run.running else -1, function_name(func)
        leaves = [key for key in self.run.inside if key[:2] == (call, name)]
        if leaves:
            ordinal = self.counts.get((call, name), 0)
            self.counts[call, name] = ordinal + 1
            for position, leaf in self.run.inside.get((call, name, ordinal), ()):
                self.run.keep(leaf, tensors_of(result)[position])
            self.run.stop_when_whole()
        return result
