"""Facts about torch's operators: whether one draws random numbers, writes in place, needs data, costs much."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from regraft.tensors.trees import map_tree, tensors_of

NOTED = (bool, int, float, complex, str, torch.dtype, slice)  # plain arguments of a function
Operator = OpOverload  # one of torch's own operators, as its dispatcher knows it

# Methods that give Python a value made of the data. Some of them (tolist, numpy) run no operator that torch shows.
_READS_DATA = """
item tolist numpy __array__ __bool__ __int__ __float__ __complex__ __index__ __contains__ equal allclose
is_nonzero nonzero argwhere unique unique_consecutive masked_select __repr__ __format__ __deepcopy__
"""
READS_DATA = frozenset(_READS_DATA.split())


def function_name(func: Callable[..., object]) -> str:
    """A function's short name: "relu", "add", "shape"."""
    name = getattr(func, "__name__", type(func).__name__)
    return getattr(getattr(func, "__self__", None), "__name__", name) if name in ("__get__", "__set__") else name


def bound_arguments(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    """An operator's arguments by name, defaults included."""
    bound = {}
    for position, argument in enumerate(func._schema.arguments):
        given = args[position] if position < len(args) else kwargs.get(argument.name, argument.default_value)
        bound[argument.name] = given
    return bound


def written_arguments(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[Tensor]:
    """The arguments that the operator declares to change."""
    if not func._schema.is_mutable:
        return []
    bound = bound_arguments(func, args, kwargs)
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [tensor for name in names for tensor in tensors_of(bound[name])]


def normalises_by_batch(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    """Whether it normalises by the batch's own statistics; torch does not declare that this moves the running ones."""
    name = func._schema.name
    if "batch_norm" not in name:
        return False
    bound = bound_arguments(func, args, kwargs)
    return "with_update" in name or bool(bound.get("training", bound.get("train", False)))


def is_random(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    """Whether the operator draws random numbers. Torch tags those that may; a dropout of zero does not."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    bound = bound_arguments(func, args, kwargs)
    switched_off = bound.get("dropout_p") == 0.0 or bound.get("train") is False or bound.get("training") is False
    return not switched_off


def reads_only_shape(func: Operator) -> bool:
    """Whether the operator takes of its inputs only shape, type and device: zeros_like, new_ones."""
    name = func._schema.name.removeprefix("aten::")
    return name.endswith("_like") or name.startswith("new_")


def needs_data(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    """Whether the operator's result is a number for Python, or has a shape that depends on the data."""
    if torch.Tag.data_dependent_output in func.tags:
        return True
    if func._schema.name == "aten::index":
        indices = bound_arguments(func, args, kwargs)["indices"]
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_of(indices))
    return torch.Tag.dynamic_output_shape in func.tags


# Operators that are neither views nor pointwise and still cost no more than reading their inputs.
_CHEAP = """
cat stack clone copy_ _to_copy embedding index index_select gather arange full zeros ones empty zeros_like
ones_like full_like empty_like new_zeros new_ones new_full new_empty new_empty_strided empty_strided
empty_permuted repeat constant_pad_nd pad triu tril triu_ tril_ cumsum scatter scatter_ index_put index_put_
slice_scatter select_scatter sum any all amax amin mean max min argmax lift_fresh one_hot eye scalar_tensor fill
fill_ zero_ masked_fill masked_fill_ _unsafe_index unfold roll flip meshgrid linspace max_pool2d_with_indices
avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool1d max_pool3d_with_indices avg_pool3d repeat_interleave
nonzero masked_select masked_scatter
_local_scalar_dense _reshape_alias as_strided item is_nonzero equal
"""
CHEAP = frozenset(_CHEAP.split())


def is_cheap(func: Operator) -> bool:
    """Whether repeating the operator in every step costs next to nothing."""
    if func.is_view or torch.Tag.pointwise in func.tags:
        return True
    return func._schema.name.split("::")[-1] in CHEAP


def flops_of(func: Operator, args: tuple[object, ...], kwargs: Mapping[str, object], result: object) -> int:
    """Multiply-adds × 2, by torch's own formulas; 0 for what they do not count."""
    count = flop_registry.get(func._overloadpacket)
    return int(count(*args, **kwargs, out_val=result)) if count is not None else 0


def plain_arguments(args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[str, tuple[int, ...]]:
    """The fractions, switches and words among a function's arguments as a text, and the whole numbers.

    Whole numbers may be sizes, which grow with the example, or bounds and factors: see `Sizes.numbers`.
    """
    texts: list[str] = []
    numbers: list[int] = []

    def note(value: object) -> object:
        if isinstance(value, slice):
            map_tree(note, [value.start, value.stop, value.step], kind=NOTED)
        elif isinstance(value, int) and not isinstance(value, bool):
            numbers.append(value)
        else:
            texts.append(repr(value))
        return value

    map_tree(note, [*args, *(kwargs[name] for name in sorted(kwargs))], kind=NOTED)
    return " ".join(texts), tuple(numbers)
