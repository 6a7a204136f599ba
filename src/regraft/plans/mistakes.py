"""Mistakes of recurrent layers, attention, padding and flattening, each as a trial change that is taken back."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.plans.describing import describe_model, kind_of
from regraft.plans.match_by_name import suspected_flattening
from regraft.tf_layers import KerasConvTranspose2d, ResetBeforeGRU, padded, same_pads

Trial = Callable[[nn.Module], AbstractContextManager[None]]


@dataclass(frozen=True)
class Variant:
    """One suspicion.

    told   completes "agrees when …"
    trial  a context in which the model is changed so
    """

    told: str
    trial: Trial


def weights_trial(
    applies: Callable[[nn.Module], bool], change: Callable[[Tensor], Tensor], *, leaves: tuple[str, ...] = ("weight",)
) -> Trial:
    """Arrays of the layers that it applies to, changed and put back; what changes shape is left alone."""

    @contextmanager
    def trial(model: nn.Module) -> Iterator[None]:
        modules = [module for module in model.modules() if applies(module)]
        arrays = [
            array
            for module in modules
            for name, array in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            if name.startswith(leaves)
        ]
        before = [array.detach().clone() for array in arrays]
        try:
            with torch.no_grad():
                for array, values in zip(arrays, before, strict=True):
                    changed = change(values)
                    if changed.shape == array.shape:
                        array.copy_(changed)
            yield
        finally:
            with torch.no_grad():
                for array, values in zip(arrays, before, strict=True):
                    array.copy_(values)

    return trial


def recurrent_variants(model: nn.Module) -> Iterator[Variant]:
    """Gates in another order, biases counted twice or exchanged, another form of the GRU."""
    kinds = {kind_of(module) for module in model.modules()}
    for kind, letters in (("lstm", "ifgo"), ("gru", "rzn")):
        if kind not in kinds:
            continue
        for order in list(permutations(range(len(letters))))[1:]:
            words = "".join(letters[index] for index in order)
            told = f"the gates of the {kind.upper()} are taken in the order {words} of what they are now"
            yield Variant(told, weights_trial(_is(kind), _blocks(order), leaves=("weight_", "bias_")))
        yield Variant(
            f"the {kind.upper()}'s second bias is 0", weights_trial(_is(kind), torch.zeros_like, leaves=("bias_hh",))
        )
    if "lstm" in kinds:
        yield Variant(
            "1 is added to the forget gate's bias (TensorFlow 1 keeps it in the code)",
            weights_trial(_is("lstm"), _forget_more, leaves=("bias_ih",)),
        )
    if "gru" in kinds:
        yield Variant("the GRU resets before the product: tf_layers.ResetBeforeGRU", _reset_before)
    if "attention" in kinds:
        heads = next(module.num_heads for module in model.modules() if isinstance(module, nn.MultiheadAttention))
        yield Variant(
            "the heads of the attention come before their values",
            weights_trial(_is("attention"), lambda array: _heads_first(array, heads), leaves=("in_proj",)),
        )


def shape_variants(model: nn.Module) -> Iterator[Variant]:
    """Padding as TensorFlow's, another order of a flattened map or of depthwise channels, inverse deviations."""
    for told, kinds in (("convolutions", nn.Conv2d), ("max-pooling", nn.MaxPool2d), ("averages", nn.AvgPool2d)):
        if any(isinstance(module, kinds) for module in model.modules()):
            yield Variant(f'the {told} pad as TensorFlow\'s "same" does', _forward_trial(kinds, _same))
    suspects = suspected_flattening(describe_model(model))
    for name, channels in suspects.items():
        layer = model.get_submodule(name)
        yield Variant(
            f"the inputs of {name} are a flattened map (h, w, c) in the order (c, h, w)",
            weights_trial(lambda module, layer=layer: module is layer, lambda w, c=channels: _unflattened(w, c)),  # type: ignore[misc]
        )
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    wide = [conv for conv in convs if kind_of(conv) == "depthwise" and conv.out_channels > conv.in_channels]
    if wide:
        change = partial(_channel_first, groups=wide[0].groups)
        told = "the depthwise kernels are ordered (channel, multiplier)"
        yield Variant(told, weights_trial(lambda module: module in wide, change))
    if any(kind_of(module) == "batch_norm" for module in model.modules()):
        yield Variant(
            "the variances are inverse standard deviations, as Lasagne stores them",
            weights_trial(_is("batch_norm"), lambda v: v.square().reciprocal(), leaves=("running_var",)),
        )


