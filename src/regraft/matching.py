"""The step that decides: a checkpoint and a model → the plan, with an answer for every array on both sides."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import nn

from regraft.arrays import Checkpoint
from regraft.errors import PlanError
from regraft.foundation.patterns import (
    Patterns,
    as_patterns,
    choose,
    chosen,
    compile_pattern,
    is_chosen,
    names_something,
    refuse_idle,
)
from regraft.plan import CheckpointIdentity, FileIdentity, Plan
from regraft.plans.absence import absence_of
from regraft.plans.adapting import chosen_methods
from regraft.plans.adoption import can_change
from regraft.plans.compare_functions import FunctionComparison
from regraft.plans.conventions import doubt_values
from regraft.plans.describing import describe_model, settings_of
from regraft.plans.evidence import doubt_orders
from regraft.plans.folding import fold_as_requested, fold_biases, left_biases, unfold_norms
from regraft.plans.layers import Layer, layers_by_array
from regraft.plans.left_behind import give_biases, left_behind
from regraft.plans.match_by_name import Pairing, Pairings, pair_by_names, used_sources
from regraft.plans.match_by_structure import pair_by_structure, resolved_inputs
from regraft.plans.merging import merge_as_requested
from regraft.plans.module_graph import Traced, traced
from regraft.plans.nameless import are_nameless, doubt_squares, named_by_order
from regraft.plans.peft_names import completed
from regraft.plans.rows import RequirementRow, Row
from regraft.plans.settings import compare_settings, takers_of, with_choices, with_own_pads
from regraft.plans.sources import Sources, gather_sources
from regraft.plans.target_rows import Choices, source_rows, target_rows


def plan_reuse(
    checkpoint: Checkpoint,
    model: nn.Module,
    *,
    reuse: Patterns = ".*",
    fresh: Patterns = (),
    rename: Mapping[str, str | Sequence[str]] | None = None,
    layout: str | None = None,
    match: Literal["names", "structure"] = "names",
    adapt: Mapping[str, str] | None = None,
    accept: Patterns = (),
    adopt: Patterns = (),
    ema: bool = False,
) -> Plan:
    """Which arrays of the checkpoint fill which arrays of the model, and why. Reads no values, changes nothing.

    reuse   which layers of the model to restore; with the default every array needs a source or must be in `fresh`
    fresh   layers that keep their initial weights
    rename  pattern of a whole source name → replacement, theirs → ours; a list gives one array to several
    layout  whose axis orders the checkpoint follows, where the file does not record it: "tensorflow", "torch" …
    match   by names, or by the kinds, shapes and connections of the layers
    adapt   pattern → method to make an array fit that does not: {"conv1": "sum"} (docs/how-to/channels.md)
    accept  what is kept though it looks wrong: settings that differ (r"bn1\\.eps"), arrays with infinite values
    adopt   what `apply_plan` changes in the model to compute as the source does: r".*\\.eps", or ".*" for all it can
    ema     use the moving averages of the weights, where the checkpoint has them

    Raises PatternError when a pattern or a rule matches nothing. What does not fit is no error but a row of the plan:
    see `Plan.problems` and `Plan.check()`.
    """
    if match not in ("names", "structure"):
        raise PlanError(f'There is no method {match!r} to match layers. Methods: "names", "structure".')
    asked = completed(model, checkpoint, rename, fresh)
    sources = gather_sources(checkpoint, rename=asked.rename, layout=layout, ema=ema)
    layers = describe_model(model)
    choices = _choices(layers, reuse, asked.fresh, adapt)
    is_list = are_nameless(sources)
    sources = named_by_order(sources, layers, choices.left_out(layers_by_array(layers)))
    ours = traced(model) if match == "structure" or sources.wiring.inputs else None

    matched = _matched(layers, sources, ours, match)
    pairings, methods, biases = _folded(layers, matched.of, choices.methods, sources, partial(_follows, model, ours))
    layers, given, given_rows = give_biases(layers, _adopted(biases, adopt), sources)
    pairings = {**pairings, **given}
    few_match = match == "names" and len(pairings) * 2 < len(layers_by_array(layers))
    absence = absence_of(layers, sources, by_names=few_match)
    rows = target_rows(layers, pairings, sources.infos, replace(choices, methods=methods), absence=absence)
    rows = _doubted(rows, layers_by_array(layers), sources, methods, is_list=is_list)
    rest = source_rows(checkpoint, sources.infos, rows, pairings)

    takers = takers_of(rows, with_own_pads(layers, ours), sources)
    settings = (
        *compare_settings(checkpoint.requirements, takers, sources.layout, sources.types()),
        *left_behind(rest, takers, sources),
        *given_rows,
        *_compared_functions(model, layers, rows, sources, ours),
    )
    rows, settings = _with_choices(rows, settings, accept, adopt, model)
    unwired = sources.wiring.notes() if ours is None else ()
    notes = (*checkpoint.notes, *asked.notes, *sources.notes, *unwired, *matched.notes)
    return Plan(identity_of(checkpoint), sources.layout, (*rows, *rest), settings, notes)


def _doubted(
    rows: Sequence[Row], layers: Mapping[str, Layer], sources: Sources, methods: Mapping[str, str], *, is_list: bool
) -> tuple[Row, ...]:
    """The rows, where those that fit and may be wrong all the same are asked about.

    is_list   the arrays had no names, and were matched in order
    """
    rows = doubt_orders(rows, layers, methods, sources.layout)
    rows = doubt_values(rows, sources, methods, layers)
    return doubt_squares(rows, layers, methods, sources.layout) if is_list else tuple(rows)


def plan_of_pairs(
    checkpoint: Checkpoint, model: nn.Module, pairings: Mapping[str, Pairing], fresh: Sequence[str],
    constants: Collection[str] = (),
) -> Plan:  # fmt: skip
    """The plan of a model that was built from the checkpoint, so that it is known which arrays fill which.

    pairings  array of the model → what fills it
    fresh     arrays that keep their initial weights
    constants arrays of steps, which may hold infinite values, as the mask of an attention does
    """
    layers = describe_model(model)
    rows = target_rows(layers, pairings, checkpoint.infos, Choices(None, frozenset(fresh), {}), shared=True)
    rows = tuple(replace(row, accepted=("nonfinite",)) if row.target in constants else row for row in rows)
    rest = source_rows(checkpoint, checkpoint.infos, rows, pairings)
    return Plan(identity_of(checkpoint), checkpoint.layout, (*rows, *rest), (), checkpoint.notes)


def still_differing(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> tuple[RequirementRow, ...]:
    """What differs from the source in a model that has adopted what the plan says, beside what the user accepted."""
    ema = any(checkpoint[source].role == "ema" for row in plan.reused for source in row.sources)
    sources = gather_sources(checkpoint, layout=plan.layout, ema=ema)
    layers, ours = describe_model(model), traced(model) if sources.wiring.inputs else None
    takers = takers_of(plan.rows, with_own_pads(layers, ours), sources)
    settings = compare_settings(checkpoint.requirements, takers, sources.layout, sources.types())
    compared = (*settings, *_compared_functions(model, layers, plan.rows, sources, ours))
    accepted = {_difference_of(row) for row in plan.requirements if row.status == "accepted"}
    return tuple(row for row in compared if row.is_problem and _difference_of(row) not in accepted)


def _difference_of(row: RequirementRow) -> tuple[str, str, str]:
    """What a row says, without the name of the call, which a changed forward may number otherwise."""
    return row.source_layer, str(row.required), str(row.found)


def identity_of(checkpoint: Checkpoint) -> CheckpointIdentity:
    """What a plan keeps of its checkpoint: names, sizes and times of the files when it was opened, no hashes yet."""
    files = tuple(
        FileIdentity(path.name, size, str(path), modified_ns=modified)
        for path, (size, modified, *_) in checkpoint.stamps.items()
    )
    return CheckpointIdentity(str(checkpoint.path), checkpoint.format, checkpoint.layout, files)


def _choices(layers: Sequence[Layer], reuse: Patterns, fresh: Patterns, adapt: Mapping[str, str] | None) -> Choices:
    """The user's patterns as names of arrays. Raises PatternError for one that chooses nothing."""
    targets = list(layers_by_array(layers))
    reused = None if reuse == ".*" else frozenset(choose(targets, reuse))
    kept = frozenset(choose(targets, fresh)) if fresh else frozenset()
    return Choices(reused, kept, chosen_methods(adapt, targets))


