"""What is trained and scored: a whole model, or the head of a split one, called in the same form."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.caches.differences import filling_problem, tolerance_of
from regraft.caches.features import Features, LeafRows
from regraft.errors import Advice, DataError, TrainError
from regraft.examples import (
    DatasetExamples,
    Examples,
    TensorExamples,
    as_examples,
    call,
    has_lengths,
    shapes_in,
    with_pads,
)
from regraft.foundation.wording import counted, listed
from regraft.labels import renumbered
from regraft.splitting import Head, TrunkPart
from regraft.tensors.fingerprints import digest_of
from regraft.tensors.keeping import kept_modes, undisturbed
from regraft.tensors.pad_values import GivenPads
from regraft.tensors.padding import Shapes
from regraft.tensors.trees import Inputs, map_tree, tensors_of

State = dict[str, Tensor]
ALONE = 16  # cached examples among which a short one is looked for


@final
class Learner:
    """A model or a head with what training and scoring need of it.

    model       the plain module whose weights change
    parameters  the trainable parameters, each once
    part        for a head: computes its features from those of a shallower cut, batch by batch; None takes its own
    """

    def __init__(self, head: nn.Module, part: TrunkPart | None = None) -> None:
        if not isinstance(head, nn.Module):
            raise TrainError(
                f"A {type(head).__name__} cannot be trained or scored. Pass a torch.nn.Module, or the head that "
                "regraft.split(model, example) returned."
            )
        self.head, self.part, self.is_head = head, part, isinstance(head, Head)
        self.model: nn.Module = head.model if isinstance(head, Head) else head
        self.parameters = tuple(dict.fromkeys(p for p in head.parameters() if p.requires_grad))

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))

    def work_of(self, count: int) -> float:
        """Floating-point operations of a forward of so many examples, roughly; infinite where nobody knows them."""
        return count * self.head.example_work if isinstance(self.head, Head) and self.part is None else math.inf

    def outputs(self, inputs: Inputs) -> Any:
        """The model's outputs for a batch: a head is called with its features, a model by `examples.call`."""
        if not self.is_head:
            return call(self.model, inputs)
        if not isinstance(inputs, Mapping):
            raise TrainError(
                f"A head takes cached features, not a {type(inputs).__name__}.\nPass what regraft.cache_features "
                "returned, or train the whole model on this data set."
            )
        return self.head(inputs if self.part is None else self.part(inputs))

    def examples(self, data: object, *, classes: Sequence[str] = (), pad: GivenPads = None) -> Examples:
        """The data as examples of this learner: labels numbered by `classes`, shorter inputs filled up as it wants.

        Raises DataError for data that are no examples and for unknown classes, TrainError for a whole model with the
        cached features of its head.
        """
        examples = as_examples(data, classes=classes)
        self.refuse_features(examples)
        if classes and examples.classes not in ((), tuple(classes)):
            examples = with_classes(examples, classes)
        return with_pads(examples, self.model, pad)

    def refuse_features(self, examples: object) -> None:
        """Raise TrainError when a whole model is given the cached features of its head."""
        if not self.is_head and isinstance(examples, Features):
            raise TrainError(
                "A whole model cannot take cached features.\nPass the head that regraft.split returned with them, or "
                "the data set."
            )

    def refuse_padding(self, examples: Examples, count: int = 64) -> None:
        """Raise DataError when a model's outputs for a short example depend on what fills its batch up.

        Of the first `count` examples the shortest one is computed alone, in evaluation mode.
        """
        prepared = self._of_lengths(examples, torch.arange(min(count, len(examples))))
        if prepared is None:
            return
        inputs, shapes = prepared

        def run(inputs: Inputs) -> object:
            return self.outputs(to_device(inputs, self.device))

        with undisturbed(self.model, is_training=False), torch.no_grad():
            problem = filling_problem(run, inputs, run(inputs), shapes, tolerance_of("float32", self.device.type))
        if problem:
            raise DataError(
                f"The {'head' if self.is_head else 'model'}'s outputs for a short example depend on the padding, which "
                f"fills its batch up to the longest example: {problem}.\nGive the model a mask of the padding "
                "(attention_mask) among the inputs, or give all inputs the same length.",
                advice=[Advice("pad", {"input_ids": "…"}, "fill token ids up with the id that the model expects")],
            )

    def _of_lengths(self, examples: Examples, indices: Tensor) -> tuple[Inputs, list[Shapes]] | None:
        """A batch of inputs of different lengths with the shapes of each; None where all have one length."""
        if isinstance(examples, Features) and examples.inputs is None and _has_lengths(examples):
            indices = indices[:ALONE]
            alone = [examples.gather(index[None])[0] for index in indices]
            return examples.gather(indices)[0], [tuple(tuple(t.shape[1:]) for t in tensors_of(each)) for each in alone]
        if not isinstance(examples, DatasetExamples):
            return None
        pairs = examples.fetch(indices)
        shapes = [shape for pair in pairs if (shape := shapes_in(pair[0])) is not None]
        known = has_lengths(pairs) and len(shapes) == len(pairs)
        return (examples.collate(pairs)[0], shapes) if known else None

    def frozen_tensors(self) -> State:
        """Name → each parameter without gradient, and each buffer of a frozen layer.

        A layer's buffers are frozen when its own parameters are, or when it stays in eval mode while the model trains.
        """
        frozen: State = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        with kept_modes(self.model):
            self.model.train()
            for layer_name, layer in self.model.named_modules():
                if _keeps_buffers(layer):
                    prefix = f"{layer_name}." if layer_name else ""
                    frozen |= {prefix + name: buffer for name, buffer in layer.named_buffers(recurse=False)}
        return frozen

    def frozen_digests(self) -> dict[str, str]:
        """Name → digest of each frozen tensor's bytes: equal before and after training, or training is wrong."""
        return {name: digest_of(tensor) for name, tensor in self.frozen_tensors().items()}

    def refuse_stale(self, examples: Examples | None, digests: Mapping[str, str], *, trains: bool = True) -> None:
        """Raise TrainError when the features were computed by other weights than the head's model has now.

        digests  those of the frozen tensors, see `frozen_digests`
        trains   whether a tensor that is not frozen any more is refused too, because it would change
        """
        if not self.is_head:
            return
        tensors = self.tensors()
        changed = [
            name
            for name, digest in _weights_behind(examples).items()
            if name in tensors and _is_changed(tensors[name], digest, digests.get(name), trains=trains)
        ]
        if changed:
            raise TrainError(
                f"The features do not belong to this model any more. Since they were computed, these tensors were "
                f"changed or unfrozen: {', '.join(changed[:10])}.\nFreeze the layers, call split, and call "
                "cache_features again; in a folder only missing features are computed."
            )

    def refuse_changed(self, digests: Mapping[str, str]) -> None:
        """Raise TrainError when a frozen tensor is not what it was when its digest was taken."""
        now = self.frozen_digests() if digests else {}
        changed = [name for name, digest in digests.items() if now.get(name) != digest]
        if changed:
            raise TrainError(
                f"{counted(len(changed), 'frozen tensor')} changed during training: {', '.join(changed[:10])}.\n"
                "A frozen BatchNorm in training mode updates its statistics. Freeze with regraft.freeze, which keeps "
                "frozen layers in evaluation mode; requires_grad=False alone does not."
            )

    def state(self) -> State:
        """Copies of all that training may change: trainable parameters and the buffers that are not frozen."""
        frozen = self.frozen_tensors()
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items() if name not in frozen}

    def restore(self, state: State) -> None:
        """Give these tensors back the values that `state()` copied."""
        tensors = self.tensors()
        with torch.no_grad():
            for name, values in state.items():
                tensors[name].copy_(values)

    def tensors(self) -> State:
        """The model's own parameters and buffers by name."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())


def _keeps_buffers(layer: nn.Module) -> bool:
    """Whether training leaves this layer's buffers alone; the model is in training mode."""
    own = list(layer.parameters(recurse=False))
    return not layer.training or (bool(own) and not any(p.requires_grad for p in own))


