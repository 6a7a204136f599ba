"""The job: all that `reuse` needs to know, as a job.toml says it."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from regraft.errors import JobError, PatternError
from regraft.inputs import InputContract
from regraft.patterns import Patterns, as_patterns, compile_pattern
from regraft.schedules import EPOCHS, form_problems
from regraft.wording import as_toml, expected, near_names, refused

# Pydantic checks types and keys, and collects every problem instead of the first; the words are ours (wording).
STRICT_KEYS = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _compiled(given: Any) -> Any:
    """Patterns, or a table with patterns as its keys, once each of them is a regular expression."""
    try:
        for pattern in as_patterns(list(given) if isinstance(given, Mapping) else given):
            compile_pattern(pattern)
    except PatternError as error:
        raise ValueError(" ".join(str(error).splitlines())) from error
    return given


def _share_or_count(validation: float | str) -> float | str:
    """The part of the data, or the number of examples, that validates."""
    if isinstance(validation, float) and validation > 1 and not validation.is_integer():
        raise ValueError("expected a part below 1, a whole number of examples, or a path")
    return validation


def _no_truth(value: Any) -> Any:
    """Refuses true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "no number")
    return value


Number = BeforeValidator(_no_truth)
Count = Annotated[int, Number, Field(ge=1)]
CheckedPatterns = Annotated[Patterns, AfterValidator(_compiled)]
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
    """[model]: the new model; `factory` is a SPEC, `args` are given to it."""

    factory: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT_KEYS)
class PlanSection:
    """[plan]: which arrays go where, as in `plan_reuse`."""

    reuse: CheckedPatterns = ".*"
    fresh: CheckedPatterns = ()
    rename: CheckedTable = field(default_factory=dict)
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


@dataclass(frozen=True, config=STRICT_KEYS)
class DataSection:
    """[data]: where the examples are.

    validation       a part of each class of the training data (0.2), its first examples (5000), a path, or 0 for none
    per_class        train on this many random examples of each class only; 0 takes all
    skip_unreadable  leave out damaged images, with a note, instead of refusing
    """

    train: str
    test: str | None = None
    validation: Share = 0.2
    per_class: Annotated[int, Number, Field(ge=0)] = 0
    skip_unreadable: bool = False


@dataclass(frozen=True, config=STRICT_KEYS)
class CacheSection:
    """[cache]: where the features live; no folder keeps them in memory.

    use          "auto" caches where that is faster, measured on the first batches; true always, false never
    views        stored copies of each training image, each mirrored at random (with `flip`, not for letters) and
                 shifted by up to the part `shift` of its size; 1 stores the image as it is
    """

    use: bool | Literal["auto"] = "auto"
    folder: str | None = None
    views: Count = 1
    flip: bool = True
    shift: Annotated[float, Number, Field(ge=0, lt=1)] = 0.1
    precision: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    batch_size: Count = 64


@dataclass(frozen=True, config=STRICT_KEYS)
class StepsTable:
    """[train.steps]: gradient steps, as `regraft.Steps`; what is left out has the default there."""

    epochs: Count | None = None
    lr: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    batch_size: Count | None = None
    optimizer: Literal["sgd", "momentum", "adam", "adamw"] | None = None
    weight_decay: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] | None = None
    clip_value: Positive | None = None
    clip_norm: Positive | None = None
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    patience: Count | None = None
    schedule: Mapping[int, CheckedPatterns] | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class ExactTable:
    """[train.exact]: the optimum of a linear head, as `regraft.Exact`."""

    weight_decay: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] | None = None


@dataclass(frozen=True, config=STRICT_KEYS)
class TrainSection(StepsTable):
    """[train]: loss, seed, and the method in a table of its own, [train.steps] or [train.exact].

    Without a table the method is chosen as `train` chooses. The keys of [train.steps] may also stand in [train] itself,
    with solver = "steps" or "lbfgs" (exact), as in jobs before these tables: "lbfgs" takes weight_decay alone, and
    without a solver weight_decay and batch_size leave the choice to `train`.
    """

    loss: Literal["cross_entropy", "mean_squared_error"] = "cross_entropy"
    seed: Annotated[int, Number, Field(ge=0)] = 0
    steps: StepsTable | None = None
    exact: ExactTable | None = None
    solver: Literal["steps", "lbfgs"] | None = None

    @property
    def steps_keys(self) -> StepsTable:
        """The keys of [train.steps], wherever the job has them."""
        return self.steps or self


