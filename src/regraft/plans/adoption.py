"""What a plan adopts, done to the model: settings set, layers that pad by themselves put in, forwards changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from regraft.errors import PlanError
from regraft.foundation.wording import near_names
from regraft.plans.forwards import can_edit, change_forward
from regraft.plans.rows import RequirementRow, Setting, Subject
from regraft.plans.steps import Absent, Activation, CallStep, Function, ModuleStep, Pool
from regraft.plans.torch_steps import module_for
from regraft.tf_layers import padded

_KEPT = "_regraft_adopted"  # on the module that was changed: deepcopy, pickle and `save` take it along


def adopt(model: nn.Module, rows: Sequence[RequirementRow]) -> ExitStack:
    """Give the model what these rows require, and keep the rows in it; closing the result takes it back.

    Raises PlanError, with the model as it was, for a row that cannot be adopted.
    """
    _refuse_unknown_layers(model, rows)
    changes = ExitStack()
    with ExitStack() as undone:
        undone.push(changes)
        # `padding` comes last: it makes a layer of its own, which takes the other settings of the old one.
        for row in sorted(rows, key=lambda row: row.attribute == "padding"):
            if not row.adoptable:
                raise PlanError(f"{row.name} cannot be adopted: change the model itself.\n{row.note}")
            _adopt(model, row, changes)
        for layer, edits in _edits(rows).items():
            change_forward(model.get_submodule(layer), edits, changes)
        if rows:
            changes.callback(model.__dict__.__setitem__, _KEPT, model.__dict__.get(_KEPT, ()))
            model.__dict__[_KEPT] = (*model.__dict__.get(_KEPT, ()), *rows)
        undone.pop_all()
    return changes


def adopted_by(model: nn.Module) -> tuple[RequirementRow, ...]:
    """All that was adopted in the model or in a part of it, by the names of the whole."""
    rows: dict[Subject, RequirementRow] = {}
    for name, module in model.named_modules():
        for row in module.__dict__.get(_KEPT, ()):
            subject = replace(row.subject, layer=".".join(filter(None, (name, row.layer))))
            rows[subject] = replace(row, subject=subject)
    return tuple(rows.values())


def can_change(model: nn.Module, step: ModuleStep | CallStep, function: Function | Absent) -> bool:
    """Whether a place of the model can do a step: a module of its own, or a call in a forward that can be rewritten."""
    owner = dict(model.named_modules()).get(step.layer)
    if owner is None or module_for(function) is None:
        return False
    return isinstance(step, ModuleStep) or can_edit(owner, step)


def _refuse_unknown_layers(model: nn.Module, rows: Sequence[RequirementRow]) -> None:
    layers = dict(model.named_modules())
    unknown = dict.fromkeys(row.layer for row in rows if row.layer not in layers)
    if unknown:
        lines = "\n".join(f"  There is no layer {name!r}. {near_names(name, layers)}" for name in unknown)
        raise PlanError(f"The settings to adopt are not those of this model; nothing was changed.\n{lines}")


def _adopt(model: nn.Module, row: RequirementRow, changes: ExitStack) -> None:
    """Change a setting or a module; calls in forwards are changed together afterwards."""
    if isinstance(row.subject, ModuleStep):
        _replace_module(model, row.layer, _module_of(row), changes)
    elif isinstance(row.subject, Setting):
        _adopt_setting(model, row, changes)


def _adopt_setting(model: nn.Module, row: RequirementRow, changes: ExitStack) -> None:
    module = model.get_submodule(row.layer)
    if row.attribute == "bias":
        _give_bias(module, changes)
    elif row.attribute == "padding":
        _pad(model, row.layer, row.required, changes)
    else:
        _set(module, row.attribute, row.required, changes)


def _edits(rows: Sequence[RequirementRow]) -> Mapping[str, dict[CallStep, nn.Module | None]]:
    """Module → call in its forward → the module that takes its place; None for a call that goes."""
    edits: dict[str, dict[CallStep, nn.Module | None]] = defaultdict(dict)
    for row in rows:
        if isinstance(row.subject, CallStep):
            edits[row.layer][row.subject] = None if isinstance(row.required, Absent) else _module_of(row)
    return edits


def _module_of(row: RequirementRow) -> nn.Module:
    """The module that does what the row requires."""
    module = module_for(row.required) if isinstance(row.required, Pool | Activation | Absent) else None
    if module is None:
        raise PlanError(f"{row.name}: no module does {str(row.required)!r}. Write it in the model itself.")
    return module


def _set(module: nn.Module, name: str, value: object, changes: ExitStack) -> None:
    changes.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)


def _replace_module(model: nn.Module, name: str, module: nn.Module, changes: ExitStack) -> None:
    parent, _, child = name.rpartition(".")
    old = model.get_submodule(name)
    changes.callback(setattr, model.get_submodule(parent), child, old)
    setattr(model.get_submodule(parent), child, module.train(old.training))


def _give_bias(module: nn.Module, changes: ExitStack) -> None:
    weight = module.weight
    assert isinstance(weight, torch.Tensor), "our bug: a bias was offered to a layer without a weight"
    outputs = weight.shape[0]
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        outputs = weight.shape[1] * module.groups
    changes.callback(setattr, module, "bias", module.bias)
    module.bias = nn.Parameter(torch.zeros(outputs, dtype=weight.dtype, device=weight.device), weight.requires_grad)


def _pad(model: nn.Module, name: str, required: Any, changes: ExitStack) -> None:
    """Numbers are set; what torch's convolution cannot do is done by one that pads by itself."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.modules.conv._ConvNd), "our bug: padding was offered to a layer that has none"
    sides = (required,) * len(module.kernel_size) if isinstance(required, int) else required
    if isinstance(sides, tuple) and all(isinstance(side, int) for side in sides):
        _set(module, "padding", sides, changes)
    else:
        _replace_module(model, name, padded(module, sides), changes)
