"""Names of a PEFT model: which of its arrays a base checkpoint fills, and which an adapter's."""

import json
import re
from collections.abc import Iterable, Mapping
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
    sources, targets = list(checkpoint), list(model.state_dict())
    if not is_peft_model(model) or set(sources) & {name for name in targets if _ADAPTED.search(name)}:
        return Asked(rename, fresh)
    adapter = _active_adapter(model)
    of_adapter = _by_source(targets, lambda name: _adapter_name(name, adapter))
    of_base = _by_source(targets, _base_name)
    is_adapter = any(name in of_adapter and _ADAPTED.search(name) for name in sources)
    if is_adapter:
        _refuse_other_settings(model, adapter, checkpoint.path)
    chosen = of_adapter if is_adapter else of_base
    rules = {exact_pattern(name): chosen[name] for name in sources if name in chosen}
    if not rules:
        return Asked(rename, fresh)
    filled = {target for name in sources for target in chosen.get(name, ())}
    kept = [name for name in targets if name not in filled and (is_adapter or _ADAPTED.search(name))]
    what, rest = (f"the adapter {adapter!r}", "base") if is_adapter else ("the base model", "adapters")
    note = f"The checkpoint fills {what} of the PEFT model. {counted(len(kept), 'array')} of its {rest} are kept."
    return Asked({**(rename or {}), **rules}, [*as_patterns(fresh), *map(exact_pattern, kept)], (note,))


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


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _same(recorded: Any, here: Any) -> bool:
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
