"""The training step as a flat list of operators, used only where it is proven equal to the eager step.

A small head's step costs overhead, not arithmetic: modules, autograd and the optimiser's Python take most of it. One
step is therefore run once under observation, and the operators seen are run again for each batch of that size.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import final

import torch
from torch import Tensor

from regraft.examples import DatasetExamples, Examples, Inputs
from regraft.learning.batches import Epoch
from regraft.learning.eager_step import EagerStep
from regraft.learning.flat_function import FlatFunction, NotFlatError, flatten, record
from regraft.learning.learner import draws, set_draws, to_device
from regraft.learning.python_state import PythonState
from regraft.tensors.trees import map_tree, tensors_of

FEWEST_STEPS = 20  # of one batch size: recording and proof take the time of about six
LARGEST_BYTES = 32 << 20  # values of one step: larger ones cost arithmetic, not overhead, and would stay allocated
MOST_SIZES = 2  # the usual batch and the smaller last one

Batch = tuple[Inputs, Tensor]


@final
class QuickStep:
    """The eager step, made quick for the batch sizes for which that is proven and pays.

    note   which step runs and why, in a sentence
    """

    def __init__(self, eager: EagerStep, *, owns_update: bool) -> None:
        self.eager, self.owns_update = eager, owns_update
        self.note = ""
        self.flat: dict[tuple, FlatFunction] = {}  # by the batch's look in memory
        self.parameters = list(eager.learner.parameters)

    def __call__(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Move the parameters by one batch; returns the loss before the move."""
        tensors = [*tensors_of(inputs), labels]
        flat = self.flat.get(_look(tensors))
        if flat is None:
            return self.eager(inputs, labels)
        if self.owns_update:
            with torch.inference_mode():  # each operator is about 1 µs cheaper where autograd is not asked
                return flat.call(*tensors)[0].clone()
        with torch.no_grad():
            loss, *gradients = flat.call(*tensors)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient.clone()  # an optimiser may keep it; the next run writes over this one
            self.eager.optimizer.step()
            return loss.clone()


def quicken(eager: EagerStep, epoch: Epoch, epochs: int, *, owns_update: bool) -> QuickStep:
    """The quickest step for these batches that is proven equal to the eager one; its note says which it is and why.

    epoch        the first one, by which the usual sizes are known
    owns_update  whether the optimiser is ours, made by name: its update is then part of the flat step. A given one may
                 have hooks or change its rates, so its own `step` runs

    Equal means `torch.equal` on losses, gradients, parameters, buffers, the state of an optimiser of ours and of the
    random generators, in two steps; a step that changes anything else that the model keeps (a counter, a list) is not
    flattened. The model, the optimiser and the generators are afterwards as they were.
    """
    step = QuickStep(eager, owns_update=owns_update)
    reason = _unfit(eager, epoch.examples)
    counts = Counter(len(batch) for batch in epoch.indices)
    sizes = [size for size, count in counts.most_common(MOST_SIZES) if count * epochs >= FEWEST_STEPS]
    if not reason and not sizes:
        reason = f"fewer than {FEWEST_STEPS} steps of one size"
    every = torch.cat(epoch.indices)
    for size in sizes if not reason else ():
        trial = [_fetch(eager, epoch.examples, indices) for indices in (every[:size], every[-size:])]
        tensors = [*tensors_of(trial[0][0]), trial[0][1]]
        try:
            flat = step.flat[_look(tensors)] = _prove(step, trial)
        except NotFlatError as error:
            reason = str(error)
            break
        step.note = step.note or f"traced step: {flat.operators} operators, proven equal to the eager step"
    if not step.flat:
        step.note = f"eager step: {reason}"
    return step


def _unfit(eager: EagerStep, examples: Examples) -> str:
    """Why the step has to stay eager, known without running it; "" where nothing is in the way."""
    if isinstance(examples, DatasetExamples):
        return "examples are fetched one by one, which costs more than the step"
    if eager.scaler is not None:
        return "float16 scales the loss by what the gradients were"
    if eager.reevaluates:
        return "the optimiser evaluates the loss several times a step"
    for name, module in eager.learner.model.named_modules():
        if type(module).__name__ == "OptimizedModule":
            return "the model is compiled by torch.compile"
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(module, kind, None) for kind in hooks):
            return f"the layer {name or type(module).__name__} has hooks, which would not be called"
    for name, parameter in eager.learner.model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"the parameter {name} has hooks, which would not be called"
    return ""


def _fetch(eager: EagerStep, examples: Examples, indices: Tensor) -> Batch:
    """A batch on the model's device."""
    inputs, labels = examples.gather(indices)
    return to_device(inputs, eager.learner.device), labels.to(eager.learner.device)


