"""What the proven programs of a model's modes have in common: what the trunk runs, and the cut."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from regraft.cuts.cut import Cut, Leaf, describe_cut, gradient_note, tied_note
from regraft.cuts.dataflow import Ancestors, sources
from regraft.cuts.program import Program
from regraft.cuts.record import RecordedOperation
from regraft.cuts.search import Proven

ProvenModes = Mapping[bool, Proven]  # mode (whether training) → its proven program


def ancestors_of_leaves(program: Program) -> Ancestors:
    """The values and operations that the leaves are computed from, and those by which the forward decides."""
    live = program.choice.flow.live
    decisions = [o for o in program.record.operations if o.needs_data and live.isdisjoint(o.inputs)]
    read = [value for operation in decisions for value in operation.inputs]
    trunk = sources(program.record, [*program.leaves.values(), *read])
    return Ancestors(trunk.values, trunk.operations | {operation.index for operation in decisions})


def operations_of_trunk(program: Program) -> list[RecordedOperation]:
    """The operations of the trunk, in order."""
    return [program.record.operations[index] for index in sorted(ancestors_of_leaves(program).operations)]


def layers_of_trunk(modes: ProvenModes) -> set[str]:
    """The names of the modules that ran an operation of the trunk."""
    programs = [proven.trunk for proven in modes.values()]
    return {program.record.layer_of(operation) for program in programs for operation in operations_of_trunk(program)}


def whole_cut(model: nn.Module, modes: ProvenModes) -> Cut:
    """The leaves of every mode: a head that was trained on the features is evaluated on them too."""
    programs = [proven.trunk for proven in modes.values()]
    by_row = all(program.by_row for program in programs)
    cuts = [describe_cut(program.record, program.sizes, program.choice, by_row=by_row) for program in programs]
    leaves: dict[str, Leaf] = {}
    for cut in cuts:
        leaves = leaves | {leaf.name: leaf for leaf in cut.leaves if leaf.name not in leaves}
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    proven = next(iter(modes.values()))
    notes = [cuts[0].note, tied_note(proven.program.record, {each[0]: each for each in names.values()})]
    notes += [gradient_note(proven.without_gradient)]
    return replace(cuts[0], leaves=tuple(leaves.values()), note="\n".join(filter(None, notes)))
