"""The folder beside a run in which the finished epochs of its training are kept, until the run is whole."""

import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from regraft.errors import Advice, SaveError
from regraft.learning.checkpoints import FILE, Checkpoints

EPOCHS_FILE = "epochs.csv"
EVENTS = "tensorboard"  # the folder of TensorBoard's files


class Unfinished(AbstractContextManager["Unfinished"]):
    """RUN.unfinished, with the state of the training and its epochs as a table, for the `with` block of a run.

    After an error or Ctrl-C the folder stays if there is an epoch to go on from; otherwise it is removed.

    out        the run folder
    resume     go on from the epochs that there are
    overwrite  lose them; with neither, the block raises SaveError where there are some
    """

    def __init__(self, out: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.folder = out.with_name(f"{out.name}.unfinished")
        self.resume, self.overwrite = resume, overwrite

    def __enter__(self) -> "Unfinished":
        if self.has_epochs() and not self.resume:
            self._refuse_or_remove()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None or not self.has_epochs():
            self._remove()

    @property
    def epochs(self) -> Path:
        """The table of the epochs."""
        return self.folder / EPOCHS_FILE

    def copy_to(self, folder: Path) -> None:
        """Copy what is kept beside the model, the table of the epochs and TensorBoard's files, where there are any."""
        if self.epochs.is_file():
            shutil.copyfile(self.epochs, folder / EPOCHS_FILE)
        if (self.folder / EVENTS).is_dir():
            shutil.copytree(self.folder / EVENTS, folder / EVENTS)

    def checkpoints(self) -> Checkpoints:
        """Where the state is kept."""
        return Checkpoints(self.folder, resume=self.resume)

    def has_epochs(self) -> bool:
        """Whether a training was interrupted that can go on."""
        return (self.folder / FILE).is_file()

    def _refuse_or_remove(self) -> None:
        if not self.overwrite:
            raise SaveError(
                f"{self.folder} has the finished epochs of a training that was interrupted; nothing was changed.",
                advice=[
                    Advice("resume", True, "go on with it"),
                    Advice("overwrite", True, "begin again and lose them"),
                ],
            )
        self._remove()

    def _remove(self) -> None:
        """Remove these files and what a killed process left of them, and the folder where it holds nothing else."""
        shutil.rmtree(self.folder / EVENTS, ignore_errors=True)
        for name in (FILE, EPOCHS_FILE):
            for path in (self.folder / name, *self.folder.glob(f".{name}.*")):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()
