"""The step that decides: a checkpoint and a model → the plan, with an answer for every array on both sides."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import nn

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.errors import PlanError
from regraft.operations.joins import Subtract
from regraft.patterns import Patterns, choose
from regraft.plan import CheckpointIdentity, FileIdentity, Plan
from regraft.plans.adapting import chosen_ways
from regraft.plans.adoption import can_change
from regraft.plans.describing import describe_model
from regraft.plans.folding import fold_as_asked, fold_biases, left_biases, unfold_norms
from regraft.plans.layers import Layer
from regraft.plans.layouts import deduced_layout, known_layout
from regraft.plans.match_by_name import Pairings, Sources, pair_by_names
from regraft.plans.match_by_structure import Wiring, compared_functions, pair_by_structure
from regraft.plans.module_graph import Traced, traced
from regraft.plans.renaming import dotted, rename_all, unwrapped
from regraft.plans.rows import RequirementRow, Row
from regraft.plans.settings import compare_settings, left_behind, with_biases, with_choices
from regraft.plans.target_rows import Wishes, source_rows, target_rows


def plan_reuse(
    checkpoint: Checkpoint,
    model: nn.Module,
    *,
    reuse: Patterns = ".*",
    fresh: Patterns = (),
    rename: Mapping[str, str] | None = None,
    layout: str | None = None,
    match: Literal["names", "structure"] = "names",
    adapt: Mapping[str, str] | None = None,
    accept: Patterns = (),
    adopt: Patterns = (),
    ema: bool = False,
) -> Plan:
    """Which arrays of the checkpoint fill which arrays of the model, and why. Reads no values, changes nothing.

    reuse   which layers of the model to restore; with the default every array needs a source or a word in `fresh`
    fresh   layers that stay as they were initialised
    rename  pattern of a whole source name → replacement, theirs → ours, where names differ
    layout  whose axis orders the checkpoint follows, where the file does not tell: "tensorflow", "torch" …
    adapt   pattern → way to make an array fit that does not: {"conv1": "sum"} (how-to/channels)
    accept  what is kept though it looks wrong: settings that differ (r"bn1\\.eps"), arrays with infinite values
    adopt   what `apply_plan` changes in the model to compute as the source does: r".*\\.eps", or ".*" for all it can
    ema     use the moving averages of the weights, where the checkpoint has them

    Raises PatternError when a pattern or a rule matches nothing. What does not fit is no error but a row of the plan:
    see `Plan.problems` and `Plan.check()`.
    """
    choices = _Choices(reuse, fresh, layout, match, adapt, accept, adopt, ema)
    layers = describe_model(model)
    plan = _planned(checkpoint, model, layers, rename, choices)
    given = tuple(row for row in plan.requirements if row.status == "adopted" and row.attribute == "bias")
    if not given:
        return plan
    return _planned(checkpoint, model, with_biases(layers, given), rename, choices, given)


@dataclass(frozen=True)
class _Choices:
    """What the user chose, as `plan_reuse` tells it."""

    reuse: Patterns
    fresh: Patterns
    layout: str | None
    match: str
    adapt: Mapping[str, str] | None
    accept: Patterns
    adopt: Patterns
    ema: bool


def _planned(
    checkpoint: Checkpoint,
    model: nn.Module,
    layers: Sequence[Layer],
    rename: Mapping[str, str] | None,
    chosen: _Choices,
    given: Sequence[RequirementRow] = (),
) -> Plan:
    """The plan for these layers: the model's own, or with the biases that it is `given`."""
    targets = [layer.full(leaf) for layer in layers for leaf in layer.arrays]
    usable = _usable(checkpoint, ema=chosen.ema)
    renamed = {name: new for name, new in rename_all(checkpoint, rename).items() if name in usable}
    decided, notes = _decide_layout(checkpoint, chosen.layout, renamed)
    owners = {name: info.layer or _parent(name) for name, info in checkpoint.items()}
    wiring = _wiring(checkpoint)
    sources = Sources(_in_layers(checkpoint, renamed), usable, decided, _facts_of(checkpoint, owners, wiring), owners)
    ways = chosen_ways(chosen.adapt, targets)
    ours = traced(model) if chosen.match == "structure" or wiring.inputs else None
    pairings, left_ways = _paired(layers, sources, checkpoint, model, ours, chosen.match, ways)
    wishes = Wishes(
        reuse=None if chosen.reuse == ".*" else frozenset(choose(targets, chosen.reuse)),
        fresh=frozenset(choose(targets, chosen.fresh)) if chosen.fresh else frozenset(),
        ways=left_ways,
    )
    advice = _advice(layers, renamed, decided, by_names=chosen.match == "names" and len(pairings.of) * 2 < len(targets))
    rows = target_rows(layers, pairings.of, usable, wishes, advice=advice)
    rest = source_rows(checkpoint, usable, rows, pairings.of)
    settings = (*_settings(checkpoint, layers, rows, rest, decided), *given)
    if ours is not None and wiring.inputs:
        pairs = _pairs(layers, rows, sources)
        settings += compared_functions(layers, sources, wiring, ours, pairs, partial(can_change, model))
    rows, settings = _with_choices(rows, settings, chosen.accept, chosen.adopt)
    notes = (*checkpoint.notes, *notes, *(wiring.notes() if ours is None else ()), *pairings.notes)
    return Plan(identity_of(checkpoint), decided, (*rows, *rest), settings, notes)


