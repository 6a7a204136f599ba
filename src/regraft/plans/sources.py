"""All that is known of a checkpoint: which arrays may fill a model, their axis orders, their layers, the wiring."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from regraft.arrays import ArrayInfo, Checkpoint, Requirement, Role
from regraft.errors import Advice, PlanError
from regraft.plans.layouts import deduced_layout, known_layout
from regraft.plans.recurrent_layouts import Facts
from regraft.plans.renaming import Renames, dotted, rename_all, unwrapped
from regraft.plans.steps import Step, activation, steps_of_facts

# Operations of other frameworks that join maps; all others are looked through.
JOINS = {
    "Add": "add", "Sum": "add", "Eltwise": "add", "Multiply": "mul", "Mul": "mul", "Concatenate": "cat",
    "Concat": "cat",
    "CustomScaleLayer": "add",  # of keras.applications' InceptionResNetV2: a sum whose second part is scaled
}  # fmt: skip
_RECURRENT = ("SimpleRNN", "RNN")  # those without gates


@dataclass(frozen=True)
class Wiring:
    """How the source network's layers are connected, those without weights too; empty when the file has no record.

    inputs     layer → the layers that feed it, in order
    operation  layer → what it does, in the source framework's word
    facts      layer → everything that the file records of it
    """

    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    operation: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """What no array shows, where the model's forward cannot be traced: pooling that pads by itself."""
        padded = [layer for layer, facts in self.facts.items() if "pool" in facts and facts.get("padding") == "same"]
        words = sorted({self.operation[layer] for layer in padded if layer in self.operation})
        if not words:
            return ()
        return (
            f'the source network has {", ".join(words)} with padding "same". Whether the model pads so cannot be '
            "checked: see SameMaxPool2d and SameAvgPool2d in regraft.tf_layers, and check with verify.",
        )

    def steps(self, layer: str, *, has_arrays: bool) -> tuple[Step, ...]:
        """What a layer does beside its arrays, the last step first."""
        facts, operation = self.facts.get(layer, {}), self.operation.get(layer, "")
        if not has_arrays:
            # What joins several values is in the expression; of one value and a number, it is a step.
            return () if len(self.inputs[layer]) > 1 else steps_of_facts(operation, facts)
        if "recurrent_activation" in facts or operation in _RECURRENT:
            return ()  # what these call their activation works inside of them, at every step in time
        function = activation(str(facts.get("activation", "linear")))
        return () if function is None else (Step(function),)

    def ends(self) -> list[str]:
        """The layers that feed no other: the network's outputs."""
        feeding = {name for inputs in self.inputs.values() for name in inputs}
        return [layer for layer in self.inputs if layer not in feeding]

    def behind(self, operation: str) -> set[str]:
        """The layers that feed a layer of this operation."""
        doing = [layer for layer, word in self.operation.items() if word == operation]
        return {name for layer in doing for name in self.inputs.get(layer, ())}

    def behind_global_pooling(self) -> set[str]:
        """The layers that a global pooling feeds through nothing that could reorder a map: they flatten none."""
        layers = {layer for layer, word in self.operation.items() if word.startswith("Global")}
        for layer, feeding in self.inputs.items():  # a file's order is the order of the computation
            if len(feeding) == 1 and feeding[0] in layers and self.operation.get(layer) not in {"Reshape", "Permute"}:
                layers.add(layer)
        return layers


@dataclass(frozen=True)
class Sources:
    """What is known of the arrays that may fill a model.

    names         source name → its name after the user's rules; several where a rule gives it to several layers
    infos         source name → shape, dtype …
    layout        whose axis orders they follow; None leaves arrays whose axes have an order undecided
    facts         source name → what the file records of its layer and of the layers around it
    owners        source name → its layer; of every array of the file
    wiring        how the layers are connected
    renamed       the sources that a rule of the user renamed
    raw           with averages requested: the weights that have none
    notes         what was assumed
    """

    names: Mapping[str, tuple[str, ...]]
    infos: Mapping[str, ArrayInfo]
    layout: str | None
    facts: Mapping[str, Facts] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    wiring: Wiring = field(default_factory=Wiring)
    renamed: frozenset[str] = frozenset()
    raw: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def facts_of(self, names: Sequence[str]) -> Facts:
        """What the file records of the layers of these arrays, together."""
        return {key: value for name in names for key, value in self.facts.get(name, {}).items()}

    def types(self) -> dict[str, str]:
        """Layer → the source framework's word for it, where the file records it."""
        return {self.owners[name]: info.layer_type for name, info in self.infos.items() if info.layer_type}

    def layers_around(self, name: str) -> list[str]:
        """The array's layer, and those around it of which the file records something: lstm for lstm/lstm_cell."""
        return _layers_around(self.owners[name], self.wiring.facts)

    @property
    def new_names(self) -> Iterator[str]:
        """All names after the user's rules."""
        return chain.from_iterable(self.names.values())

    def only(self, names: Mapping[str, tuple[str, ...]]) -> "Sources":
        """The same without the other arrays."""
        return replace(self, names=names)


