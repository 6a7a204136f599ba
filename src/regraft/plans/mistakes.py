"""Mistakes that a conversion makes without an error, each as a trial change of the model that is taken back."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from regraft.plans.describing import describe_model, kind_of
from regraft.plans.match_by_name import suspected_flattening
from regraft.tf_layers import KerasConvTranspose2d, ResetBeforeGRU, padded, same_pads

EPS = (1e-3, 1.001e-5, 1e-5, 1e-6, 1e-12)
Trial = Callable[[nn.Module], AbstractContextManager[None]]
Applies = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class Mistake:
    """One suspicion.

    words  completes "agrees when …"
    trial  a context in which the model is changed so
    """

    words: str
    trial: Trial


def possible_mistakes(model: nn.Module) -> Iterator[Mistake]:
    """The suspicions that apply to this model's layers."""
    kinds = {kind_of(module) for module in model.modules()}
    if kinds & {"batch_norm", "norm"}:
        yield from (Mistake(f"the eps of the norms is {eps:g}", _eps_trial(eps)) for eps in EPS)
    if any(map(_is_square, model.modules())):
        words = "the square dense kernels are transposed: their axis order (layout) is wrong"
        yield Mistake(words, _arrays_trial(_is_square, lambda weight: weight.T))
    if kinds & {"conv", "depthwise"}:
        yield from _kernel_mistakes(model)
    yield from _transposed_mistakes(model)
    yield from _recurrent_mistakes(model, kinds)
    yield from _padding_mistakes(model)
    yield from _order_mistakes(model, kinds)


def _kernel_mistakes(model: nn.Module) -> Iterator[Mistake]:
    """Convolution kernels in another order of their axes or values."""
    words = "height and width of the convolution kernels are swapped"
    yield Mistake(words, _arrays_trial(_is_conv_of_maps, lambda weight: weight.transpose(-1, -2)))
    words = "the convolution kernels are flipped (a true convolution, as in Theano)"
    yield Mistake(words, _arrays_trial(_is_conv, _flipped))
    first = next((module for module in model.modules() if kind_of(module) == "conv"), None)
    words = "the input channels of the first convolution are in the opposite order (BGR or RGB)"
    yield Mistake(words, _arrays_trial(lambda module: module is first, lambda weight: weight.flip(1)))


def _recurrent_mistakes(model: nn.Module, kinds: Iterable[str]) -> Iterator[Mistake]:
    """Gates in another order, biases counted twice or exchanged, another form of the GRU, heads of attention."""
    for kind, letters in (("lstm", "ifgo"), ("gru", "rzn")):
        if kind in kinds:
            yield from _gate_mistakes(kind, letters)
    if "lstm" in kinds:
        words = "1 is added to the forget gate's bias (TensorFlow 1 keeps it in the code)"
        yield Mistake(words, _arrays_trial(_is("lstm"), _forget_more, leaves=("bias_ih",)))
    if "gru" in kinds:
        yield Mistake("the GRU resets before the product: tf_layers.ResetBeforeGRU", _reset_before)
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    for attention in attentions[:1]:
        words = "the heads of the attention come before their values"
        change = partial(_heads_first, heads=attention.num_heads)
        yield Mistake(words, _arrays_trial(_is("attention"), change, leaves=("in_proj",)))


def _gate_mistakes(kind: str, letters: str) -> Iterator[Mistake]:
    for order in list(permutations(range(len(letters))))[1:]:
        gates = "".join(letters[index] for index in order)
        words = f"the gates of the {kind.upper()} are taken in the order {gates} of what they are now"
        yield Mistake(words, _arrays_trial(_is(kind), partial(_blocks, order=order), leaves=("weight_", "bias_")))
    words = f"the {kind.upper()}'s second bias is 0"
    yield Mistake(words, _arrays_trial(_is(kind), torch.zeros_like, leaves=("bias_hh",)))


def _padding_mistakes(model: nn.Module) -> Iterator[Mistake]:
    """Padding as TensorFlow's."""
    for words, kind in (("convolutions", nn.Conv2d), ("max-pooling", nn.MaxPool2d), ("averages", nn.AvgPool2d)):
        if any(isinstance(module, kind) for module in model.modules()):
            yield Mistake(f'the {words} pad as TensorFlow\'s "same" does', _forward_trial(kind, _same))


def _order_mistakes(model: nn.Module, kinds: Iterable[str]) -> Iterator[Mistake]:
    """Another order of a flattened map or of depthwise channels, inverse deviations."""
    for name, channels in suspected_flattening(describe_model(model)).items():
        layer = model.get_submodule(name)
        words = f"the inputs of {name} are a flattened map (h, w, c) in the order (c, h, w)"
        yield Mistake(words, _arrays_trial(partial(_is_module, layer), partial(_unflattened, channels=channels)))
    wide = [module for module in model.modules() if isinstance(module, nn.Conv2d) and _is_wide(module)]
    if wide:
        change = partial(_channel_first, groups=wide[0].groups)
        words = "the depthwise kernels are ordered (channel, multiplier)"
        yield Mistake(words, _arrays_trial(lambda module: module in wide, change))
    if "batch_norm" in kinds:
        words = "the variances are inverse standard deviations, as Lasagne stores them"
        inverse = lambda variance: variance.square().reciprocal()  # noqa: E731
        yield Mistake(words, _arrays_trial(_is("batch_norm"), inverse, leaves=("running_var",)))


