"""Names of a PEFT model: which of its arrays a base checkpoint fills, and which an adapter's."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from regraft.arrays import Checkpoint
from regraft.errors import PlanError
from regraft.foundation.patterns import Patterns, as_patterns, exact_pattern
from regraft.foundation.wording import counted
from regraft.plans.renaming import Renames

_BASE = "base_model.model."  # before every name of the base model in a PeftModel, and in an adapter's file
_CONFIG = "adapter_config.json"  # beside an adapter's weights
_SETTINGS = (  # that change what the arrays of an adapter compute, and not their shapes
    "peft_type", "lora_alpha", "use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "fan_in_fan_out", "alpha",
)  # fmt: skip
_ADAPTED = re.compile(r"\.(?:lora|hada|lokr|ia3|oft|boft|vera|randlora|shira|fourierft)_\w+")


@dataclass(frozen=True)
class Asked:
    """What the user asks of a plan, completed for a PEFT model."""

    rename: Renames | None
    fresh: Patterns
    notes: tuple[str, ...] = ()


def is_peft_model(model: nn.Module) -> bool:
    """Whether this is a `peft.PeftModel`. The library is not imported for it."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__}
    return "peft.peft_model.PeftModel" in kinds


def completed(model: nn.Module, checkpoint: Checkpoint, rename: Renames | None, fresh: Patterns) -> Asked:
    """The user's rules with those that a PEFT model needs, where the names of the checkpoint fit it.

    An adapter's checkpoint fills the active adapter, and the base keeps its weights; a base's checkpoint fills the
    base, and adapters keep theirs. The checkpoint of a whole PEFT model needs nothing.

    Raises PlanError for an adapter that was trained with other settings than the model's.
    """
    targets = list(model.state_dict())
    if not is_peft_model(model) or set(checkpoint) & {name for name in targets if _ADAPTED.search(name)}:
        return Asked(rename, fresh)
    adapter = _active_adapter(model)
    of_adapter = _by_source(targets, lambda name: _adapter_name(name, adapter))
    if any(name in of_adapter and _ADAPTED.search(name) for name in checkpoint):
        _refuse_other_settings(model, adapter, checkpoint.path)
        rules, kept = _rules(checkpoint, of_adapter, targets)
        note = f"the adapter {adapter!r} of the PEFT model. {counted(len(kept), 'array')} of its base are kept."
    else:
        of_adapters = [name for name in targets if _ADAPTED.search(name)]
        rules, kept = _rules(checkpoint, _by_source(targets, _base_name), of_adapters)
        note = f"the base model of the PEFT model. {counted(len(kept), 'array')} of its adapters are kept."
    if not rules:
        return Asked(rename, fresh)
    patterns = [*as_patterns(fresh), *map(exact_pattern, kept)]
    return Asked({**(rename or {}), **rules}, patterns, (f"The checkpoint fills {note}",))


def _rules(
    names: Iterable[str], targets_of: Mapping[str, list[str]], all_targets: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """(rename rules for the names of a checkpoint, those of the targets that it does not fill)."""
    rules = {exact_pattern(name): targets_of[name] for name in names if name in targets_of}
    filled = {target for targets in rules.values() for target in targets}
    return rules, [target for target in all_targets if target not in filled]


def _refuse_other_settings(model: Any, adapter: str, path: Path) -> None:
    """Raise PlanError where the adapter's file records settings that change what its arrays mean, and others here."""
    file = (path if path.is_dir() else path.parent) / _CONFIG
    if not file.is_file():
        return
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{file} cannot be read: {error}.") from error
    here = {name: getattr(model.peft_config[adapter], name, None) for name in _SETTINGS}
    other = [name for name in _SETTINGS if name in recorded and not _same(recorded[name], here[name])]
    if other:
        lines = [f"  {name}  expected {recorded[name]}, got {_plain(here[name])}" for name in other]
        head = f"The adapter of {file.parent} was trained with other settings than the model's adapter {adapter!r}:"
        raise PlanError("\n".join([head, *lines, "Make the PEFT model by PeftConfig.from_pretrained of that folder."]))


def _plain(value: object) -> Any:
    return getattr(value, "value", value)


def _same(recorded: object, here: object) -> bool:
    return (recorded or None) == (_plain(here) or None)


def _active_adapter(model: Any) -> str:
    return str(model.active_adapter)


def _by_source(targets: Iterable[str], source_of: Any) -> Mapping[str, list[str]]:
    """Source name → the arrays of the model that it fills."""
    by_source: dict[str, list[str]] = {}
    for target in targets:
        if (name := source_of(target)) is not None:
            by_source.setdefault(name, []).append(target)
    return by_source


def _adapter_name(target: str, adapter: str) -> str | None:
    """The name in an adapter's file: without the adapter's own; None for arrays of the base."""
    part = f".{adapter}"
    if f".modules_to_save{part}." in target:
        return target.replace(f".modules_to_save{part}.", ".")
    if not _ADAPTED.search(target) or part not in target:
        return None
    head, _, tail = target.rpartition(part)
    return head + tail


def _base_name(target: str) -> str | None:
    """The name in the base model's file; None for arrays of an adapter."""
    if _ADAPTED.search(target) or not target.startswith(_BASE):
        return None
    name = target.removeprefix(_BASE)
    name = re.sub(r"\.(?:base_layer|original_module)\.", ".", name)
    return re.sub(r"\.modules_to_save\.[^.]+\.", ".", name)