def _matched(layers: Sequence[Layer], sources: Sources, ours: Traced | None, match: str) -> Pairings:
    """By names; by structure what the user's rename rules leave."""
    if match == "names":
        return pair_by_names(layers, sources)
    named = {name: new for name, new in sources.names.items() if name in sources.renamed}
    rest = {name: new for name, new in sources.names.items() if name not in sources.renamed}
    by_names = pair_by_names(layers, sources.only(named))
    by_structure = pair_by_structure(layers, sources.only(rest), ours)
    return Pairings({**by_structure.of, **by_names.of}, (*by_names.notes, *by_structure.notes))


def _follows(model: nn.Module, ours: Traced | None) -> Mapping[str, str]:
    """Layer → the layer whose output it takes, alone and directly; empty for a forward that cannot be traced."""
    wiring = ours or traced(model)
    return wiring.follows if wiring is not None else {}


def _folded(
    layers: Sequence[Layer],
    pairings: Mapping[str, Pairing],
    methods: Mapping[str, str],
    sources: Sources,
    follows: Callable[[], Mapping[str, str]],
) -> tuple[dict[str, Pairing], Mapping[str, str], dict[str, str]]:
    """(pairings with biases folded into norms, the methods that are left, layer → bias that is left)."""
    methods, requested = fold_as_requested(methods, pairings, sources)
    methods, merged = merge_as_requested(methods, pairings, sources, layers_by_array(layers))
    biases = left_biases(layers, pairings, sources)
    before = follows() if biases else {}
    folded = {
        **pairings,
        **fold_biases(biases, pairings, sources, before),
        **unfold_norms(biases, pairings, sources, before, layers),
        **requested,
        **merged,
    }
    used = used_sources(folded.values())
    return folded, methods, {layer: bias for layer, bias in biases.items() if bias not in used}


