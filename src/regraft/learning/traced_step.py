"""The training step as a flat list of operators, used only where it is proven equal to the eager step.

The step of a small head costs overhead, not arithmetic: modules, autograd and the Python of the optimizer take most of
it. One step is therefore recorded, and the recorded operators run for each batch of that size.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.examples import DatasetExamples, Examples
from regraft.learning.batches import Epoch
from regraft.learning.eager_step import EagerStep
from regraft.learning.flat_function import FlatFunction, flatten
from regraft.learning.learner import to_device
from regraft.learning.operator_recording import NotFlatError, Recording, record
from regraft.learning.python_state import LARGE, PythonState
from regraft.tensors.keeping import generator_states
from regraft.tensors.trees import Inputs, map_tree, tensors_of

FEWEST_STEPS = 20  # of one batch size: recording and proof take the time of about six
LARGEST_BYTES = 32 << 20  # values of one step: larger ones cost arithmetic, not overhead, and would stay allocated
MOST_SIZES = 2  # the usual batch and the smaller last one
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Look = tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]  # shape, strides and type of each tensor of a batch


@final
class TracedStep:
    """The eager step, and a flat list of operators for the batch sizes for which that is proven equal.

    note  names the step that runs, and why, in a sentence
    """

    def __init__(self, eager: EagerStep, *, owns_update: bool) -> None:
        self.eager, self.owns_update = eager, owns_update
        self.note = ""
        self.flat: dict[Look, FlatFunction] = {}
        self.python: PythonState | None = None  # when the step was proven
        self.values: list[Tensor] = []  # of the constants at that time
        self.parameters = list(eager.learner.parameters)

    def __call__(self, inputs: Inputs, labels: object) -> Tensor:
        """Update the parameters by one batch; returns the loss before the update."""
        tensors = [*tensors_of(inputs), *([labels] if isinstance(labels, Tensor) else tensors_of(labels))]
        flat = self.flat.get(_look(tensors))
        if flat is None:
            return self.eager(inputs, labels)
        if self.owns_update:
            with torch.inference_mode():  # each operator is about 1 µs cheaper where autograd is not asked
                return flat.call(*tensors)[0].clone()
        with torch.no_grad():
            loss, *gradients = flat.call(*tensors)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient.clone()  # an optimizer may keep it; the next run writes over this one
            self.eager.optimizer.step()
            return loss.clone()

    def remember(self) -> None:
        """Take the present state of what the flat lists have taken for constant, to be asked again before an epoch."""
        if self.flat:
            self.python = PythonState(self.eager.learner.model, *self.eager.objective.watched)
            self.values = [tensor.clone() for tensor in self._constants()]

    def use_eager_if_changed(self, epoch: int) -> str:
        """Run eagerly from now on if what was taken for constant has changed; a sentence says so, else ""."""
        if self.python is None or not self.flat:
            return ""
        change = self.python.change() or ("" if _equal(self._constants(), self.values) else "a tensor")
        if not change:
            return ""
        self.flat.clear()
        return f"eager step from epoch {epoch} on: {change} was changed, and the traced step would not notice"

    def _constants(self) -> list[Tensor]:
        """The tensors that the flat lists take for constant, but for large ones, which are data."""
        constants = [tensor for flat in self.flat.values() for tensor in flat.constants]
        return [tensor for tensor in constants if tensor.nbytes < LARGE]


def trace_step(eager: EagerStep, epoch: Epoch, epochs: int, *, owns_update: bool) -> TracedStep:
    """A step that runs as a flat list of operators where that is proven equal to the eager one; its note says so.

    epoch        the first one; its batch sizes are those to trace
    epochs       that will run: tracing has to pay
    owns_update  whether the optimizer was made by name: its update is then part of the flat list. An optimizer of the
                 user may have hooks or change its rates, so its own `step` runs

    Equal means `torch.equal` on losses, gradients, parameters, buffers, the state of an optimizer made by name and the
    random generators, in two steps. A step that changes anything else that the model keeps (a counter, a list) is not
    traced. The model, the optimizer and the generators are afterwards as they were.
    """
    step = TracedStep(eager, owns_update=owns_update)
    counts = Counter(len(batch) for batch in epoch.indices)
    sizes = [size for size, count in counts.most_common(MOST_SIZES) if count * epochs >= FEWEST_STEPS]
    reason = _obstacle(eager, epoch.examples) or ("" if sizes else f"fewer than {FEWEST_STEPS} steps of one size")
    every = torch.cat(epoch.indices)
    for size in () if reason else sizes:
        batches = [_fetch(eager, epoch.examples, indices) for indices in (every[:size], every[-size:])]
        try:
            flat = step.flat[_look(batches[0].tensors)] = _prove(step, batches)
        except NotFlatError as error:
            reason = str(error)
            break
        step.note = step.note or f"traced step: {flat.operators} operators, proven equal to the eager step"
    if not step.flat:
        step.note = f"eager step: {reason}"
    step.remember()
    return step


@final
class _TrialBatch:
    """A batch on the model's device, to try the step on."""

    def __init__(self, inputs: Inputs, labels: object) -> None:
        self.inputs, self.labels = inputs, labels
        self.tensors = [*tensors_of(inputs), *tensors_of(labels)]

    def rebuilt(self, tensors: Sequence[Tensor]) -> tuple[Inputs, Any]:
        """Inputs and labels of the same structure, made of these tensors."""
        remaining = iter(tensors)
        inputs = map_tree(lambda _: next(remaining), self.inputs)
        return inputs, map_tree(lambda _: next(remaining), self.labels)


