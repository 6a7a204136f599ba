"""What is trained and scored: a whole model, or the head of a split one, called in one way."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from regraft.errors import TrainError
from regraft.examples import Examples, Inputs, TensorExamples, call
from regraft.tensors.fingerprints import digest_of
from regraft.tensors.trees import map_tree, tensors_of

State = dict[str, Tensor]


@runtime_checkable
class HeadLike(Protocol):
    """What a head is here: the rest of a model, called with its features; `takes_features` tells it from a model."""

    model: nn.Module
    takes_features: bool

    def parameters(self) -> Iterable[nn.Parameter]:
        """The parameters that the head's layers use."""

    def __call__(self, leaves: Mapping[str, Tensor], /) -> Any:
        """The model's outputs for the cut's tensors, by their names."""


@final
class Learner:
    """A model or a head with what training and scoring need of it.

    model       the plain module whose weights change
    parameters  the trainable parameters, each once
    """

    def __init__(self, head: nn.Module | HeadLike) -> None:
        self.is_head = getattr(head, "takes_features", False)
        if not self.is_head and not isinstance(head, nn.Module):
            raise TrainError(
                f"A {type(head).__name__} cannot be trained or scored: give a torch.nn.Module, or the head that "
                "regraft.split(model, example) returns."
            )
        self.head = head
        self.model: nn.Module = head.model if self.is_head else head  # type: ignore[assignment]
        self.parameters = tuple(dict.fromkeys(p for p in head.parameters() if p.requires_grad))

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie."""
        return next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))

    def outputs(self, inputs: Inputs) -> Any:
        """What the model gives for a batch: a head takes its features as they are, a model by `examples.call`."""
        if not self.is_head:
            return call(self.model, inputs)
        if not isinstance(inputs, Mapping):
            raise TrainError(
                f"A head takes cached features and got a {type(inputs).__name__}.\nGive what regraft.cache_features "
                "returned, or use the whole model with this data set."
            )
        return self.head(inputs)

    def refuse_features(self, examples: Any) -> None:
        """Raise TrainError when a whole model is given the cached features that are its head's."""
        if not self.is_head and hasattr(examples, "cut"):
            raise TrainError(
                "These are cached features, and this is a whole model.\nGive the head that regraft.split returned with "
                "them, or the data set with the model."
            )

    def frozen_tensors(self) -> State:
        """Name → each parameter without gradient, and each buffer of a frozen layer.

        A layer's buffers are frozen when its own parameters are, or when it stays in eval mode while the model trains.
        """
        frozen: State = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        with modes_kept(self.model):
            self.model.train()
            for layer_name, layer in self.model.named_modules():
                own = list(layer.parameters(recurse=False))
                if not layer.training or (own and not any(p.requires_grad for p in own)):
                    prefix = f"{layer_name}." if layer_name else ""
                    frozen |= {prefix + name: buffer for name, buffer in layer.named_buffers(recurse=False)}
        return frozen

    def frozen_digests(self) -> dict[str, str]:
        """Name → digest of each frozen tensor's bytes: equal before and after training, or training is wrong."""
        return {name: digest_of(tensor) for name, tensor in self.frozen_tensors().items()}

    def refuse_stale(self, features: Any, digests: Mapping[str, str]) -> None:
        """Raise TrainError when the features were computed by other weights than the head's model has now.

        digests   those of the frozen tensors
        """
        computed_by = getattr(features, "frozen", {}) if self.is_head else {}
        tensors = self.tensors()
        now = {name: digests.get(name) or digest_of(tensors[name]) for name in computed_by if name in tensors}
        changed = [name for name, digest in now.items() if digest != computed_by[name]]
        changed += [name for name in now if name not in changed and tensors[name].requires_grad]
        if changed:
            raise TrainError(
                f"The features are not those of this model any more: {', '.join(changed[:10])} changed, or may be "
                "trained, since they were computed.\nFreeze as it was meant, split, and call cache_features again: in "
                "a folder only what is missing is computed."
            )

    def refuse_moved(self, digests: Mapping[str, str]) -> None:
        """Raise TrainError when a frozen tensor is not what it was when its digest was taken."""
        now = self.frozen_digests() if digests else {}
        moved = [name for name, digest in digests.items() if now.get(name) != digest]
        if moved:
            raise TrainError(
                f"{len(moved)} frozen tensors changed while training: {', '.join(moved[:10])}.\n"
                "A frozen BatchNorm in train mode moves its statistics. Freeze with regraft.freeze, which keeps frozen "
                "layers in eval mode, not with requires_grad alone."
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


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Every layer is in the mode (train or eval) afterwards in which it was before."""
    modes = [(layer, layer.training) for layer in model.modules()]
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def draws(device: torch.device) -> list[Tensor]:
    """Where torch's generators stand: the CPU's, and the device's own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_draws(states: list[Tensor], device: torch.device) -> None:
    """Put the generators back to where `draws` found them."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def to_device(values: Inputs, device: torch.device) -> Inputs:
    """The same structure with its tensors on `device`; nothing is copied where they lie there already."""
    return map_tree(lambda tensor: tensor.to(device, non_blocking=True), values)


def resident(examples: Examples, device: torch.device) -> Examples:
    """The same examples on `device`, where they are whole tensors and take at most half of its free memory.

    A batch is then one `index_select` on the device. Other examples come back as they are.
    """
    if device.type != "cuda" or not isinstance(examples, TensorExamples):
        return examples
    tensors = [*tensors_of(examples.inputs), examples.labels]
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.device != device)
    if size_bytes > torch.cuda.mem_get_info(device)[0] // 2:
        return examples
    return TensorExamples(to_device(examples.inputs, device), examples.labels.to(device))
