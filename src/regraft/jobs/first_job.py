"""The text of a commented job.toml, from what a new user knows: data, checkpoint, model, new layers, image size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

from torch import nn

from regraft.building import BuiltNetwork, planned_network
from regraft.contracts.preparation import Preparation
from regraft.cuts.frozen import names_of
from regraft.datasets.class_folder import PARTS
from regraft.datasets.opening import open_data
from regraft.errors import JobError, RegraftError
from regraft.foundation.patterns import choose
from regraft.foundation.wording import counted, listed, toml_text
from regraft.inputs import InputContract
from regraft.jobs.factories import model_by_spec
from regraft.jobs.job import Job
from regraft.jobs.planned import FROM_CHECKPOINT
from regraft.jobs.preparation import recorded_preparation
from regraft.matching import plan_reuse
from regraft.networks.reading import network_of
from regraft.plan import Plan
from regraft.reading import open_checkpoint

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

$plan

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
PLAN = Template("""\
[plan]
# Layers that keep their new initial weights. All others are restored from the checkpoint.
fresh = $trainable
$rename""")
OWN_NETWORK = """\
# The network is built from the checkpoint, with a new last layer.
# head = {layer = "name"}     # another layer is the new one"""
VALUES: Mapping[str, tuple[Any, Any]] = {  # what a network takes → mean and std of values from 0 to 1
    "0..1": (0.0, 1.0), "symmetric": (0.5, 0.5), "0..255": (0.0, 1 / 255),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}  # fmt: skip
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
    takes_unknown_values  whether the file of a network does not record how its values are scaled
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
    takes_unknown_values: bool = False

    def with_model(self, factory: str, folder: Path) -> "FirstJob":
        """The job with this model: an output for each class, its last layer new, images prepared as recorded for it.

        Raises JobError for a factory that cannot be used.
        """
        if factory == FROM_CHECKPOINT:
            return self._from_checkpoint(folder)
        model, args = _sized_for(factory, len(self.classes), folder)
        made = replace(self, factory=factory, args=args, trainable=_last_layer(model))
        sections = {
            "checkpoint": {"path": self.checkpoint},
            "model": {"factory": factory},
            "data": {"train": self.train},
        }
        _, recorded = recorded_preparation(Job.from_dict(sections, folder=folder), model)
        return replace(made, contract=recorded or self.contract)

    def _from_checkpoint(self, folder: Path) -> "FirstJob":
        """The job with the network that the checkpoint describes, and a new head for the classes."""
        built = self._built(folder)
        new = {
            row.name.rpartition(".")[0] for row in built.plan.rows if row.name.endswith(".weight") and not row.sources
        }
        made = replace(self, factory=FROM_CHECKPOINT, trainable="|".join(map(_pattern, sorted(new))))
        image = built.image
        if image is None:
            return replace(made, takes_unknown_values=True)
        mean, std = VALUES["0..255"] if image.is_bytes else VALUES["0..1"]
        contract = InputContract(size=image.size, mean=mean, std=std, channels=image.channels, flatten=image.is_flat)  # type: ignore[arg-type]
        return replace(made, contract=contract, takes_unknown_values=not image.is_bytes)

    def _built(self, folder: Path) -> BuiltNetwork:
        return planned_network(open_checkpoint(folder / self.checkpoint), head={"classes": len(self.classes)})

    def plan(self, folder: Path) -> Plan:
        """What the job would reuse."""
        if self.factory == FROM_CHECKPOINT:
            return self._built(folder).plan
        model = model_by_spec(self.factory, self.args, folder=folder)
        return plan_reuse(open_checkpoint(folder / self.checkpoint), model, fresh=self.trainable, rename=self.rename)

    def with_values(self, word: str) -> "FirstJob":
        """The job with images of these values. Raises JobError for another word."""
        if word not in VALUES:
            raise JobError(f"{word!r} is no range of values; expected one of {', '.join(VALUES)}.")
        mean, std = VALUES[word]
        return replace(self, contract=replace(self.contract, mean=mean, std=std))

    def with_trainable(self, pattern: str, folder: Path) -> "FirstJob":
        """The job that trains these layers. Raises PatternError for a pattern that matches none."""
        is_own = self.factory == FROM_CHECKPOINT
        model = self._built(folder).model if is_own else model_by_spec(self.factory, self.args, folder=folder)
        choose(names_of(model), pattern)
        return replace(self, trainable=pattern)

    def with_size(self, pixels: str) -> "FirstJob":
        """The job with images of this height and width: "224", or "224x320". Raises JobError for any other text."""
        sizes = re.fullmatch(r"(\d+)(?:x(\d+))?", pixels)
        if sizes is None:
            raise JobError(f"{pixels!r} is not a number of pixels, as in 224, or height and width, as in 224x320.")
        return replace(self, contract=replace(self.contract, size=(int(sizes[1]), int(sizes[2] or sizes[1]))))

    def text(self) -> str:
        """The job.toml, with a comment for each choice."""
        test = f"test = {toml_text(self.test)}" if self.test else '# test = "other-images/"    # for a final accuracy'
        text = TEMPLATE.substitute(
            checkpoint=toml_text(self.checkpoint),
            classes=f"{counted(len(self.classes), 'output')}: {listed(self.classes)}",
            factory=toml_text(self.factory),
            args=self._arguments(),
            plan=self._plan_text(),
            trainable=toml_text(self.trainable),
            train=toml_text(self.train),
            test=test,
            input="\n".join(self._input_lines()),
        )
        return re.sub(r"\n{3,}", "\n\n", text)

    def _arguments(self) -> str:
        if self.factory == FROM_CHECKPOINT:
            return OWN_NETWORK
        return f"args = {toml_text(self.args)}" if self.args else "# args = {width = 64}       # of the factory"

    def _plan_text(self) -> str:
        """The [plan] section; none for a network that is built from the checkpoint."""
        if self.factory == FROM_CHECKPOINT:
            return ""
        rename = f"rename = {toml_text(self.rename)}    # in the checkpoint = in the model" if self.rename else ""
        return PLAN.substitute(trainable=toml_text(self.trainable), rename=rename)

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
    return _pattern(names[-1])


def _pattern(layer: str) -> str:
    """A layer's name as a pattern that a person can read."""
    return re.escape(layer).replace(r"\.", ".").replace(r"\-", "-")


def describes_network(path: Path) -> bool:
    """Whether a checkpoint describes its network."""
    try:
        network_of(open_checkpoint(path))
    except RegraftError:
        return False
    return True