TABLES: dict[str, type] = {"steps": StepsTable, "exact": ExactTable}  # of [train], one for each method


@dataclass(frozen=True, config=STRICT_KEYS)
class OutSection:
    """[out]: the run folder, and whether it may be replaced."""

    folder: str = "run"
    overwrite: bool = False


@dataclass(frozen=True, config=STRICT_KEYS)
class Job:
    """The arguments of `reuse`, section by section.

    folder  what relative paths start from: the job file's folder
    source  the job's text, for the report
    """

    checkpoint: CheckpointSection
    model: ModelSection
    data: DataSection
    plan: PlanSection = PlanSection()
    freeze: FreezeSection = FreezeSection()
    input: InputContract = field(default_factory=InputContract)
    cache: CacheSection = CacheSection()
    train: TrainSection = TrainSection()
    out: OutSection = OutSection()
    folder: Path = Path()
    source: str = ""

    @classmethod
    def from_file(cls, path: Path, settings: Sequence[str] = ()) -> "Job":
        """The job in a TOML file.

        settings  "section.key=value" each, which override the file; values as in TOML, bare words are text

        Raises JobError with all problems at once: unknown sections and keys, missing ones, values of another type.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise JobError(f"The job {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise JobError(f"The job {path} is no valid TOML: {error}") from error
        for setting in settings:
            _set(data, setting)
        overridden = "".join(f"# run with --set {setting}\n" for setting in settings)
        return cls.from_dict(data, folder=path.resolve().parent, source=overridden + text, where=str(path))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, folder: Path | None = None, source: str = "", where: str = "The job"
    ) -> "Job":
        """The job from plain data, as TOML gives it. Raises JobError as `from_file`."""
        problems = list(_contradictions(data))
        try:
            job = TypeAdapter(cls).validate_python({**data, "folder": folder or Path(), "source": source})
        except ValidationError as error:
            lines = [line for problem in error.errors() for line in _in_words(problem, data)]
            problems = [*dict.fromkeys(lines), *problems]
        if problems:
            raise JobError(f"{where} cannot be run:\n" + "\n".join(f"  {problem}" for problem in problems))
        return job

    def path(self, value: str) -> Path:
        """A path of the job, relative to its folder."""
        return Path(os.path.normpath(self.folder / value))


def values_of(section: object) -> dict[str, Any]:
    """A section's values by key, as the arguments of its step."""
    return {entry.name: getattr(section, entry.name) for entry in fields(section)}  # type: ignore[arg-type]  # a section


def _in_words(problem: Any, data: Mapping[str, Any]) -> list[str]:
    """Lines for one of pydantic's problems: the key, what was given, what is allowed. Sections may hold sections."""
    sections: list[str] = []
    kind: type = Job
    given, key = data, ""
    for part in map(str, problem["loc"]):
        inner = _section_kind(kind, part)
        if inner is None:
            key = part
            break
        sections, kind, given = [*sections, part], inner, given.get(part, {})
    section = ".".join(sections)
    if not key:
        return _section_in_words(problem, section, kind, given)
    if problem["type"] == "unexpected_keyword_argument":
        none = f"[{section}] has no key {key!r}" if section else f"there is no section [{key}]"
        return [f"{none}. {near_names(key, _keys(kind))}"]
    key_kind = _kinds(kind)[key]
    if problem["type"] == "missing":
        return [f"[{section}] {key} is missing: {expected(key_kind)}"]
    return [f"[{section}] {key} is {refused(problem, key_kind, given[key])}"]


def _section_in_words(problem: Any, section: str, kind: type, given: object) -> list[str]:
    """Lines for a section that is missing, that is none, or whose keys cannot be used together."""
    if problem["type"] == "value_error":
        return [f"[{section}] {line.strip()}" for line in str(problem["ctx"]["error"]).splitlines()[1:]]
    text = "missing" if problem["type"] == "missing" else as_toml(given)
    return [f"[{section}] is {text}: expected a section with the keys {', '.join(_keys(kind))}"]


def _kinds(section: Any) -> dict[str, Any]:
    """The types of a section's keys, or of the job's sections."""
    return {entry.name: entry.type for entry in fields(section)}


def _section_kind(kind: type, name: str) -> type | None:
    """The class of the section of that name; None for a key, and for a name that there is not."""
    of_name = _kinds(kind).get(name)
    return next((part for part in (of_name, *get_args(of_name)) if isinstance(part, type) and is_dataclass(part)), None)


