"""The rows of a plan: one for each array, one for each setting that is no array."""

from dataclasses import dataclass
from typing import Literal, final

from regraft.operations.operation import Operation, Shape

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
    note        a sentence: what was assumed, or what to do
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
        """The problem as lines for an error: target, sources, what is expected and got, what to do."""
        lines = []
        width = max([len(name) for name in (self.target or "", *self.sources)])
        if self.target is not None:
            lines.append(f"  target  {self.target:<{width}}  expected {self.target_shape} {self.target_dtype}")
        for index, source in enumerate(self.sources):
            shape = (
                f"{self.source_shapes[index]} {self.source_dtypes[index]}" if index < len(self.source_shapes) else ""
            )
            lines.append(f"  source  {source:<{width}}  got      {shape}")
        if self.sources and self.operations:
            lines[-1] += f" before {self.work()}"
        return "\n".join([*lines, *(f"  {line}" for line in f"{self.status}: {self.note}".splitlines())])


@final
@dataclass(frozen=True)
class RequirementRow:
    """A fact of the source model that is no weight, compared with the module that takes the weights.

    layer      the model's layer; attribute its setting: "eps", "padding", "bias" …
    required   the value that gives the source's function, in torch's terms
    found      what the module has
    status     met; differs (a problem); accepted (the user keeps the module's); adopted (`apply_plan` sets it);
               assumed (the file does not tell, or a module cannot show it)
    adoptable  whether `apply_plan` can give the module the required value
    """

    layer: str
    attribute: str
    required: object
    found: object
    status: RequirementStatus
    source_layer: str = ""
    note: str = ""
    adoptable: bool = False

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
        return (
            f"  setting {self.name}  expected {self.required!r}, got {self.found!r}"
            f"{f'  (source layer {self.source_layer})' if self.source_layer else ''}\n  {self.note}"
        )