def _fetch(eager: EagerStep, examples: Examples, indices: Tensor) -> _TrialBatch:
    inputs, labels = examples.gather(indices)
    return _TrialBatch(to_device(inputs, eager.learner.device), to_device(labels, eager.learner.device))


def _obstacle(eager: EagerStep, examples: Examples) -> str:
    """Why the step has to stay eager, as far as it is known without running it; "" where nothing is known."""
    if isinstance(examples, DatasetExamples):
        return "examples are fetched one by one, which costs more than the step"
    if eager.scaler is not None:
        return "float16 scales the loss by what the gradients were"
    if eager.reevaluates:
        return "the optimizer evaluates the loss several times a step"
    model = eager.learner.model
    obstacles = [_module_obstacle(name, module) for name, module in model.named_modules()]
    obstacles += [_parameter_obstacle(name, parameter) for name, parameter in model.named_parameters()]
    return next(filter(None, obstacles), "")


def _module_obstacle(name: str, module: nn.Module) -> str:
    if type(module).__name__ == "OptimizedModule":
        return "the model is compiled by torch.compile"
    if any(getattr(module, kind, None) for kind in HOOKS):
        return f"the layer {name or type(module).__name__} has hooks, which would not be called"
    return ""


def _parameter_obstacle(name: str, parameter: nn.Parameter) -> str:
    has_hooks = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return f"the parameter {name} has hooks, which would not be called" if has_hooks else ""


def _prove(step: TracedStep, batches: Sequence[_TrialBatch]) -> FlatFunction:
    """The flat form of the step, after it gave the same as the eager step on these batches.

    Raises NotFlatError where there is none, where it does not pay, or where it differs.
    """
    before = _StepState(step)
    update = step.eager if step.owns_update else step.eager.differentiate
    try:
        expected = [before.results(update(batch.inputs, batch.labels)) for batch in batches]
        before.refuse_changed_python()
        before.restore()
        flat = _flat_step(step, before, batches)
        for batch, results in zip(batches, expected, strict=True):
            with torch.inference_mode(step.owns_update), torch.no_grad():
                loss, *gradients = flat.call(*batch.tensors)
            before.set_gradients(gradients)
            if not _equal(before.results(loss), results):
                raise NotFlatError("its flat form does not give the same numbers")
        return flat
    except NotFlatError:
        raise
    except Exception as error:  # whatever a model does while it is recorded: training goes on eagerly and says so
        raise NotFlatError(f"it cannot be recorded ({type(error).__name__}: {error})") from error
    finally:
        before.restore()