def _pairs(layers: Sequence[Layer], rows: Sequence[Row], sources: Sources) -> dict[str, str]:
    """Our layer, or array of a module of no known kind → the source layer that fills it."""
    names = {layer.full(leaf): layer for layer in layers for leaf in layer.arrays}
    found: dict[str, str] = {}
    for row in rows:
        if row.target is not None and row.sources and row.is_reused:
            layer = names[row.target]
            found.setdefault(row.target if layer.kind == "other" else layer.name, sources.owners[row.sources[0]])
    return found


def _paired(
    layers: Sequence[Layer],
    sources: Sources,
    checkpoint: Checkpoint,
    model: nn.Module,
    wiring: Traced | None,
    match: str,
    ways: Mapping[str, str],
) -> tuple[Pairings, Mapping[str, str]]:
    """(pairings, the ways that are left): layers matched, then biases without a place folded into norms."""
    found = _matched(layers, sources, checkpoint, wiring, match)
    ways, asked = fold_as_asked(ways, found.of, sources)
    biases = left_biases(layers, found.of, sources)
    wiring = wiring or (traced(model) if biases else None)
    if wiring is None:
        return replace(found, of={**found.of, **asked}), ways
    folded = fold_biases(biases, found.of, sources, wiring.follows)
    unfolded = unfold_norms(biases, found.of, sources, wiring.follows, layers)
    return replace(found, of={**found.of, **folded, **unfolded, **asked}), ways


def _matched(
    layers: Sequence[Layer], sources: Sources, checkpoint: Checkpoint, wiring: Traced | None, match: str
) -> Pairings:
    """By names; by structure what the user's rename rules leave."""
    if match == "names":
        return pair_by_names(layers, sources)
    if match != "structure":
        raise PlanError(f'There is no way {match!r} to match layers. Ways: "names", "structure".')
    told = {name for name, new in sources.names.items() if new not in (name, _layered(checkpoint, name))}
    by_names = pair_by_names(layers, replace(sources, names={name: sources.names[name] for name in told}))
    rest = replace(sources, names={name: new for name, new in sources.names.items() if name not in told})
    by_structure = pair_by_structure(layers, rest, _wiring(checkpoint), wiring)
    return Pairings({**by_structure.of, **by_names.of}, (*by_names.notes, *by_structure.notes))