def _transposed_mistakes(model: nn.Module) -> Iterator[Mistake]:
    """Transposed convolutions: another cut of the output, input and output channels exchanged, kernels turned."""
    transposed = _is("conv_transpose")
    if not any(map(transposed, model.modules())):
        return
    if any(isinstance(module, nn.ConvTranspose2d) for module in model.modules()):
        words = 'the transposed convolutions are cut as TensorFlow\'s "same" does: tf_layers.KerasConvTranspose2d'
        yield Mistake(words, _forward_trial(nn.ConvTranspose2d, _cut_as_keras))
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "input and output channels of the transposed convolutions are exchanged": lambda w: w.transpose(0, 1),
        "height and width of the transposed convolutions' kernels are swapped": lambda w: w.transpose(-1, -2),
        "the transposed convolutions' kernels are flipped": _flipped,
    }
    yield from (Mistake(words, _arrays_trial(transposed, change)) for words, change in changes.items())


# --- trials -----------------------------------------------------------------------------------------------------------


def _arrays_trial(
    applies: Applies, change: Callable[[Tensor], Tensor], *, leaves: tuple[str, ...] = ("weight",)
) -> Trial:
    """Arrays of the layers that it applies to, changed and put back; what changes shape is left alone."""

    @contextmanager
    def trial(model: nn.Module) -> Iterator[None]:
        arrays = [array for name, array in _own_arrays(filter(applies, model.modules())) if name.startswith(leaves)]
        before = [array.detach().clone() for array in arrays]
        changed = map(change, before)
        try:
            _fill(arrays, [new if new.shape == old.shape else old for old, new in zip(before, changed, strict=True)])
            yield
        finally:
            _fill(arrays, before)

    return trial


def _own_arrays(modules: Iterable[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for module in modules:
        yield from (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))


@torch.no_grad()
def _fill(arrays: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for array, new in zip(arrays, values, strict=True):
        array.copy_(new)


def _eps_trial(eps: float) -> Trial:
    @contextmanager
    def trial(model: nn.Module) -> Iterator[None]:
        norms: list[Any] = [module for module in model.modules() if _is_norm(module)]
        before = [norm.eps for norm in norms]
        try:
            for norm in norms:
                norm.eps = eps
            yield
        finally:
            for norm, value in zip(norms, before, strict=True):
                norm.eps = value

    return trial


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
                module.__dict__.pop("forward", None)

    return trial


@contextmanager
def _reset_before(model: nn.Module) -> Iterator[None]:
    """One-layer GRUs, batch first, compute as the older form does."""

    def make(gru: nn.GRU) -> Callable[..., Any]:
        older = ResetBeforeGRU(gru.input_size, gru.hidden_size)
        for leaf in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            setattr(older, leaf, getattr(gru, leaf))
        return older.forward

    grus = [
        module
        for module in model.modules()
        if isinstance(module, nn.GRU) and module.batch_first and module.num_layers == 1
    ]
    try:
        for gru in grus:
            gru.forward = make(gru)  # type: ignore[method-assign]
        yield
    finally:
        for gru in grus:
            gru.__dict__.pop("forward", None)


# --- which layers, which changes --------------------------------------------------------------------------------------


def _is(kind: str) -> Applies:
    return lambda module: kind_of(module) == kind


def _is_module(layer: nn.Module, module: nn.Module) -> bool:
    return module is layer


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and not module.transposed


def _is_conv_of_maps(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and not module.transposed and module.weight.ndim > 3


def _is_norm(module: nn.Module) -> bool:
    return kind_of(module) in ("batch_norm", "norm") and hasattr(module, "eps")


def _is_square(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.in_features == module.out_features


def _is_wide(conv: nn.Conv2d) -> bool:
    return kind_of(conv) == "depthwise" and conv.out_channels > conv.in_channels


def _flipped(weight: Tensor) -> Tensor:
    return weight.flip(tuple(range(2, weight.ndim)))


def _blocks(array: Tensor, order: tuple[int, ...]) -> Tensor:
    blocks = array.chunk(len(order))
    return torch.cat([blocks[index] for index in order])


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


def _same(module: Any) -> Callable[[Tensor], Tensor]:
    """The module's function with TensorFlow's padding; a convolution without padding stays as it is."""
    if isinstance(module, nn.Conv2d):
        has_padding = isinstance(module.padding, tuple) and any(module.padding)
        same = padded(module, "same") if has_padding else module
        return partial(type(same).forward, same)
    kernel, stride = (size if isinstance(size, tuple) else (size, size) for size in (module.kernel_size, module.stride))

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
        return partial(type(module).forward, module)
    (height, width), (down, right) = module.kernel_size, module.stride
    with torch.device("meta"):  # no memory: the arrays are replaced at once
        keras = KerasConvTranspose2d(
            module.in_channels, module.out_channels, (height, width), (down, right), padding="same"
        )
    keras.weight, keras.bias = module.weight, module.bias
    return keras.forward
