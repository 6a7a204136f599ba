"""The job: all that `reuse` needs to know, as a job.toml says it."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.contracts.sound import SoundContract
from regraft.contracts.text import TextContract
from regraft.datasets.labelled import Target
from regraft.errors import JobError
from regraft.formats.hub_files import hub_file, is_hub_name
from regraft.foundation.wording import as_toml, expected, listed, near_names, refused
from regraft.inputs import InputContract
from regraft.jobs.contradictions import Toml, contradictions, table_of
from regraft.jobs.sections import (
    STRICT_KEYS,
    TABLES,
    AdviseSection,
    CacheSection,
    CheckpointSection,
    ClusterSection,
    DataSection,
    FreezeSection,
    HeadSection,
    ModelSection,
    OutSection,
    PartTask,
    PlanSection,
    StepsTable,
    StudySection,
    TrainSection,
    keys_of,
    kinds_of,
    section_of,
)  # fmt: skip
from regraft.tasks.kinds import TaskName

# The task that a loss alone decides; cross-entropy belongs to several.
TASK_OF_LOSS: dict[str, TaskName] = {
    "binary_cross_entropy": "multilabel",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
    "huber": "regression",
}


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
    head: HeadSection = HeadSection()
    advise: AdviseSection | None = None
    input: InputContract | None = None
    text: TextContract | None = None
    sound: SoundContract | None = None
    numbers: NumberContract | None = None
    cache: CacheSection = CacheSection()
    cluster: ClusterSection = ClusterSection()
    train: TrainSection = TrainSection()
    study: StudySection = StudySection()
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
        except (ValueError, RecursionError) as error:
            raise JobError(f"The job {path} is not valid TOML: {error}") from error
        for setting in settings:
            _set(data, setting)
        overridden = "".join(f"# run with --set {setting}\n" for setting in settings)
        return cls.from_dict(data, folder=path.resolve().parent, source=overridden + text, where=str(path))

    @classmethod
    def from_dict(cls, data: Toml, *, folder: Path | None = None, source: str = "", where: str = "The job") -> "Job":
        """The job from plain data, as TOML gives it. Raises JobError as `from_file`."""
        problems = list(contradictions(data))
        try:
            job = TypeAdapter(cls).validate_python({**data, "folder": folder or Path(), "source": source})
        except ValidationError as error:
            lines = [line for problem in error.errors() for line in _in_words(problem, data)]
            problems = [*dict.fromkeys(lines), *problems]
        if problems:
            raise JobError(f"{where} cannot be run:\n" + "\n".join(f"  {problem}" for problem in problems))
        return job

    @property
    def preparation(self) -> Preparation:
        """How the inputs are prepared; without a section for any, images at their own size with values from 0 to 1."""
        others = self.text or self.sound or self.numbers
        text = self.text and replace(self.text, tokenizer=str(self.path(self.text.tokenizer)))
        image = self.input or (None if others else InputContract())
        return Preparation(image, text, self.sound, self.numbers, self.model.inputs)

    @property
    def target(self) -> Target:
        """What the job says of the labels."""
        columns = [self.data.labels] if isinstance(self.data.labels, str) else self.data.labels
        task = self.train.task
        if isinstance(task, Mapping):
            return _several(task, columns or list(task), self.data.separator)
        loss = self.train.loss if isinstance(self.train.loss, str) else ""
        return Target(
            task or TASK_OF_LOSS.get(loss or ""),
            None if self.data.classes is None else tuple(self.data.classes),
            tuple(columns or ()),
            self.data.separator,
            tuple(self.data.mask_values or ()),
        )

    def path(self, value: str) -> Path:
        """A path of the job, relative to its folder; hf:ID and timm:NAME as the file that they name, if it is there."""
        if "\0" in value:
            raise JobError(f"The path {value!r} holds a null character, which no path can have.")
        if is_hub_name(value) and not (self.folder / value).exists():
            return hub_file(value, self.folder)
        return Path(os.path.normpath(self.folder / value))


def _several(task: Mapping[str, PartTask], columns: Sequence[str], separator: str | None) -> Target:
    """What each column of labels is. Raises JobError for a task of a column that is not among the labels."""
    unknown = [name for name in task if name not in columns]
    if unknown:
        raise JobError(f"[train] task names {listed(unknown)}, and [data] labels are {listed(list(columns))}.")
    parts = tuple(Target(task.get(name), None, (name,), separator) for name in columns)
    return Target("several", None, tuple(columns), separator, parts=parts)


def _in_words(problem: ErrorDetails, data: Toml) -> list[str]:
    """Lines for one of pydantic's problems: the key, what was given, what is allowed. Sections may hold sections."""
    sections: list[str] = []
    kind: type = Job
    given, key = data, ""
    for part in map(str, problem["loc"]):
        inner = section_of(kind, part)
        if inner is None:
            key = part
            break
        sections, kind, given = [*sections, part], inner, given.get(part, {})
    section = ".".join(sections)
    if not key:
        return _section_in_words(problem, section, kind, given)
    if problem["type"] == "unexpected_keyword_argument":
        names = [name for name in keys_of(kind) if section or name not in ("folder", "source")]
        none = f"[{section}] has no key {key!r}" if section else f"there is no section [{key}]"
        return [f"{none}. {near_names(key, names)}"]
    key_kind = kinds_of(kind)[key]
    if problem["type"] == "missing":
        return [f"[{section}] {key} is missing: {expected(key_kind)}"]
    return [f"[{section}] {key} is {refused(problem, key_kind, given[key])}"]


def _section_in_words(problem: ErrorDetails, section: str, kind: type, given: object) -> list[str]:
    """Lines for a section that is missing, that is none, or whose keys cannot be used together."""
    if problem["type"] == "value_error":
        return [f"[{section}] {line.strip()}" for line in str(problem["ctx"]["error"]).splitlines()[1:]]
    text = "missing" if problem["type"] == "missing" else as_toml(given)
    return [f"[{section}] is {text}: expected a section with the keys {', '.join(keys_of(kind))}"]


def _set(data: dict[str, Any], setting: str) -> None:
    """Put "section.key=value" into the job's data; "train.epochs" and "train.steps.epochs" are the same key."""
    name, equals, text = setting.partition("=")
    *sections, key = _path_in(data, [part.strip() for part in name.split(".")])
    if not equals or not sections or not all([*sections, key]):
        raise JobError(f"--set {setting!r} is not of the form section.key=value, as in train.steps.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()  # bare words are text: --set data.train=photos/
    table = data
    for depth, section in enumerate(sections, 1):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            where = ".".join(sections[:depth])
            raise JobError(f"--set {setting!r}: in the job, {where} is {as_toml(table)} and no section.")
    table[key] = value


def _path_in(data: Toml, path: list[str]) -> list[str]:
    """The path of a key of the training method as this job writes it, in a table or in [train] itself."""
    train = table_of(data.get("train"))
    match path:
        case ["train", key] if key in keys_of(StepsTable) and (tables := [name for name in TABLES if name in train]):
            return ["train", tables[0], key]
        case ["train", "steps", key] if "steps" not in train and any(flat in train for flat in keys_of(StepsTable)):
            return ["train", key]
    return path
