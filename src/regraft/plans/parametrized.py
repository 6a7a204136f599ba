"""Weights that torch computes from other arrays: weight_norm, spectral_norm and pruning, in old, new and plain form.

A tensor t is kept as
  t_g and t_v, or parametrizations.t.original0 and .original1            weight_norm: g · v / ‖v‖
  t_orig, t_u and t_v, or parametrizations.t.original, .0._u and .0._v   spectral_norm: original / σ, with σ = u · W v
  t_orig and t_mask                                                      pruning: their product
"""

import re
from collections.abc import Sequence

from regraft.operations.changes import NormOver
from regraft.operations.joins import DivideBySigma, Fill, Multiply, WeightNorm
from regraft.operations.operation import Operation, Shape
from regraft.plans.layers import Layer
from regraft.plans.recurrent_layouts import Facts, LeafRule, Rules

# Part → what it is called, "t" standing for the tensor: the old name, the new one.
_NAMES = {
    "g": ("t_g", "parametrizations.t.original0"),
    "v": ("t_v", "parametrizations.t.original1"),
    "orig": ("t_orig", "parametrizations.t.original"),
    "u": ("t_u", "parametrizations.t.0._u"),
    "spectral_v": ("t_v", "parametrizations.t.0._v"),
    "mask": ("t_mask",),
    "plain": ("t",),
}
_PART = re.compile(r"parametrizations\.(?P<new>[^.]+)\..+|(?P<old>[^.]+)_(?:g|v|orig|u|mask)")


def tensor_of(leaf: str) -> str:
    """The tensor that an array is a part of.

    >>> tensor_of("weight_g"), tensor_of("parametrizations.weight.original1"), tensor_of("bias")
    ('weight', 'weight', 'bias')
    """
    match = _PART.fullmatch(leaf)
    return leaf if match is None else match["old"] or match["new"]


def parametrized_rules(layer: Layer) -> Rules:
    """Leaf of ours → how it is made of the other forms of its tensor, as torch stores them."""
    return {leaf: rules for leaf in layer.arrays if (rules := _rules(layer, leaf))}


def _rules(layer: Layer, leaf: str) -> tuple[LeafRule, ...]:
    tensor = tensor_of(leaf) if tensor_of(leaf) not in layer.arrays else leaf
    present = {part for part in _NAMES if not layer.arrays.keys().isdisjoint(_names(part, tensor))}
    part = next((part for part in _NAMES if leaf in _names(part, tensor) and _is(part, present)), "")
    shape = layer.arrays[leaf].shape
    if part == "plain":
        return _computed(layer, tensor) if len(shape) > 1 else ()
    alternatives: dict[str, tuple[LeafRule, ...]] = {
        "g": (_rule(("plain",), tensor, NormOver(shape)),),
        "v": (_rule(("plain",), tensor),),
        "mask": (LeafRule((), lambda shapes, facts: (Fill(1.0, shape),)),),
        "orig": (_rule(("plain",), tensor),) if "mask" in present else (),
    }
    return (_rule((part,), tensor), *alternatives.get(part, ())) if part else ()


def _is(part: str, present: set[str]) -> bool:
    """t_v is a kernel beside t_g, a vector beside t_orig."""
    return {"v": "g" in present, "spectral_v": "orig" in present}.get(part, True)


def _computed(layer: Layer, tensor: str) -> tuple[LeafRule, ...]:
    """The plain tensor from its parts."""
    axis = 1 if layer.kind == "conv_transpose" else 0  # as torch's spectral_norm chooses it
    return (
        _rule(("g", "v"), tensor, WeightNorm()),
        _rule(("orig", "mask"), tensor, Multiply()),
        _rule(("orig", "u", "spectral_v"), tensor, DivideBySigma(axis)),
    )


def _rule(parts: Sequence[str], tensor: str, *operations: Operation) -> LeafRule:
    def always(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
        return operations

    patterns = ("|".join(map(re.escape, _names(part, tensor))) for part in parts)
    return LeafRule(tuple(patterns), always)


def _names(part: str, tensor: str) -> list[str]:
    return [_name(form, tensor) for form in _NAMES[part]]


def _name(form: str, tensor: str) -> str:
    return re.sub(r"(?<![a-z])t(?![a-z])", tensor, form)