def _wiring(checkpoint: Checkpoint) -> Wiring:
    """Who feeds whom, as far as the file tells it."""
    facts: dict[str, dict[str, object]] = defaultdict(dict)
    for requirement in checkpoint.requirements:
        facts[requirement.layer][requirement.attribute] = requirement.value
    inputs = {layer: told["inputs"] for layer, told in facts.items() if isinstance(told.get("inputs"), list)}
    operation = {layer: str(told["operation"]) for layer, told in facts.items() if "operation" in told}
    return Wiring(inputs, operation, facts)  # type: ignore[arg-type]  # lists of names, by every reader


def identity_of(checkpoint: Checkpoint) -> CheckpointIdentity:
    """What a plan keeps of its checkpoint: names and sizes of the files, no hashes yet."""
    files = tuple(FileIdentity(path.name, path.stat().st_size, str(path)) for path in checkpoint.files)
    return CheckpointIdentity(str(checkpoint.path), checkpoint.format, checkpoint.layout, files)


def _usable(checkpoint: Checkpoint, *, ema: bool) -> dict[str, ArrayInfo]:
    """The arrays that may fill a model: the weights, or their moving averages where there are any."""
    averages = {name: info for name, info in checkpoint.items() if info.role == "ema"}
    weights = {name: info for name, info in checkpoint.items() if info.role == "weight"}
    if not ema:
        return weights
    if not averages:
        raise PlanError(f"{checkpoint.path} has no moving averages of weights: leave out ema=True.")
    averaged = {_without_average(name) for name in averages}
    kept = {name: info for name, info in weights.items() if _without_average(name) not in averaged}
    return {**averages, **kept}


def _in_layers(checkpoint: Checkpoint, renamed: Mapping[str, str]) -> dict[str, str]:
    """Source name → name, as layer and leaf where the file tells them and the user has not renamed the array."""
    return {name: _layered(checkpoint, name) if new == name else new for name, new in renamed.items()}


def _layered(checkpoint: Checkpoint, name: str) -> str:
    info = checkpoint[name]
    return f"{info.layer}/{info.leaf}" if info.leaf else name


def _facts_of(checkpoint: Checkpoint, owners: Mapping[str, str], wiring: Wiring) -> dict[str, dict[str, object]]:
    """Source name → what the file tells of its layer and of the layers around it."""
    told: dict[str, dict[str, object]] = defaultdict(dict)
    for requirement in checkpoint.requirements:
        told[requirement.layer][requirement.attribute] = requirement.value
    for layer in wiring.behind_global_pooling():
        told[layer].setdefault("flatten_order", "pooled")
    return {
        name: {key: value for outer in reversed(_parents(owner, told)) for key, value in told[outer].items()}
        for name, owner in owners.items()
    }


def _without_average(name: str) -> str:
    """The name that an average shares with its weight."""
    *_, shortest = unwrapped(dotted(name))
    return shortest


def _decide_layout(
    checkpoint: Checkpoint, asked: str | None, renamed: Mapping[str, str]
) -> tuple[str | None, tuple[str, ...]]:
    """(layout, notes): what the user says, else what the file says, else what only one family's names can mean."""
    if asked is not None:
        return known_layout(asked), ()
    deduced, why = deduced_layout(dotted(name) for name in renamed)
    declared = known_layout(checkpoint.layout)
    if declared == "torch" and deduced not in (None, "torch"):
        # safetensors holds arrays of any framework; its readers say torch because most files are.
        return None, (f"{checkpoint.format} is mostly torch's, but {why}, as in {deduced}: say layout=…",)
    if declared is None and deduced is not None:
        return deduced, (f"assumed the axis orders of {deduced}, because {why}",)
    return declared, ()