def _flat_step(step: TracedStep, before: "_StepState", batches: Sequence[_TrialBatch]) -> FlatFunction:
    """The flat form of the step, recorded twice: a step may differ from itself."""
    recordings = list[Recording]()
    for batch in batches:

        def run(*tensors: Tensor, batch: _TrialBatch = batch) -> list[Tensor]:
            return before.one_step(*batch.rebuilt(tensors))

        recordings.append(record(run, *batch.tensors))
        before.restore()
        if recordings[0].made_bytes() > LARGEST_BYTES:
            raise NotFlatError(
                f"its values take {recordings[0].made_bytes() >> 20} MiB: arithmetic costs, not overhead"
            )
    first, second = recordings
    if not first.same_as(second):
        raise NotFlatError("it does not do the same each time")
    return flatten(first, before.changing())


@final
class _StepState:
    """All that a step changes, as it was before: to compare with, and to restore."""

    def __init__(self, step: TracedStep) -> None:
        self.step, self.learner, self.optimizer = step, step.eager.learner, step.eager.optimizer
        self.tensors = self.learner.state()
        self.generators = generator_states()
        self.python = PythonState(self.learner.model, *step.eager.objective.watched)
        self.optimizer_state = {tensor: tensor.clone() for tensor in self._optimizer_tensors()}

    def one_step(self, inputs: Inputs, labels: object) -> list[Tensor]:
        """The step, to be recorded: loss and gradients; the update where the optimizer was made by name."""
        with torch.enable_grad():
            loss = self.step.eager.forward(inputs, labels)
            gradients = torch.autograd.grad(loss, self.step.parameters, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise NotFlatError("it does not use all trainable parameters")
        self.set_gradients(_without_shared_memory(gradients))
        self.step.eager.clip_gradients()
        if self.step.owns_update:
            self.optimizer.step()
        return [loss.detach(), *(p.grad for p in self.step.parameters if p.grad is not None)]

    def set_gradients(self, gradients: Iterable[Tensor | None]) -> None:
        """Give each parameter its gradient."""
        for parameter, gradient in zip(self.step.parameters, gradients, strict=True):
            parameter.grad = gradient

    def changing(self) -> list[Tensor]:
        """Parameters, buffers and the optimizer's own tensors."""
        model = self.learner.model
        return [*model.parameters(), *model.buffers(), *self._optimizer_tensors()]

    def results(self, loss: Tensor) -> list[Tensor]:
        """Copies of what the last step left: loss, gradients, model, optimizer, torch's generators."""
        gradients = [p.grad.clone() for p in self.step.parameters if p.grad is not None]
        optimizer = [tensor.clone() for tensor in self._optimizer_tensors()]
        now = generator_states()
        generators = [now.cpu, *(state for _, state in now.gpus)]
        return [loss.clone(), *gradients, *self.learner.state().values(), *optimizer, *generators]

    def refuse_changed_python(self) -> None:
        """Raise NotFlatError where the step changed what no operator shows."""
        change = self.python.change()
        now = generator_states()
        if not change and not now.same_as(replace(self.generators, cpu=now.cpu, gpus=now.gpus)):
            change = "random numbers of Python or NumPy"
        if change:
            raise NotFlatError(f"it changes more than tensors ({change})")

    def restore(self) -> None:
        """Back to the state before."""
        self.learner.restore(self.tensors)
        self.optimizer.zero_grad(set_to_none=True)
        self.generators.restore()
        self.python.restore()
        for tensor in self._optimizer_tensors():  # in place, for the flat step knows these tensors
            if tensor in self.optimizer_state:
                tensor.copy_(self.optimizer_state[tensor])
            else:
                tensor.zero_()  # where all optimizers made by name start

    def _optimizer_tensors(self) -> list[Tensor]:
        """The optimizer's own tensors, if it was made by name: one of the user makes no update here."""
        if not self.step.owns_update:
            return []
        return [v for values in self.optimizer.state.values() for v in values.values() if isinstance(v, Tensor)]


def _without_shared_memory(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The gradients, none in the memory of another: clipping one must not clip it twice. `backward` does the same."""
    memories: set[int] = set()
    separate = []
    for gradient in gradients:
        memory = gradient.untyped_storage()._cdata
        separate.append(gradient.clone() if memory in memories else gradient)
        memories.add(memory)
    return separate


def _equal(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether all are equal to the last bit."""
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def _look(tensors: Sequence[Tensor]) -> Look:
    """What the result of an operator may depend on beside the values."""
    return tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)
