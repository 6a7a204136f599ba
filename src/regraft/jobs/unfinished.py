"""The folder beside a run in which the finished epochs of its training are kept, until the run is whole."""

from contextlib import suppress
from pathlib import Path

from regraft.errors import Advice, SaveError
from regraft.learning.checkpoints import FILE, Checkpoints

EPOCHS_FILE = "epochs.csv"


class Unfinished:
    """RUN.unfinished, with the state of the training and its epochs as a table.

    out  the run folder
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f"{out.name}.unfinished")

    @property
    def epochs(self) -> Path:
        """The table of the epochs."""
        return self.folder / EPOCHS_FILE

    def checkpoints(self, *, resume: bool) -> Checkpoints:
        """Where the state is kept."""
        return Checkpoints(self.folder, resume=resume)

    def has_epochs(self) -> bool:
        """Whether a training was interrupted that can go on."""
        return (self.folder / FILE).is_file()

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Keep what there is to go on from, or remove it. Raises SaveError where nobody said which."""
        if resume or not self.has_epochs():
            return
        if not overwrite:
            raise SaveError(
                f"{self.folder} has the finished epochs of a training that was interrupted; nothing was changed.",
                advice=[
                    Advice("resume", True, "go on with it"),
                    Advice("overwrite", True, "begin again and lose them"),
                ],
            )
        self.remove()

    def remove(self) -> None:
        """Remove the two files, and the folder where it holds nothing else."""
        for name in (FILE, EPOCHS_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()
