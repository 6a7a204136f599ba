"""`regraft init`: ask a few questions, write a commented job.toml."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from regraft.cli.printing import Commands, add_command, say, warn
from regraft.errors import JobError, RegraftError

T = TypeVar("T")

SHIPPED = "mobilenet_v1_025"  # the folder into which the network that ships with regraft is copied

VALUES = "0..1, symmetric (-1..1), 0..255 or imagenet (its mean and std)"


@dataclass(frozen=True)
class Questions:
    """Answers from the options, from the keyboard, or by default.

    given  option → its value; None: not typed
    asks   whether to ask at the keyboard
    """

    given: Mapping[str, object]
    asks: bool

    def answer(self, name: str, question: str, default: str, use: Callable[[str], T]) -> T:
        """What `use` makes of the answer; a typed answer that it refuses is asked for again."""
        if self.given[name] is not None:
            return use(str(self.given[name]))
        while True:
            typed = _line(f"{question}{f' [{default}]' if default else ''}: ") if self.asks else ""
            if not typed and not default:
                option = "DATA" if name == "data" else f"--{name}"
                raise JobError(f"init has no answer to: {question}. Give it as {option}.")
            try:
                return use(typed or default)
            except RegraftError as error:
                if not typed:
                    raise
                warn(f"{type(error).__name__}: {error}")


def add_to(commands: Commands) -> None:
    """The command and its arguments."""
    add = add_command(commands, init)
    add(
        "data", nargs="?", type=Path, help="the examples: a folder with a subfolder of images for each class, or a file"
    )
    add("--out", type=Path, default=Path("job.toml"), metavar="FILE", help="the job to write; by default job.toml")
    add("--checkpoint", metavar="PATH", help="the trained layers; by default an ImageNet network that regraft brings")
    add("--model", metavar="SPEC", help="what builds the new network: file.py:function, timm:NAME, …; checkpoint: the "
        "file itself, which is the default where it describes its network")  # fmt: skip
    add("--trainable", metavar="PATTERN", help="the layers that train; by default the last one")
    add("--size", metavar="PIXELS", help="height and width of the images as the network takes them: 224, or 224x320")
    add("--values", metavar="RANGE", help=f"what a network from the checkpoint takes: {VALUES}")
    add("--yes", action="store_true", help="ask nothing: take the defaults for what is not given")


def init(*, out: Path, yes: bool, **given: object) -> None:
    """Ask five or six questions, write a commented job.toml, and show what it would reuse.

    Without --checkpoint the job reuses an ImageNet network that ships with regraft; it is copied beside the job.
    """
    if out.exists():
        raise JobError(f"{out} exists already; nothing was changed. Write to another file: --out other.toml")
    text, heading = _job_of(Questions(given, asks=not yes), out.absolute().parent)
    out.write_text(text, encoding="utf-8")
    say(f"{out} written. Its plan: {heading}\nRun it: regraft reuse {out}")


def _line(prompt: str) -> str:
    """What is typed; "" at the end of the input."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _job_of(questions: Questions, folder: Path) -> tuple[str, str]:
    """The job's text and the heading of its plan."""
    from regraft.jobs import first_job
    from regraft.jobs.planned import FROM_CHECKPOINT

    data = questions.answer("data", "1. Folder of images, with a subfolder for each class", "", first_job.data_in)
    checkpoint = questions.answer(
        "checkpoint", "2. Checkpoint whose layers are reused", SHIPPED, lambda path: _checkpoint_in(path, folder)
    )
    job = first_job.FirstJob(
        train=_relative(data.train, folder),
        test=None if data.test is None else _relative(data.test, folder),
        classes=data.classes,
        are_images=data.are_images,
        checkpoint=_relative(checkpoint, folder),
        rename=first_job.SHIPPED_RENAME if checkpoint == folder / SHIPPED else {},
    )
    own = FROM_CHECKPOINT if first_job.describes_network(checkpoint) else ""
    default = f"{SHIPPED}/mobilenet.py:mobilenet_v1_025" if checkpoint == folder / SHIPPED else own
    job = questions.answer("model", "3. What builds the new network", default, partial(job.with_model, folder=folder))
    job = questions.answer(
        "trainable", "4. Layers that train", job.trainable, partial(job.with_trainable, folder=folder)
    )
    if job.are_images:
        size = "x".join(map(str, job.contract.size or (224, 224)))
        job = questions.answer("size", "5. Height and width of the images, in pixels", size, job.with_size)
    if job.are_images and job.takes_unknown_values:
        job = questions.answer("values", f"6. Values that the network takes: {VALUES}", "", job.with_values)
    return job.text(), job.plan(folder).heading()


def _checkpoint_in(path: str, folder: Path) -> Path:
    """The checkpoint, once it can be opened; the one that ships with regraft is copied into the job's folder."""
    from regraft.demo.shipped import copy_network
    from regraft.reading import open_checkpoint

    if path == SHIPPED and not (folder / SHIPPED).exists():
        copy_network(folder / SHIPPED)
    checkpoint = folder / SHIPPED if path == SHIPPED else Path(path).absolute()
    open_checkpoint(checkpoint)
    return checkpoint


def _relative(path: Path, folder: Path) -> str:
    """The path as the job has it: from the job's folder on."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive on Windows
        return str(path.absolute())