def _contradictions(data: Mapping[str, Any]) -> Iterator[str]:
    """A line for each pair of keys that cannot be followed together; keys of wrong types are told elsewhere."""
    freeze, train, examples = (_table(data.get(name)) for name in ("freeze", "train", "data"))
    choices = [key for key in _keys(FreezeSection) if freeze.get(key) is not None]
    if len(choices) > 1:
        yield f"[freeze] has {' and '.join(choices)}: expected only one of {', '.join(_keys(FreezeSection))}"
    yield from _two_methods(train)
    has_validation = examples.get("validation", 1) != 0
    tables = {f"train.{name}": _table(train[name]) for name in TABLES if name in train} or {"train": train}
    for section, method in tables.items():
        yield from _schedule_problems(section, method)
        if not has_validation:
            yield from _without_validation(section, method)


def _schedule_problems(section: str, method: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a schedule that any model has."""
    schedule, epochs = _whole_numbers(method.get("schedule")), method.get("epochs") or EPOCHS
    if schedule and isinstance(epochs, int):
        for problem in form_problems(schedule, epochs):
            yield f"[{section}] schedule is {as_toml(method['schedule'])}: {problem}"
    if schedule and method.get("solver") == "lbfgs":
        yield '[train] solver is "lbfgs", which finds the optimum at once and has no epochs: leave out schedule'


def _two_methods(train: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a section that names more than one method, or another loss than the exact one can have."""
    tables = [f"[train.{name}]" for name in TABLES if name in train]
    flat = [key for key in (*_keys(StepsTable), "solver") if key in train]
    if len(tables) > 1:
        yield f"there are {' and '.join(tables)}: expected only one of them"
    elif tables and flat:
        yield f"[train] has {', '.join(flat)} beside {tables[0]}: expected the keys of one method, in {tables[0]} alone"
    exact = "[train.exact] is given" if "exact" in train else '[train] solver is "lbfgs"'
    if ("exact" in train or train.get("solver") == "lbfgs") and train.get("loss", "cross_entropy") != "cross_entropy":
        yield f'{exact} and loss is {as_toml(train["loss"])}: expected loss = "cross_entropy"'


def _without_validation(section: str, method: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a job without validation examples."""
    none = "and [data] validation is 0: expected a part of the data"
    if method.get("patience") is not None:
        yield f"[{section}] patience waits for a lower validation loss, {none}"
    if any(isinstance(method.get(key), list) and len(method[key]) > 1 for key in ("lr", "weight_decay")):
        yield f"[{section}] several lr or weight_decay are compared by their validation loss, {none}"


def _table(value: object) -> Mapping[str, Any]:
    """The section; an empty one for a value that is none."""
    return value if isinstance(value, Mapping) else {}


def _whole_numbers(schedule: object) -> dict[int, Patterns]:
    """A schedule's layers by its epochs, which are texts in TOML; empty for what is no schedule."""
    try:
        return {int(epoch): list(as_patterns(patterns)) for epoch, patterns in schedule.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, PatternError):
        return {}


def _keys(section: Any) -> list[str]:
    """The keys of a section, or the job's sections."""
    return [name for name in _kinds(section) if section is not Job or name not in ("folder", "source")]


def _set(data: dict[str, Any], setting: str) -> None:
    """Put "section.key=value" into the job's data; "train.epochs" and "train.steps.epochs" are the same key."""
    name, equals, text = setting.partition("=")
    *sections, key = _path_in(data, [part.strip() for part in name.split(".")])
    if not equals or not sections or not all([*sections, key]):
        raise JobError(f"--set {setting!r} is not of the form section.key=value, as in train.steps.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # bare words are text: --set data.train=photos/
    table = data
    for depth, section in enumerate(sections, 1):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            where = ".".join(sections[:depth])
            raise JobError(f"--set {setting!r}: in the job, {where} is {as_toml(table)} and no section.")
    table[key] = value


def _path_in(data: Mapping[str, Any], path: list[str]) -> list[str]:
    """The path of a key of the training method as this job writes it, in a table or in [train] itself."""
    train = _table(data.get("train"))
    match path:
        case ["train", key] if key in _keys(StepsTable) and (tables := [name for name in TABLES if name in train]):
            return ["train", tables[0], key]
        case ["train", "steps", key] if "steps" not in train and any(flat in train for flat in _keys(StepsTable)):
            return ["train", key]
    return path
