"""The state of a training in a file, from which it goes on after an interruption as if there had been none."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from regraft.errors import TrainError
from regraft.foundation.files import atomic_file
from regraft.foundation.wording import counted, one_line

FILE = "training.pt"
LEAST_S = 5.0  # between two writes, where epochs are shorter
FORM = 1
LATER = ("inputs", "task settings", "loss settings")  # what earlier versions did not record
LONGEST = 200  # letters of a value that differs


@final
@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a training is kept: weights, optimizer, learning rate, random generators, scores.

    folder   has one file, that of the last finished epoch
    resume   go on from that file; a folder without one is no error, training then begins at the start. Without
             `resume` a folder that has one is refused
    least_s  fewest seconds between two writes. A training that ends by an error or Ctrl-C writes its last finished
             epoch in any case; one that is killed loses at most the epoch and these seconds

    A resumed training gives the same weights, bit for bit, as one that was never interrupted: on the same machine, with
    as many threads, and where the data set and the optimizer keep no state of their own that nobody can read.
    """

    folder: str | Path
    resume: bool = False
    least_s: float = LEAST_S

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / FILE


@final
class CheckpointFile:
    """Reads and writes the file of a training.

    identity  what must be the same when it goes on: names → values
    """

    def __init__(self, checkpoints: Checkpoints, identity: Mapping[str, str]) -> None:
        self.checkpoints, self.identity = checkpoints, dict(identity)
        self.path = checkpoints.path
        self._written = time.monotonic()
        self._waiting: dict[str, Any] | None = None

    def read(self) -> dict[str, Any] | None:
        """The state to go on from; None where there is none.

        Raises TrainError when the folder has one and `resume` is off, when it is damaged, or that of another training.
        """
        if not self.path.is_file():
            return None
        state = self._load()
        finished = counted(len(state["seconds"]), "finished epoch")
        if not self.checkpoints.resume:
            raise TrainError(
                f"{self.path} has {finished} of a training that can go on. Pass Checkpoints(…, resume=True) to go on, "
                "or another folder."
            )
        theirs = _present_names(state["identity"])
        names = [name for name in self.identity | theirs if name in theirs or name not in LATER]
        other = [name for name in names if theirs.get(name) != self.identity.get(name)]
        if other:
            lines = [
                f"  {name}: {_short(theirs.get(name))} there, {_short(self.identity.get(name))} now" for name in other
            ]
            raise TrainError(
                f"{self.path} is of another training, so it cannot go on with this one:\n" + "\n".join(lines)
                + "\nSet these as they were, or use another folder."
            )  # fmt: skip
        return state

    def keep(self, state: dict[str, Any]) -> None:
        """Take the state after an epoch; written at once where the last write is long enough ago."""
        self._waiting = state
        if time.monotonic() - self._written >= self.checkpoints.least_s:
            self.flush()

    def flush(self) -> None:
        """Write the last state, where it is not written yet."""
        if self._waiting is None:
            return
        with atomic_file(self.path) as file:
            torch.save({"form": FORM, "identity": self.identity, **self._waiting}, file)
        self._waiting = None  # only now: what Ctrl-C interrupts is written at the end of the training
        self._written = time.monotonic()

    def _load(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            form = state["form"]
        except Exception as error:  # torch raises a dozen kinds for damaged files
            raise TrainError(f"{self.path} is no checkpoint of a training, or damaged: {error}") from error
        if form != FORM:
            raise TrainError(f"{self.path} was written by another version of regraft. Start again in another folder.")
        return state


def _present_names(identity: Mapping[str, str]) -> dict[str, str]:
    """What was recorded before `ema` was named `averaging`, as it is recorded now."""
    if "ema" not in identity:
        return dict(identity)
    return {"averaging_start": "0.75", **{"averaging" if name == "ema" else name: v for name, v in identity.items()}}


def _short(value: str | None) -> str:
    """A value on one line, cut where it is long; what one of the trainings does not have."""
    return "nothing" if value is None else one_line(value)[:LONGEST]