def gather_sources(
    checkpoint: Checkpoint, *, rename: Renames | None = None, layout: str | None = None, ema: bool = False
) -> Sources:
    """All that the plan needs to know of a checkpoint.

    rename  pattern of a whole source name → replacement, or several
    layout  the user's word for the axis orders, None when the file decides
    ema     take the moving averages in place of the weights

    Raises PatternError for a rule that matches nothing, PlanError for an unknown layout or missing averages.
    """
    usable = _usable(checkpoint, ema=ema)
    renamed = {name: new for name, new in rename_all(checkpoint, rename).items() if name in usable}
    own_names = {name: layered_name(checkpoint, name) for name in usable}
    by_rule = frozenset(name for name, new in renamed.items() if new != (name,))
    decided, notes = _decide_layout(checkpoint, layout, renamed)
    owners = {name: info.layer or parent_of(name) for name, info in checkpoint.items()}
    wiring = wiring_of(checkpoint.requirements)
    return Sources(
        names={name: renamed[name] if name in by_rule else (own_names[name],) for name in renamed},
        infos=usable,
        layout=decided,
        facts=_facts_of_arrays(owners, wiring),
        owners=owners,
        wiring=wiring,
        renamed=by_rule,
        raw=without_average(checkpoint, usable),
        notes=notes,
    )


def wiring_of(requirements: Sequence[Requirement]) -> Wiring:
    """How the layers are connected, as far as the file records it."""
    facts: dict[str, dict[str, object]] = defaultdict(dict)
    for requirement in requirements:
        facts[requirement.layer][requirement.attribute] = requirement.value
    inputs = {layer: known["inputs"] for layer, known in facts.items() if isinstance(known.get("inputs"), list)}
    operation = {layer: str(known["operation"]) for layer, known in facts.items() if "operation" in known}
    return Wiring(inputs, operation, facts)  # type: ignore[arg-type]  # lists of names, by every reader


def layered_name(checkpoint: Checkpoint, name: str) -> str:
    """layer/leaf where the file records them, else the array's name.

    The arrays of a separable convolution, which is two layers in torch, are named layer/depthwise and layer/pointwise.
    """
    info = checkpoint[name]
    if not info.layer_type.startswith("Separable"):
        return f"{info.layer}/{info.leaf}" if info.leaf else name
    return f"{info.layer}/{'depthwise' if info.leaf.startswith('depthwise') else 'pointwise'}/{info.leaf}"


def parent_of(name: str) -> str:
    """The name without its leaf, in its own separators; what torch computes a weight from is the layer's own."""
    name = re.sub(r"\.parametrizations\..*", ".weight", name)
    return name[: max(name.rfind("/"), name.rfind("."), 0)]


def _usable(checkpoint: Checkpoint, *, ema: bool) -> dict[str, ArrayInfo]:
    """The arrays that may fill a model: the weights, or their moving averages where there are any."""
    weights, averages = _of_role("weight", checkpoint), _of_role("ema", checkpoint)
    if not ema:
        return weights
    if not averages:
        raise PlanError(f"{checkpoint.path} has no moving averages of weights.")
    averaged = {name for average in averages for name in _possible_weights(average)}
    return averages | {name: info for name, info in weights.items() if _plain_name(name) not in averaged}


def without_average(checkpoint: Checkpoint, usable: Mapping[str, ArrayInfo]) -> frozenset[str]:
    """The weights among usable arrays of which some are moving averages: these have none."""
    roles = {name: checkpoint[name].role for name in usable}
    return frozenset(name for name, role in roles.items() if role == "weight" and "ema" in roles.values())


def _of_role(role: Role, checkpoint: Checkpoint) -> dict[str, ArrayInfo]:
    return {name: info for name, info in checkpoint.items() if info.role == role}


def _plain_name(name: str) -> str:
    """The name in our separators, without wrappers."""
    *_, shortest = unwrapped(dotted(name))
    return shortest


def _possible_weights(average: str) -> Iterator[str]:
    """The names that the weight of an average may have: the same, or behind a root that only one of them has.

    An average is requested in place of the raw weight: better a missing array than the raw one by mistake.
    """
    name = _plain_name(average)
    yield name
    while name.count(".") > 1:
        _, _, name = name.partition(".")
        yield name


def _decide_layout(
    checkpoint: Checkpoint, requested: str | None, renamed: Collection[str]
) -> tuple[str | None, tuple[str, ...]]:
    """(layout, notes): what the user says, else what the file says, else what only one family's names can mean."""
    if requested is not None:
        return known_layout(requested), ()
    deduced, why = deduced_layout(dotted(name) for name in renamed)
    declared = known_layout(checkpoint.layout)
    if declared == "torch" and deduced not in (None, "torch"):
        # safetensors holds arrays of any framework; its readers say torch because most files are.
        return None, (f"{checkpoint.format} files are mostly torch's, but {why}, as in {deduced}",)
    if declared is None and deduced is not None:
        return deduced, (f"assumed the axis orders of {deduced}, because {why}",)
    return declared, ()


def layout_advice(layouts: Sequence[str]) -> tuple[Advice, ...]:
    """One advice for each axis order that is possible."""
    return tuple(Advice("layout", layout, f"read the kernels in the axis order of {layout}") for layout in layouts)


def _facts_of_arrays(owners: Mapping[str, str], wiring: Wiring) -> dict[str, dict[str, object]]:
    """Source name → what the file records of its layer and of the layers around it."""
    facts = {layer: dict(known) for layer, known in wiring.facts.items()}
    for layer in wiring.behind_global_pooling():
        facts.setdefault(layer, {}).setdefault("flatten_order", "pooled")
    return {name: _facts_around(owner, facts) for name, owner in owners.items()}


def _facts_around(layer: str, facts: Mapping[str, Facts]) -> dict[str, object]:
    """The facts of the layer and of those around it; the innermost layer's own word counts."""
    outermost_first = reversed(_layers_around(layer, facts))
    return {key: value for outer in outermost_first for key, value in facts.get(outer, {}).items()}


def _layers_around(layer: str, known: Mapping[str, object]) -> list[str]:
    ends = [index for index, letter in enumerate(layer) if letter in "/."]
    return [layer, *(layer[:end] for end in reversed(ends) if end and layer[:end] in known)]
