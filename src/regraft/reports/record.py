"""All that a report shows about one run, as plain data: JSON both ways, known to no step.

Every part may be absent: a run without a validation set, a plan or a cut has `None` or an empty tuple there,
and the report leaves that section out. Numbers are plain Python numbers, so that `json.dumps` takes them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from regraft.errors import SaveError
from regraft.wording import near_names


@dataclass(frozen=True)
class CheckpointRecord:
    """Where the reused arrays came from.

    path    as the user named it
    format  the reader's name: "tensorflow-v2", "safetensors" …
    layout  whose axis orders the arrays followed; None when the file cannot tell
    files   file name → SHA-256 in hexadecimal
    """

    path: str
    format: str = ""
    layout: str | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanRowRecord:
    """One row of the plan, in words.

    target      the model's array; "" for an array of the checkpoint that goes nowhere
    sources     the checkpoint's arrays that it is made of
    status      the plan's word: "exact", "renamed", "kept_init" …
    operations  what was done to the values: "(h, w, in, out) → (out, in, h, w)"
    shape       of the target, or of the source that goes nowhere
    note        why, where the plan has a reason
    """

    target: str
    sources: tuple[str, ...] = ()
    status: str = ""
    operations: str = ""
    shape: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PlanRecord:
    """The plan: its heading ("6 reused · 4 fresh · 0 problems") and its rows, in the model's order."""

    summary: str = ""
    rows: tuple[PlanRowRecord, ...] = ()


@dataclass(frozen=True)
class ParametersRecord:
    """How many parameters (elements, not tensors) the model has, and how many are frozen or trained."""

    total: int
    frozen: int
    trained: int


@dataclass(frozen=True)
class LeafRecord:
    """One tensor that crosses from trunk to head. `shape` is that of one example."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes_per_example: int


@dataclass(frozen=True)
class CutRecord:
    """Where trunk and head meet.

    leaves             the tensors that cross
    bytes_per_example  of all leaves together, as cached
    work_saved         share of the model's multiplications for one example that the trunk does, 0 to 1; None: unknown
    cost               what caching costs and when it pays, in one or two sentences
    """

    leaves: tuple[LeafRecord, ...]
    bytes_per_example: int
    work_saved: float | None = None
    cost: str = ""


@dataclass(frozen=True)
class StageRecord:
    """What trained from an epoch on, where layers were unfrozen by a schedule.

    first_epoch        counted from 0
    layers             patterns of what trained in addition
    parameters         how many values trained
    leaves             what crossed at the stage's cut, and bytes_per_example of it; empty without a cache
    bytes, seconds     of features computed for this stage alone; 0 where it took those that there were
    note               why none were kept, where they could have been
    """

    first_epoch: int
    layers: tuple[str, ...]
    parameters: int
    leaves: tuple[str, ...] = ()
    bytes_per_example: int = 0
    bytes: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class HistoryRecord:
    """The course of training, one value for each epoch.

    validation_loss, validation_accuracy   empty without a validation set
    best_epoch                             the epoch with the lowest validation loss, counted from 0; None without
    stopped                                why training ended, in words
    stages                                 what trained from when, with a schedule
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...] = ()
    validation_accuracy: tuple[float, ...] = ()
    best_epoch: int | None = None
    stopped: str = ""
    stages: tuple[StageRecord, ...] = ()


@dataclass(frozen=True)
class ScoreRecord:
    """How good the model is on one set.

    standard_error  of the accuracy, from `count` examples
    confusion       (classes, classes) counts: row = true class, column = predicted class; empty when unknown
    """

    accuracy: float
    standard_error: float
    count: int
    loss: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class VariantRecord:
    """One way of training among several that are compared.

    accuracy, standard_error   mean over the seeds and its standard error
    seconds                    mean duration; None: not measured
    points                     the accuracy of each seed
    note                       what the reader should know: "same weights as uncached"
    """

    name: str
    accuracy: float
    standard_error: float
    seconds: float | None = None
    points: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class NoteRecord:
    """Something that was skipped, cast, resized or assumed: one sentence, and the names that it concerns."""

    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """One run of regraft.

    title       the job's name
    date        when it ended, as it shall be read: "2026-11-22 01:40 UTC"
    command     the command line or Python text that does the same again
    versions    name → version, of what can change the numbers
    machine     processor, cores, accelerator, in words
    frozen      names of the frozen layers
    classes     class names, in the order of the confusion matrix
    seconds     part of the run ("reading", "features", "training" …) → seconds, in order of use
    comparison  several ways of training side by side; empty for an ordinary run
    """

    title: str
    date: str = ""
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    checkpoint: CheckpointRecord | None = None
    plan: PlanRecord | None = None
    frozen: tuple[str, ...] = ()
    parameters: ParametersRecord | None = None
    cut: CutRecord | None = None
    history: HistoryRecord | None = None
    test: ScoreRecord | None = None
    validation: ScoreRecord | None = None
    classes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[NoteRecord, ...] = ()
    comparison: tuple[VariantRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as nested dicts, tuples, numbers and strings: what `json.dumps` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "RunRecord":
        """The record that `to_dict` gave, also after a way through JSON (lists for tuples).

        Raises SaveError for an unknown or missing field or a value of another kind, with the field's whole name.
        """
        return _decoded(cls, data, "record")


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """`value` as the declared type `kind`: a dataclass, tuple, dict, optional or plain type."""
    arguments = get_args(kind)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _decoded_dataclass(kind, value, where)
    if get_origin(kind) is UnionType:
        return None if value is None else _decoded(arguments[0], value, where)
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(_decoded(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return {name: _decoded(arguments[1], item, f"{where}[{name!r}]") for name, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)  # JSON writers may drop ".0"
    if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, bool):
        return value
    expected = kind.__name__ if isinstance(kind, type) and not arguments else str(kind)
    raise SaveError(f"{where} is {value!r}, expected {expected}. The record is not one that regraft wrote.")


def _decoded_dataclass(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    known = {part.name: part for part in fields(kind)}
    required = {part.name for part in known.values() if part.default is MISSING and part.default_factory is MISSING}
    problems = [
        f"{where} has an unknown field {name!r}. {near_names(name, known)}" for name in value if name not in known
    ]
    problems += [f"{where} lacks the field {name!r}." for name in known if name in required and name not in value]
    if problems:
        raise SaveError("\n".join(problems) + "\nWas it written by another version of regraft?")
    hints = get_type_hints(kind)
    return kind(**{name: _decoded(hints[name], item, f"{where}.{name}") for name, item in value.items()})