def _adopted(biases: Mapping[str, str], adopt: Patterns) -> dict[str, str]:
    """The biases that the user adopts."""
    patterns = [compile_pattern(pattern) for pattern in as_patterns(adopt)]
    return {layer: bias for layer, bias in biases.items() if is_chosen(f"{layer}.bias", patterns)}


def _compared_functions(
    model: nn.Module, layers: Sequence[Layer], rows: Sequence[Row], sources: Sources, ours: Traced | None
) -> tuple[RequirementRow, ...]:
    """The rows of poolings and activations that differ, where both networks' connections are known."""
    if ours is None or not sources.wiring.inputs:
        return ()
    mine, theirs = resolved_inputs(layers, sources, ours)
    pairs = _layer_pairs(layers, rows, sources)
    used = {sources.owners[source] for row in rows if row.is_reused for source in row.sources}
    folded = used - set(pairs.values())
    return FunctionComparison(mine, theirs, pairs, folded, ours, partial(can_change, model)).rows()


def _layer_pairs(layers: Sequence[Layer], rows: Sequence[Row], sources: Sources) -> dict[str, str]:
    """Our layer, or array of a module of no known kind → the source layer that fills it."""
    owners = layers_by_array(layers)
    pairs: dict[str, str] = {}
    for row in rows:
        if row.target is not None and row.sources and row.is_reused:
            layer = owners[row.target]
            pairs.setdefault(row.target if layer.kind == "other" else layer.name, sources.owners[row.sources[0]])
    return pairs


def _with_choices(
    rows: Sequence[Row],
    settings: Sequence[RequirementRow],
    accept: Patterns,
    adopt: Patterns,
    model: nn.Module,
) -> tuple[tuple[Row, ...], tuple[RequirementRow, ...]]:
    """The rows with what the user accepts and adopts. Raises PatternError for a pattern that names nothing there is."""
    names = [setting.name for setting in settings]
    arrays = [row.name for row in rows]
    known = list(dict.fromkeys([*names, *arrays, *_possible_names(model)]))
    for patterns, what in ((accept, "setting or array"), (adopt, "setting")):
        refuse_idle(list(filter(names_something, as_patterns(patterns))), known, what=what)
    accepted, adopted = chosen([*names, *arrays], accept), set(chosen(names, adopt))
    marked = tuple(replace(row, accepted=("nonfinite",)) if row.name in accepted else row for row in rows)
    return marked, with_choices(settings, set(accepted), adopted)


def _possible_names(model: nn.Module) -> Iterator[str]:
    """What a plan for this model may have a row of: then a pattern for it is no mistake, though it is met or fresh."""
    for name, module in model.named_modules():
        for attribute in ("pool", "activation", *settings_of(module)):
            yield f"{name}.{attribute}" if name else attribute