def _prove(step: QuickStep, trial: Sequence[Batch]) -> FlatFunction:
    """The flat function of the step, after it has given on the trial's batches what the eager step gives.

    Raises NotFlatError where it cannot be had, does not pay, or differs.
    """
    scene = _Scene(step)
    eager = step.eager
    try:
        move = eager if step.owns_update else eager.differentiate
        expected = [scene.outcome(move(*batch)) for batch in trial]
        if kept := scene.python.changed():
            raise NotFlatError(f"it changes more than tensors ({kept})")
        scene.reset()
        flat = _flat_step(step, scene, trial)
        for batch, told in zip(trial, expected, strict=True):
            tensors = [*tensors_of(batch[0]), batch[1]]
            with torch.inference_mode(step.owns_update), torch.no_grad():
                loss, *gradients = flat.call(*tensors)
            scene.set_gradients(gradients)
            if not _equal(scene.outcome(loss), told):
                raise NotFlatError("its flat form does not give the same numbers")
        return flat
    except NotFlatError:
        raise
    except Exception as error:  # whatever a model does under observation: training goes on eagerly and says so
        raise NotFlatError(f"it cannot be recorded ({type(error).__name__}: {error})") from error
    finally:
        scene.reset()


def _flat_step(step: QuickStep, scene: "_Scene", trial: Sequence[Batch]) -> FlatFunction:
    """The flat function, recorded twice: a step may differ from itself."""
    recordings = []
    for inputs, labels in trial:
        structure = inputs

        def run(*tensors: Tensor, structure: Inputs = structure) -> list[Tensor]:
            remaining = iter(tensors[:-1])
            return scene.one_step(map_tree(lambda _: next(remaining), structure), tensors[-1])

        recordings.append(record(run, *tensors_of(inputs), labels))
        scene.reset()
        if recordings[0].made_bytes() > LARGEST_BYTES:
            raise NotFlatError(
                f"its values take {recordings[0].made_bytes() >> 20} MiB: arithmetic costs, not overhead"
            )
    first, second = recordings
    if not first.same_as(second):
        raise NotFlatError("it does not do the same each time")
    return flatten(first, scene.changing())


@final
class _Scene:
    """All that a step changes: remembered, told and set back."""

    def __init__(self, step: QuickStep) -> None:
        self.step, self.learner, self.optimizer = step, step.eager.learner, step.eager.optimizer
        self.device = self.learner.device
        self.start = self.learner.state()
        self.draws = draws(self.device)
        self.python = PythonState(self.learner.model, step.eager.loss)
        self.moments = {tensor: tensor.clone() for tensor in self._state()}

    def one_step(self, inputs: Inputs, labels: Tensor) -> list[Tensor]:
        """The step, to be recorded: loss and gradients; the update where it is ours."""
        with torch.enable_grad():
            loss = self.step.eager.forward(inputs, labels)
            gradients = torch.autograd.grad(loss, self.step.parameters, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise NotFlatError("it does not use all trainable parameters")
        self.set_gradients(_apart(gradients))
        self.step.eager.limit_gradients()
        if self.step.owns_update:
            self.optimizer.step()
        return [loss.detach(), *(p.grad for p in self.step.parameters if p.grad is not None)]

    def set_gradients(self, gradients: Iterable[Tensor | None]) -> None:
        """Give each parameter its gradient."""
        for parameter, gradient in zip(self.step.parameters, gradients, strict=True):
            parameter.grad = gradient

    def changing(self) -> list[Tensor]:
        """Parameters, buffers and the optimiser's own tensors."""
        model = self.learner.model
        return [*model.parameters(), *model.buffers(), *self._state()]

    def outcome(self, loss: Tensor) -> list[Tensor]:
        """Copies of what the last step left."""
        gradients = [p.grad.clone() for p in self.step.parameters if p.grad is not None]
        state = [tensor.clone() for tensor in self._state()]
        return [loss.clone(), *gradients, *self.learner.state().values(), *state, *draws(self.device)]

    def reset(self) -> None:
        """Back to the start."""
        self.learner.restore(self.start)
        self.optimizer.zero_grad(set_to_none=True)
        set_draws(self.draws, self.device)
        self.python.restore()
        for tensor in self._state():  # in place, for the flat step knows these tensors
            if tensor in self.moments:
                tensor.copy_(self.moments[tensor])
            else:
                tensor.zero_()  # where all of our optimisers start

    def _state(self) -> list[Tensor]:
        """The optimiser's own tensors, where it is ours: a given one makes no step here."""
        if not self.step.owns_update:
            return []
        return [v for values in self.optimizer.state.values() for v in values.values() if isinstance(v, Tensor)]


def _apart(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The gradients, none in the memory of another: limiting one must not limit it twice. `backward` does the same."""
    taken: set[int] = set()
    apart = []
    for gradient in gradients:
        memory = gradient.untyped_storage()._cdata
        apart.append(gradient.clone() if memory in taken else gradient)
        taken.add(memory)
    return apart


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether all are equal to the last bit."""
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _look(tensors: Sequence[Tensor]) -> tuple:
    """What an operator's result may depend on beside the values."""
    return tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)
