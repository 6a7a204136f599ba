"""The text of a commented job.toml, from what a new user knows: data, checkpoint, model, new layers, image size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

from torch import nn

from regraft.contracts.preparation import Preparation
from regraft.cuts.frozen import names_of
from regraft.datasets.class_folder import PARTS
from regraft.datasets.opening import open_data
from regraft.errors import JobError
from regraft.foundation.patterns import choose
from regraft.foundation.wording import counted, listed, toml_text
from regraft.inputs import InputContract
from regraft.jobs.factories import model_by_spec
from regraft.jobs.job import Job
from regraft.jobs.preparation import recorded_preparation

CLASS_ARGUMENTS = ("num_classes", "classes", "num_labels", "n_classes")
SHIPPED_RENAME = {"MobilenetV1/(.*)": r"\1"}
TEMPLATE = Template("""\
# Run it: regraft reuse job.toml. It prints the plan, trains, and writes the run folder with a report.

[checkpoint]
# The trained layers, in the format of any framework.
path = $checkpoint

[model]
# The new network. It needs $classes.
factory = $factory
$args

[plan]
# Layers that keep their new initial weights. All others are restored from the checkpoint.
fresh = $trainable
$rename

[freeze]
# Layers that train. All others stay as restored, and are computed once for each example.
trainable = $trainable

[data]
# A folder with a subfolder of images for each class, or a file: .npz, .csv, .parquet.
train = $train
$test
validation = 0.2            # this part of each class chooses between settings

$input
# [train.steps]             # for gradient steps; by default the method suits the layers that train
# epochs = 30

[out]
folder = "run"
""")
SHIPPED_PREPARATION = InputContract(size=(224, 224), mean=(0.5,), std=(0.5,))


@dataclass(frozen=True)
class FirstData:
    """The examples of a first job: where they are, and the classes that were found."""

    train: Path
    test: Path | None
    classes: tuple[str, ...]
    are_images: bool


def data_in(path: str) -> FirstData:
    """The training data at a path, and the test data where it is a folder of parts: IMAGES/train and IMAGES/test.

    Raises DataError for what cannot be used, JobError for parts without train.
    """
    train, test = _parts_of(Path(path))
    data = open_data(train, Preparation(InputContract()))
    return FirstData(train, test, data.classes, data.are_images)


def _parts_of(folder: Path) -> tuple[Path, Path | None]:
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    parts = {entry.name.lower(): entry for entry in entries if entry.is_dir() and entry.name.lower() in PARTS}
    if len(parts) < 2:
        return folder, None
    train = next((path for name, path in parts.items() if name.startswith("train")), None)
    if train is None:
        raise JobError(
            f"{folder} holds {' and '.join(parts)}, and no folder train. Give the folder of the training data."
        )
    return train, next((path for name, path in parts.items() if name.startswith("test")), None)


@dataclass(frozen=True)
class FirstJob:
    """The answers that a job is written from. Paths are as the job has them: relative to its folder, or absolute.

    rename     names in the checkpoint → names in the model
    trainable  the layers that are new and train, as a pattern; all others are restored and frozen
    args       of the factory
    contract   how images are prepared
    """

    train: str
    test: str | None
    classes: tuple[str, ...]
    are_images: bool
    checkpoint: str
    rename: Mapping[str, str] = field(default_factory=dict)
    factory: str = ""
    trainable: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    contract: InputContract = SHIPPED_PREPARATION

    def with_model(self, factory: str, folder: Path) -> "FirstJob":
        """The job with this model: an output for each class, its last layer new, images prepared as recorded for it.

        Raises JobError for a factory that cannot be used.
        """
        model, args = _sized_for(factory, len(self.classes), folder)
        made = replace(self, factory=factory, args=args, trainable=_last_layer(model))
        sections = {
            "checkpoint": {"path": self.checkpoint},
            "model": {"factory": factory},
            "data": {"train": self.train},
        }
        _, recorded = recorded_preparation(Job.from_dict(sections, folder=folder), model)
        return replace(made, contract=recorded or self.contract)

    def with_trainable(self, pattern: str, folder: Path) -> "FirstJob":
        """The job that trains these layers. Raises PatternError for a pattern that matches none."""
        choose(names_of(model_by_spec(self.factory, self.args, folder=folder)), pattern)
        return replace(self, trainable=pattern)

    def with_size(self, pixels: str) -> "FirstJob":
        """The job with images of this height and width. Raises JobError for what is not a number of pixels."""
        if not pixels.isdecimal():
            raise JobError(f"{pixels!r} is not a number of pixels, as in 224.")
        return replace(self, contract=replace(self.contract, size=(int(pixels), int(pixels))))

    def text(self) -> str:
        """The job.toml, with a comment for each choice."""
        test = f"test = {toml_text(self.test)}" if self.test else '# test = "other-images/"    # for a final accuracy'
        return TEMPLATE.substitute(
            checkpoint=toml_text(self.checkpoint),
            classes=f"{counted(len(self.classes), 'output')}: {listed(self.classes)}",
            factory=toml_text(self.factory),
            args=f"args = {toml_text(self.args)}" if self.args else "# args = {width = 64}       # of the factory",
            trainable=toml_text(self.trainable),
            rename=f"rename = {toml_text(self.rename)}    # in the checkpoint = in the model" if self.rename else "",
            train=toml_text(self.train),
            test=test,
            input="\n".join(self._input_lines()),
        ).replace("\n\n\n", "\n\n")

    def _input_lines(self) -> list[str]:
        """The [input] section; none for data that are no images."""
        if not self.are_images:
            return []
        default, values = InputContract().to_dict(), self.contract.to_dict()
        chosen = {key: value for key, value in values.items() if value != default[key]}
        return [
            "[input]",
            "# As the original network saw its images: mean and std are of values from 0 to 1.",
            *(f"{key} = {toml_text(_shortest(value))}" for key, value in chosen.items()),
            "",
        ]


def _shortest(value: object) -> object:
    """One number for a tuple of equal ones, as a contract takes it."""
    return value[0] if isinstance(value, tuple) and len({*value}) == 1 else value


def _sized_for(factory: str, classes: int, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model with an output for each class, and the arguments that make it so; none where the factory takes none."""
    for name in CLASS_ARGUMENTS:
        try:
            return model_by_spec(factory, {name: classes}, folder=folder), {name: classes}
        except JobError as error:
            if not isinstance(error.__cause__, TypeError):  # the factory takes no argument of that name
                raise
    return model_by_spec(factory, folder=folder), {}


def _last_layer(model: nn.Module) -> str:
    """The name of the last layer with parameters of its own, which gives the outputs in most networks."""
    names = [name for name, layer in model.named_modules() if any(True for _ in layer.parameters(recurse=False))]
    if not names or not names[-1]:
        raise JobError(
            "The model has no layers with names. Make its layers attributes, so that patterns can name them."
        )
    last: str = names[-1]
    return re.escape(last).replace(r"\.", ".")
