"""Ways in which a conversion goes wrong without an error, each as a trial change of the model that is taken back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from regraft.plans.describing import kind_of
from regraft.plans.mistakes import (
    Trial,
    Variant,
    recurrent_variants,
    shape_variants,
    transposed_variants,
    weights_trial,
)

EPS = (1e-3, 1.001e-5, 1e-5, 1e-6, 1e-12)


def variants_of(model: nn.Module) -> Iterator[Variant]:
    """The suspicions that apply to this model's layers."""
    kinds = {kind_of(module) for module in model.modules()}
    if kinds & {"batch_norm", "norm"}:
        for eps in EPS:
            yield Variant(f"the eps of the norms is {eps:g}", _eps_trial(eps))
    if any(_is_square(module) for module in model.modules()):
        yield Variant(
            "the square dense kernels are transposed: their axis order (layout) is wrong",
            weights_trial(_is_square, lambda weight: weight.T),
        )
    if kinds & {"conv", "depthwise"}:
        yield Variant(
            "height and width of the convolution kernels are swapped",
            weights_trial(_is_conv_of_maps, lambda weight: weight.transpose(-1, -2)),
        )
        yield Variant(
            "the convolution kernels are flipped (a true convolution, as in Theano)",
            weights_trial(_is_conv, lambda weight: weight.flip(tuple(range(2, weight.ndim)))),
        )
        yield Variant(
            "the input channels of the first convolution are in the opposite order (BGR or RGB)",
            weights_trial(_first_only(model), lambda weight: weight.flip(1)),
        )
    yield from transposed_variants(model)
    yield from recurrent_variants(model)
    yield from shape_variants(model)


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and not module.transposed


def _is_conv_of_maps(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and not module.transposed and module.weight.ndim > 3


def _is_square(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.in_features == module.out_features


def _first_only(model: nn.Module) -> Callable[[nn.Module], bool]:
    first = next((module for module in model.modules() if kind_of(module) == "conv"), None)
    return lambda module: module is first


def _eps_trial(eps: float) -> Trial:
    @contextmanager
    def trial(model: nn.Module) -> Iterator[None]:
        norms: list[Any] = [
            module for module in model.modules() if kind_of(module) in ("batch_norm", "norm") and hasattr(module, "eps")
        ]
        before = [norm.eps for norm in norms]
        try:
            for norm in norms:
                norm.eps = eps
            yield
        finally:
            for norm, value in zip(norms, before, strict=True):
                norm.eps = value

    return trial