def _weights_behind(examples: Examples | None) -> Mapping[str, str]:
    """The digests of the weights that features were computed by, also of rows that were gathered from them."""
    if isinstance(examples, Features):
        return examples.frozen
    if isinstance(examples, TensorExamples) and isinstance(examples.inputs, LeafRows):
        return examples.inputs.frozen
    return {}


def _is_changed(tensor: Tensor, before: str, now: str | None, *, trains: bool) -> bool:
    """Whether the tensor trains, or has another digest than before; `now` is its digest where it is known."""
    return (trains and tensor.requires_grad) or (now or digest_of(tensor)) != before


def _has_lengths(features: Features) -> bool:
    """Whether rows of the features may have different sizes."""
    return any(leaf.varying for leaf in features.cut.leaves)


def with_classes(examples: Examples, classes: Sequence[str]) -> Examples:
    """Examples whose labels are numbered by their own classes, numbered by these.

    Raises DataError for a class that is not among them.
    """
    labels = renumbered(examples.labels, examples.classes, classes)
    if isinstance(examples, Features):
        return examples.with_labels(labels, classes=classes)
    if isinstance(examples, TensorExamples):
        return TensorExamples(examples.inputs, labels, classes)
    raise DataError(
        f"The data set numbers its labels by the classes {listed(examples.classes)}, and the model was trained on "
        f"{listed(list(classes))}. Give both the same classes."
    )


def to_device(values: Inputs, device: torch.device) -> Inputs:
    """The same structure with its tensors on `device`; nothing is copied where they lie there already."""
    return map_tree(lambda tensor: tensor.to(device, non_blocking=True), values)


def resident(examples: Examples, device: torch.device) -> Examples:
    """The same examples on `device`, where they are whole tensors and take at most half of its free memory.

    A batch is then one `index_select` on the device. Other examples come back as they are.
    """
    if device.type != "cuda" or not isinstance(examples, TensorExamples):
        return examples
    tensors = [*tensors_of(examples.inputs), *tensors_of(examples.labels)]
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.device != device)
    if size_bytes > torch.cuda.mem_get_info(device)[0] // 2:
        return examples
    return TensorExamples(to_device(examples.inputs, device), to_device(examples.labels, device), examples.classes)
