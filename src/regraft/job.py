"""The job: all that `reuse` needs to know, as a job.toml says it."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from regraft.errors import JobError, near_names
from regraft.inputs import InputContract
from regraft.patterns import Patterns

# Pydantic checks types and keys, and collects every problem instead of the first.
STRICT_KEYS = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


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

    reuse: Patterns = ".*"
    fresh: Patterns = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    match: str = "names"
    adapt: Mapping[str, str] | None = None
    accept: Patterns = ()
    adopt: Patterns = ()
    ema: bool = False


@dataclass(frozen=True, config=STRICT_KEYS)
class FreezeSection:
    """[freeze]: one of three ways to say what stays as restored, as in `freeze`.

    None of them freezes nothing, or, with a schedule in [train], all that the schedule never trains.
    """

    layers: Patterns | None = None
    trainable: Patterns | None = None
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
    validation: Annotated[float, Field(ge=0)] | str = 0.2
    per_class: Annotated[int, Field(ge=0)] = 0
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        share = self.validation
        if isinstance(share, float) and share > 1 and not share.is_integer():
            raise ValueError(f"validation = {share} is neither a part below 1 nor a whole number of examples")


@dataclass(frozen=True, config=STRICT_KEYS)
class CacheSection:
    """[cache]: where the features live; no folder keeps them in memory.

    use          "auto" caches where that is faster, measured on the first batches; true always, false never
    views        stored copies of each training image, each mirrored at random (with `flip`, not for letters) and
                 shifted by up to the part `shift` of its size; 1 stores the image as it is
    """

    use: bool | Literal["auto"] = "auto"
    folder: str | None = None
    views: Annotated[int, Field(ge=1)] = 1
    flip: bool = True
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.1
    precision: str = "float32"
    batch_size: Annotated[int, Field(ge=1)] = 64


@dataclass(frozen=True, config=STRICT_KEYS)
class TrainSection:
    """[train]: as in `train`; what is left out is chosen there, an exact solver for a linear head included."""

    solver: str | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    lr: float | list[float] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    optimizer: str | None = None
    weight_decay: float | list[float] | None = None
    loss: str = "cross_entropy"
    clip_value: float | None = None
    clip_norm: float | None = None
    precision: str = "float32"
    patience: Annotated[int, Field(ge=1)] | None = None
    schedule: Mapping[int, Patterns] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


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
            raise JobError(f"The job {path} cannot be read: {error}") from error
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
        sections = dict(data)
        problems = []
        try:
            sections["input"] = InputContract.from_dict(dict(sections.get("input", {})))
        except (JobError, TypeError, ValueError) as error:
            problems.append(str(error))
            sections["input"] = InputContract()
        try:
            job = TypeAdapter(cls).validate_python(
                {**sections, "folder": folder or Path(), "source": source}, strict=False
            )
        except ValidationError as error:
            problems = [_in_words(problem) for problem in error.errors()] + problems
        if problems:
            raise JobError(f"{where} cannot be run:\n" + "\n".join(f"  {problem}" for problem in problems))
        return job

    def path(self, value: str) -> Path:
        """A path of the job, relative to its folder."""
        return Path(os.path.normpath(self.folder / value))


def _in_words(problem: Any) -> str:
    """One of pydantic's problems in the job's own words, with near names for an unknown key."""
    section, *rest = map(str, problem["loc"])
    place = f"[{section}] " + rest[0] if rest else f"[{section}]"
    if problem["type"] == "unexpected_keyword_argument":
        if not rest:
            return f"there is no section [{section}]. {near_names(section, _keys(Job)[:-2])}"
        home = {entry.name: entry.type for entry in fields(Job)}[section]
        return f"[{section}] has no key {rest[0]!r}. {near_names(rest[0], _keys(home))}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    return f"{place} is {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _keys(section: Any) -> list[str]:
    return [entry.name for entry in fields(section)]


def _set(data: dict[str, Any], setting: str) -> None:
    """Put "section.key=value" into the job's data."""
    name, equals, text = setting.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or not section or not key:
        raise JobError(f"--set {setting!r} is not of the form section.key=value, as in train.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # bare words are text: --set data.train=photos/
    data.setdefault(section, {})[key] = value
