"""The rows of a plan: one for each array, one for each setting that is no array."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, final

from regraft.errors import Advice
from regraft.operations.operation import Operation, Shape
from regraft.plans.steps import CallStep, ModuleStep, function_of_text

Status = Literal[
    "exact", "renamed", "converted", "cast", "adapted",
    "kept_init", "excluded", "unused", "optimizer_slot",
    "ambiguous", "shape_mismatch", "missing", "tied_conflict", "undecidable_orientation", "nonfinite",
]  # fmt: skip
REUSED: frozenset[str] = frozenset({"exact", "renamed", "converted", "cast", "adapted"})
PROBLEMS: frozenset[str] = frozenset(
    {"ambiguous", "shape_mismatch", "missing", "tied_conflict", "undecidable_orientation", "nonfinite"}
)
RequirementStatus = Literal["met", "differs", "accepted", "adopted", "assumed"]


@final
@dataclass(frozen=True)
class Row:
    """What happens to one array of the model, or why one array of the checkpoint is not used.

    target      the model's array, None for a source that fills nothing
    sources     the checkpoint's arrays it is made of, in the order in which the operations take them
    status      why; REUSED are written by `apply_plan`, PROBLEMS stop it
    operations  from the sources as stored to the target
    accepted    what the user allows for this array though it looks wrong: "nonfinite"
    note        what was assumed, or what is wrong, in sentences
    advice      the arguments of `plan_reuse` that solve the problem
    """

    target: str | None
    sources: tuple[str, ...]
    status: Status
    operations: tuple[Operation, ...] = ()
    target_shape: Shape | None = None
    target_dtype: str = ""
    source_shapes: tuple[Shape, ...] = ()
    source_dtypes: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    note: str = ""
    advice: tuple[Advice, ...] = ()

    @property
    def is_reused(self) -> bool:
        """Whether `apply_plan` writes this target."""
        return self.status in REUSED

    @property
    def is_problem(self) -> bool:
        """Whether this row stops `apply_plan`."""
        return self.status in PROBLEMS

    @property
    def name(self) -> str:
        """The target, or for a source without one the source."""
        return self.target if self.target is not None else ", ".join(self.sources)

    def work(self) -> str:
        """What is done to the values, in words; "" when nothing is."""
        return ", ".join(str(operation) for operation in self.operations)

    def problem(self) -> str:
        """The problem as lines for an error: target and sources with their shapes, then the note."""
        width = max(map(len, (self.target or "", *self.sources)))
        lines = [] if self.target is None else [f"  target  {self.target:<{width}}  expected {self.target_form()}"]
        forms = [f"{shape} {dtype}" for shape, dtype in zip(self.source_shapes, self.source_dtypes, strict=True)]
        for name, form in zip_longest(self.sources, forms, fillvalue=""):
            lines.append(f"  source  {name:<{width}}  got      {form}")
        if self.sources and self.operations:
            lines[-1] += f" before {self.work()}"
        return "\n".join([*lines, f"  {self.status}: {self.note}".replace("\n", "\n  ")])

    def target_form(self) -> str:
        """The target's shape and dtype."""
        return f"{self.target_shape} {self.target_dtype}"


@final
@dataclass(frozen=True)
class Setting:
    """A setting of a layer: "eps", "padding", "bias" … The layer "" is the model itself, as for its output."""

    layer: str
    attribute: str


Subject = Setting | ModuleStep | CallStep
# Settings that older plans may adopt; what they say of other attributes is a step.
_ADOPTED_SETTINGS = frozenset({"eps", "momentum", "stride", "dilation", "padding", "bias"})


@final
@dataclass(frozen=True)
class RequirementRow:
    """A fact of the source model that is no weight, compared with the module that takes the weights.

    subject    what is compared: a setting, or a step that a module or a call does
    required   the value that gives the source's function, in torch's terms: a number, a Pool …
    found      what the module has
    status     met; differs (a problem); accepted (the user keeps the module's); adopted (`apply_plan` sets it);
               assumed (the file does not record it, or a module cannot show it)
    adoptable  whether `apply_plan` can give the module the required value
    """

    subject: Subject
    required: object
    found: object
    status: RequirementStatus
    source_layer: str = ""
    note: str = ""
    adoptable: bool = False
    advice: tuple[Advice, ...] = ()

    @property
    def layer(self) -> str:
        """The model's layer, or the module whose forward does the step."""
        return self.subject.layer

    @property
    def attribute(self) -> str:
        """The setting, or the step's place in the layer."""
        return self.subject.attribute

    @property
    def is_problem(self) -> bool:
        """Whether this row stops `apply_plan`."""
        return self.status == "differs"

    @property
    def name(self) -> str:
        """layer.attribute, what `accept` and `adopt` choose from."""
        return f"{self.layer}.{self.attribute}" if self.layer else self.attribute

    def problem(self) -> str:
        """The problem as lines for an error."""
        source = f"  (source layer {self.source_layer})" if self.source_layer else ""
        line = f"  setting {self.name}  expected {value_text(self.required)}, got {value_text(self.found)}{source}"
        return f"{line}\n  {self.note}" if self.note else line

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rows in models that were pickled before subjects had types name layer and attribute."""
        if "attribute" in state:
            subject, values = subject_of(state), (state["required"], state["found"])
            required, current = (typed_value(subject, value) for value in values)
            kept = {key: value for key, value in state.items() if key not in ("layer", "attribute")}
            state = {**kept, "subject": subject, "required": required, "found": current}
        self.__dict__.update(state)


def value_text(value: object) -> str:
    """A setting's value as Python writes it, a step in words."""
    return repr(value) if isinstance(value, str | int | float | tuple) or value is None else str(value)


def subject_of(saved: Mapping[str, Any]) -> Subject:
    """The subject that a saved row means; without a "kind", as older plans are, judged by attribute and value."""
    layer, attribute = saved["layer"], saved["attribute"]
    kind = saved.get("kind") or _older_kind(attribute, saved["required"])
    if kind == "setting":
        return Setting(layer, attribute)
    if kind == "module":
        return ModuleStep(layer, attribute)
    call, _, operand = attribute.rpartition(".")
    return CallStep(layer, call, int(operand)) if call else CallStep(layer, attribute)


def _older_kind(attribute: str, required: object) -> str:
    if attribute in ("pool", "activation"):
        return "module"
    is_step = isinstance(required, str) and function_of_text(required) is not None
    return "call" if is_step and attribute not in _ADOPTED_SETTINGS else "setting"


def typed_value(subject: Subject, value: object) -> object:
    """A saved value: of a step the function that its text names, where it names one."""
    if isinstance(value, list):
        return tuple(typed_value(subject, part) for part in value)
    if isinstance(subject, Setting) or not isinstance(value, str):
        return value
    return function_of_text(value) or value
