"""What a saved model's folder records beside the weights: how to build it, prepare its inputs and read its outputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic import dataclasses as checked

from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.contracts.sound import SoundContract
from regraft.contracts.text import TextContract
from regraft.datasets.labelled import Target, TargetTask
from regraft.errors import PlanError, SaveError
from regraft.inputs import InputContract
from regraft.plans.rows import RequirementRow
from regraft.plans.rows_json import requirement_from_json

HF_CONFIG = "config.json"  # of a model of transformers, copied into the saved folder
RECORD_FILE, RECORD_VERSION = "regraft.json", 1


@dataclass(frozen=True)
class Factory:
    """How a model is built again: a SPEC, its arguments, and the folder that a `file.py:` SPEC starts from."""

    spec: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()


@checked.dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class FactoryRecord:
    """How the model of a saved folder is built again.

    factory   a SPEC; a file is in the saved folder
    args      given to the factory
    original  where the factory's file was
    sha256    of the factory's file
    modules   the modules beside it that it imports: file in the saved folder → SHA-256
    """

    factory: str
    args: dict[str, Any] = field(default_factory=dict)
    original: str = ""
    sha256: str = ""
    modules: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """All Python files of the factory in the saved folder, with their SHA-256."""
        file = HF_CONFIG if self.factory.startswith("hf:") else self.factory.rpartition(":")[0]
        return {file: self.sha256, **self.modules} if self.sha256 else {}


@checked.dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class ModelRecord:
    """What regraft.json holds.

    sha256      of model.safetensors
    adopted     settings that the plan changed in the model, as in plan.json
    frozen      names of the parameters that did not train
    text, sound, numbers, arguments   with `inputs` the preparation of all inputs; the tokenizer is in the folder
    task, columns, separator, mask_values, parts   what the labels are, as in `regraft.datasets.labelled.Target`
    tokenizer   the tokenizer's files in the folder, with their SHA-256
    outputs     "classes": scores of classes of which one applies, what `predict` answers; else the name of the loss by
                which the model was trained; None for a model of which that is not known
    head        the settings of a head on several layers of the model (`head_on_layers`); None without
    provenance  where each array came from
    """

    sha256: str
    record: int = RECORD_VERSION
    created: str = ""
    model: FactoryRecord | None = None
    inputs: InputContract | None = None
    text: TextContract | None = None
    sound: SoundContract | None = None
    numbers: NumberContract | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    tokenizer: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    task: TargetTask | None = None
    columns: tuple[str, ...] = ()
    separator: str | None = None
    mask_values: tuple[int, ...] = ()
    parts: tuple[Target, ...] = ()
    adopted: tuple[dict[str, Any], ...] = ()
    frozen: tuple[str, ...] = ()
    outputs: str | None = None
    head: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What the labels are."""
        return Target(self.task, self.classes, self.columns, self.separator, self.mask_values, self.parts)

    def preparation_in(self, folder: Path) -> Preparation:
        """How the inputs are prepared, for the model saved in this folder."""
        text = self.text and replace(self.text, tokenizer=str(folder / self.text.tokenizer))
        return Preparation(self.inputs, text, self.sound, self.numbers, self.arguments)

    @property
    def requirements(self) -> tuple[RequirementRow, ...]:
        """What the plan adopted, as rows."""
        return tuple(requirement_from_json(row) for row in self.adopted)


def read_record(folder: str | Path) -> ModelRecord:
    """What a saved folder records beside the weights. Raises SaveError when the folder is not a saved model."""
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise SaveError(f"{folder} is not a saved model: it has no file {RECORD_FILE}.")
    try:
        record = TypeAdapter(ModelRecord).validate_python(json.loads(path.read_text(encoding="utf-8")))
        _ = record.requirements  # of the form that plan.json has
        return record
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise SaveError(f"{path} is damaged: {'; '.join(reasons)}. Run the job again.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, PlanError) as error:
        raise SaveError(f"{path} is damaged: {type(error).__name__}: {error}. Run the job again.") from error