def transposed_variants(model: nn.Module) -> Iterator[Variant]:
    """Transposed convolutions: another cut of the output, input and output channels exchanged, kernels turned."""
    transposed = _is("conv_transpose")
    if not any(transposed(module) for module in model.modules()):
        return
    if any(isinstance(module, nn.ConvTranspose2d) for module in model.modules()):
        told = 'the transposed convolutions are cut as TensorFlow\'s "same" does: tf_layers.KerasConvTranspose2d'
        yield Variant(told, _forward_trial(nn.ConvTranspose2d, _cut_as_keras))
    for told, change in (
        ("input and output channels of the transposed convolutions are exchanged", lambda w: w.transpose(0, 1)),
        ("height and width of the transposed convolutions' kernels are swapped", lambda w: w.transpose(-1, -2)),
        ("the transposed convolutions' kernels are flipped", lambda w: w.flip(tuple(range(2, w.ndim)))),
    ):
        yield Variant(told, weights_trial(transposed, change))


def _is(kind: str) -> Callable[[nn.Module], bool]:
    return lambda module: kind_of(module) == kind


def _blocks(order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    def change(array: Tensor) -> Tensor:
        blocks = array.chunk(len(order))
        return torch.cat([blocks[index] for index in order])

    return change


def _forget_more(bias: Tensor) -> Tensor:
    changed, hidden = bias.clone(), len(bias) // 4
    changed[hidden : 2 * hidden] += 1
    return changed


def _heads_first(array: Tensor, heads: int) -> Tensor:
    """Rows of q, k and v in the order (value, head) → (head, value)."""
    rows = array.reshape(3, -1, heads, *array.shape[1:])
    return rows.transpose(1, 2).reshape(array.shape)


def _channel_first(weight: Tensor, groups: int) -> Tensor:
    return weight.reshape(-1, groups, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)


def _unflattened(weight: Tensor, channels: int) -> Tensor:
    return weight.reshape(len(weight), -1, channels).transpose(1, 2).reshape(weight.shape)


def _forward_trial(kinds: type[nn.Module], make: Callable[[Any], Callable[[Tensor], Tensor]]) -> Trial:
    @contextmanager
    def trial(model: nn.Module) -> Iterator[None]:
        modules = [module for module in model.modules() if isinstance(module, kinds)]
        try:
            for module in modules:
                module.forward = make(module)
            yield
        finally:
            for module in modules:
                del module.__dict__["forward"]

    return trial


def _same(module: Any) -> Callable[[Tensor], Tensor]:
    """The module's function with TensorFlow's padding; a convolution without padding stays as it is."""
    if isinstance(module, nn.Conv2d):
        has_padding = isinstance(module.padding, tuple) and any(module.padding)
        return padded(module, "same").forward if has_padding else type(module).forward.__get__(module)
    kernel, stride = (one if isinstance(one, tuple) else (one, one) for one in (module.kernel_size, module.stride))

    def pool(x: Tensor) -> Tensor:
        pads = same_pads(x.shape[2:], kernel, stride, (1, 1))
        flat = [width for pair in reversed(pads) for width in pair]
        if isinstance(module, nn.MaxPool2d):
            return functional.max_pool2d(functional.pad(x, flat, value=float("-inf")), kernel, stride)
        counts = functional.avg_pool2d(functional.pad(torch.ones_like(x), flat), kernel, stride)
        return functional.avg_pool2d(functional.pad(x, flat), kernel, stride) / counts

    return pool


def _cut_as_keras(module: nn.ConvTranspose2d) -> Callable[[Tensor], Tensor]:
    """What Keras' layer gives with the module's arrays; the module's own answer where that layer has no such form."""
    if module.groups > 1 or module.dilation != (1, 1):
        return type(module).forward.__get__(module)
    (height, width), (down, right) = module.kernel_size, module.stride
    with torch.device("meta"):  # no memory: the arrays are replaced at once
        keras = KerasConvTranspose2d(
            module.in_channels, module.out_channels, (height, width), (down, right), padding="same"
        )
    keras.weight, keras.bias = module.weight, module.bias
    return keras.forward


@contextmanager
def _reset_before(model: nn.Module) -> Iterator[None]:
    """One-layer GRUs, batch first, compute as the older form does."""

    def make(gru: nn.GRU) -> Any:
        older = ResetBeforeGRU(gru.input_size, gru.hidden_size)
        for leaf in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            setattr(older, leaf, getattr(gru, leaf))
        return older.forward

    grus = [one for one in model.modules() if isinstance(one, nn.GRU) and one.batch_first and one.num_layers == 1]
    try:
        for gru in grus:
            gru.forward = make(gru)  # type: ignore[method-assign]
        yield
    finally:
        for gru in grus:
            del gru.__dict__["forward"]
