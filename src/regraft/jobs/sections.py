"""The sections of a job: their keys, what each takes, and the defaults."""

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from regraft.errors import PatternError
from regraft.foundation.patterns import Patterns, as_patterns, compile_pattern

Kind = object  # a type, or what typing makes of types: Optional, Annotated, Literal
T = TypeVar("T")

# Pydantic checks types and keys, and collects every problem instead of the first; the words are ours (wording).
STRICT_KEYS = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _compiled(given: T) -> T:
    """Patterns, or a table with patterns as its keys, once each of them is a regular expression."""
    try:
        patterns: Any = list(given) if isinstance(given, Mapping) else given
        for pattern in as_patterns(patterns):
            compile_pattern(pattern)
    except PatternError as error:
        raise ValueError(" ".join(str(error).splitlines())) from error
    return given


def _share_or_count(validation: float | str) -> float | str:
    """The part of the data, or the number of examples, that validates."""
    if isinstance(validation, float) and validation > 1 and not validation.is_integer():
        raise ValueError("expected a part below 1, a whole number of examples, or a path")
    return validation


def _no_truth(value: T) -> T:
    """The value, which is not true or false: Python takes these for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "not a number")
    return value


JobTask = Literal[
    "classification", "multilabel", "regression", "token-classification", "segmentation", "language-model"
]
PartTask = Literal["classification", "multilabel", "regression"]
JobLoss = Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"]
Number = BeforeValidator(_no_truth)
Count = Annotated[int, Number, Field(ge=1)]
CheckedPatterns = Annotated[Patterns, AfterValidator(_compiled)]
CheckedRenames = Annotated[Mapping[str, str | list[str]], AfterValidator(_compiled)]
CheckedTable = Annotated[Mapping[str, str], AfterValidator(_compiled)]
Positive = Annotated[float, Number, Field(gt=0)]
NotNegative = Annotated[float, Number, Field(ge=0)]
Share = Annotated[NotNegative | str, AfterValidator(_share_or_count)]


@dataclass(frozen=True, config=STRICT_KEYS)
class CheckpointSection:
    """[checkpoint]: where the trained arrays are."""

    path: str


@dataclass(frozen=True, config=STRICT_KEYS)
class ModelSection:
    """[model]: the new model; `factory` is a SPEC, `args` are given to it.

    The factory "checkpoint" builds the network that the checkpoint itself describes; its args are `chain` and `shapes`
    of `build_model`.

    head    of that network: without it, a new one for the classes of the data in place of the last layer;
            {layer = "conv_preds"} replaces another layer, {classes = 6} has other outputs, false keeps the file's
    inputs  kind of input → argument of the model's forward, where it takes several kinds
    """

    factory: str
    args: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] | bool | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT_KEYS)
class PlanSection:
    """[plan]: which arrays go where, as in `plan_reuse`."""

    reuse: CheckedPatterns = ".*"
    fresh: CheckedPatterns = ()
    rename: CheckedRenames = field(default_factory=dict)
    layout: str | None = None
    match: Literal["names", "structure"] = "names"
    adapt: CheckedTable | None = None
    accept: CheckedPatterns = ()
    adopt: CheckedPatterns = ()
    ema: bool = False


@dataclass(frozen=True, config=STRICT_KEYS)
class FreezeSection:
    """[freeze]: one of three ways to say what stays as restored, as in `freeze`.

    None of them freezes nothing, or, with a schedule in [train], all that the schedule never trains.
    """

    layers: CheckedPatterns | None = None
    trainable: CheckedPatterns | None = None
    upto: str | None = None


ALL_LAYERS, ADVISED = "all", "advised"  # words in the place of patterns


@dataclass(frozen=True, config=STRICT_KEYS)
class HeadSection:
    """[head]: one linear head on several frozen layers, in the place of the model's own, as `head_on_layers`.

    layers  "all" that were restored, "advised" for those that `advise` chooses, or patterns
    """

    layers: CheckedPatterns | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class AdviseSection:
    """[advise]: how many layers to reuse, as `advise` says it; the section alone asks for it.

    cuts      patterns of the layers that are compared; without it all at which the model can be cut
    control   compare with shuffled weights, by a second pass
    examples  how many at most are looked at
    """

    cuts: CheckedPatterns | None = None
    control: bool = True
    examples: Annotated[int, Number, Field(ge=4)] = 2000


@dataclass(frozen=True, config=STRICT_KEYS)
class DataSection:
    """[data]: where the examples are.

    validation       a part of each class of the training data (0.2), its first examples (5000), a path, or 0 for none
    labels           the column of the labels in a table, or several
    classes          the names of the classes in the order of the model's outputs; without it the data give them
    separator        between the labels of a cell, where several may apply
    mask_values      the value of a mask's pixels for each class
    per_class        train on this many random examples of each class only; 0 takes all
    skip_unreadable  leave out damaged images, with a note, instead of refusing
    """

    train: str
    test: str | None = None
    validation: Share = 0.2
    labels: str | Annotated[list[str], Field(min_length=1)] | None = None
    classes: Annotated[list[str], Field(min_length=2)] | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    mask_values: Annotated[list[int], Field(min_length=2)] | None = None
    per_class: Annotated[int, Number, Field(ge=0)] = 0
    skip_unreadable: bool = False


@dataclass(frozen=True, config=STRICT_KEYS)
class CacheSection:
    """[cache]: where the features live; no folder keeps them in memory.

    use          "auto" caches where that is faster, measured on the first batches; true always, false never
    views        stored copies of each training image, each mirrored at random (with `flip`, not for letters) and
                 shifted by up to the part `shift` of its size; 1 stores the image as it is
    engine       "fast" compiles the frozen layers where that is faster; features differ by at most 1e-5
    """

    use: bool | Literal["auto"] = "auto"
    folder: str | None = None
    views: Count = 1
    flip: bool = True
    shift: Annotated[float, Number, Field(ge=0, lt=1)] = 0.1
    precision: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    batch_size: Count = 64
    engine: Literal["exact", "fast"] = "exact"


@dataclass(frozen=True, config=STRICT_KEYS)
class ClusterSection:
    """[cluster]: processes that compute the features.

    engine   "ray" starts workers on a Ray cluster; "none" leaves the work to this process and those that a launcher has
             started beside it (torchrun, srun); "auto" takes Ray where RAY_ADDRESS names a cluster
    workers  on Ray; without it as many as the cluster has room for
    cpus     that Ray reserves for each worker
    address  of the Ray cluster; without it that of RAY_ADDRESS, else Ray is started on this machine
    """

    engine: Literal["none", "ray", "auto"] = "none"
    workers: Count | None = None
    cpus: NotNegative = 1
    address: str | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class StepsTable:
    """[train.steps]: gradient steps, as `regraft.Steps`; what is left out has the default there."""

    epochs: Count | None = None
    lr: Positive | Annotated[list[Positive], Field(min_length=1)] | Mapping[str, Positive] | None = None
    batch_size: Count | None = None
    optimizer: Literal["sgd", "momentum", "adam", "adamw"] | None = None
    weight_decay: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] | None = None
    clip_value: Positive | None = None
    clip_norm: Positive | None = None
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    patience: Count | None = None
    schedule: Mapping[int, CheckedPatterns] | None = None
    lr_schedule: str | None = None
    lr_arguments: Mapping[str, Any] | None = None
    lr_every: Literal["update", "epoch"] | None = None
    warmup: NotNegative | None = None
    accumulate: Count | None = None
    averaging: Annotated[float, Number, Field(gt=0, lt=1)] | Literal["swa"] | None = None
    averaging_start: NotNegative | None = None
    ema: Annotated[float, Number, Field(gt=0, lt=1)] | None = None
    monitor: str | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class ExactTable:
    """[train.exact]: the optimum of a linear head, as `regraft.Exact`."""

    weight_decay: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class TrainSection(StepsTable):
    """[train]: task, loss, seed, and the method in a table of its own, [train.steps] or [train.exact].

    task             what the labels are, where the data leave it open; for several tasks {column = "task"}
    class_weights    "balanced", or a number for each class
    metrics          for the validation and the scores, by name; without it those of the task. Of several tasks by
                     column
    log              services that each epoch is logged to, beside epochs.csv

    Without a table the method is chosen as `train` chooses. The keys of [train.steps] may also stand in [train] itself,
    with solver = "steps" or "lbfgs" (exact), as in jobs before these tables: "lbfgs" takes weight_decay alone, and
    without a solver weight_decay and batch_size leave the choice to `train`.
    """

    task: JobTask | Mapping[str, PartTask] | None = None
    loss: JobLoss | Mapping[str, JobLoss] | None = None
    class_weights: Literal["balanced"] | list[NotNegative] | None = None
    label_smoothing: Annotated[float, Number, Field(ge=0, lt=1)] = 0.0
    metrics: list[str] | Mapping[str, list[str]] | None = None
    log: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=list)
    seed: Annotated[int, Number, Field(ge=0, lt=1 << 63)] = 0  # what a generator of torch takes
    steps: StepsTable | None = None
    exact: ExactTable | None = None
    solver: Literal["steps", "lbfgs"] | None = None

    @property
    def steps_keys(self) -> StepsTable:
        """The keys of [train.steps], wherever the job has them."""
        return self.steps or self


TABLES: dict[str, type] = {"steps": StepsTable, "exact": ExactTable}  # of [train], one for each method


@dataclass(frozen=True, config=STRICT_KEYS)
class StudySection:
    """[study]: more trainings on the same features, before the one whose model is saved.

    folds    cross-validation of the training examples
    repeats  of it, with other folds
    seeds    trainings of each fold or point
    counts   of labels to train on, scored on the test examples
    """

    folds: Annotated[int, Number, Field(ge=2)] | None = None
    repeats: Count = 1
    seeds: Count = 1
    counts: Annotated[list[Count], Field(min_length=1)] | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class OutSection:
    """[out]: the run folder, and whether it may be replaced."""

    folder: str = "run"
    overwrite: bool = False


def section_values(section: object) -> dict[str, Any]:
    """A section's values by key, as the arguments of its step."""
    return {entry.name: getattr(section, entry.name) for entry in fields(section)}  # type: ignore[arg-type]  # a section


def kinds_of(section: type) -> dict[str, Kind]:
    """The types of a section's keys, or of the job's sections."""
    return {entry.name: entry.type for entry in fields(section)}


def keys_of(section: type) -> list[str]:
    """The keys of a section."""
    return list(kinds_of(section))


def section_of(kind: type, name: str) -> type | None:
    """The class of the section of that name; None for a key, and for a name that there is not."""
    of_name = kinds_of(kind).get(name)
    return next((part for part in (of_name, *get_args(of_name)) if isinstance(part, type) and is_dataclass(part)), None)