def _advice(layers: Sequence[Layer], renamed: Mapping[str, str], layout: str | None, *, by_names: bool) -> str:
    """What to do about arrays without a source; a rename rule where one would find most of them.

    by_names   the layers were matched by names, and most of them found nothing
    """
    names = {layer.name for layer in layers}
    prefixes: dict[str, int] = defaultdict(int)
    for source in renamed.values():
        parts = dotted(source, layout).split(".")
        for length in range(1, len(parts) - 1):
            if ".".join(parts[length:-1]) in names:
                prefixes[source[: len("/".join(parts[:length])) + 1]] += 1
    fresh = 'Say fresh=["…"] for what is to stay as initialised'
    best = max(prefixes, key=lambda prefix: prefixes[prefix], default="")
    if prefixes[best] * 2 > len(renamed):
        return f'{prefixes[best]} sources begin with {best!r}: rename={{r"{best}(.*)": r"\\1"}}. {fresh}.'
    if by_names:
        return (
            "Most names differ. Where it is the same network under other names, or names that tell nothing, say "
            'match="structure":\nit goes by the kinds, shapes and order of the layers (how-to/other-names). Else name '
            f"the sources with rename rules (how-to/rename).\n{fresh}."
        )
    return f"{fresh}, or name its source with a rename rule (how-to/rename)."


def _settings(
    checkpoint: Checkpoint, layers: Sequence[Layer], rows: Sequence[Row], rest: Sequence[Row], layout: str | None
) -> tuple[RequirementRow, ...]:
    """Everything beside the arrays on which the source layer and the layer that takes its arrays must agree."""
    by_name = {layer.full(leaf): layer for layer in layers for leaf in layer.arrays}
    source_layers = {name: info.layer or _parent(name) for name, info in checkpoint.items()}
    told = {requirement.layer for requirement in checkpoint.requirements}
    takers: dict[str, list[Layer]] = defaultdict(list)
    # Nothing is known of a layer's settings while several sources fit it, and each pair of them would be a row.
    for row in [row for row in rows if row.target is not None and row.status != "ambiguous"]:
        is_folded = any(isinstance(operation, Subtract) for operation in row.operations)
        # A bias folded into a norm belongs to another layer, whose settings are not the norm's.
        for source in row.sources[:1] if is_folded else row.sources:
            layer = by_name[row.target or ""]
            if layer.kind == "batch_norm" and checkpoint[source].layer_type not in (
                "",
                "BatchNormalization",
                "BatchNorm",
            ):
                continue  # the bias of a layer that a norm was folded into
            for source_layer in _parents(source_layers[source], told):
                if all(taker is not layer for taker in takers[source_layer]):
                    takers[source_layer].append(layer)
    unused = {row.sources[0]: checkpoint[row.sources[0]] for row in rest if row.status == "unused"}
    return (*compare_settings(checkpoint.requirements, takers, layout), *left_behind(unused, source_layers, takers))


def _parent(name: str) -> str:
    """The name without its leaf, in its own separators."""
    return name[: max(name.rfind("/"), name.rfind("."), 0)]


def _parents(source_layer: str, told: Collection[str]) -> list[str]:
    """The layer, and those around it of which the file tells something: lstm for lstm/lstm_cell."""
    ends = [index for index, letter in enumerate(source_layer) if letter in "/."]
    return [source_layer, *(source_layer[:end] for end in reversed(ends) if end and source_layer[:end] in told)]


def _with_choices(
    rows: Sequence[Row], settings: Sequence[RequirementRow], accept: Patterns, adopt: Patterns
) -> tuple[tuple[Row, ...], tuple[RequirementRow, ...]]:
    names = [setting.name for setting in settings]
    targets = [row.target for row in rows if row.target is not None]
    accepted = set(choose([*names, *targets], accept, what="setting or array")) if accept else set()
    adopted = set(choose(names, adopt, what="setting")) if adopt else set()
    marked = tuple(replace(row, accepted=("nonfinite",)) if row.target in accepted else row for row in rows)
    return marked, with_choices(settings, accepted, adopted)
