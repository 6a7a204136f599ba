"""Opens labelled data of any known form."""

from collections.abc import Sequence
from pathlib import Path

from regraft.datasets.array_file import open_idx, open_npz
from regraft.datasets.image_folder import open_image_folder
from regraft.datasets.labelled import Labelled
from regraft.datasets.table import open_table
from regraft.errors import DataError
from regraft.inputs import InputContract


def open_data(
    path: Path, contract: InputContract, *, classes: Sequence[str] | None = None, skip_unreadable: bool = False
) -> Labelled:
    """Labelled examples: a folder of class folders, an .npz, MNIST idx files, or a .csv/.parquet table.

    contract         how images become arrays
    classes          the training data's classes, for further data of the same task
    skip_unreadable  leave out damaged images, with a note, instead of refusing

    Raises DataError that names the path when it is missing, of no known form, or unusable.
    """
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder.")
    if path.is_dir():
        return open_image_folder(path, contract, classes=classes, skip_unreadable=skip_unreadable)
    name = path.name.lower()
    if name.endswith(".npz"):
        return open_npz(path, contract, classes=classes)
    if name.removesuffix(".gz").endswith("idx3-ubyte"):
        return open_idx(path, contract, classes=classes)
    if name.endswith((".csv", ".parquet")):
        return open_table(path, contract, classes=classes, skip_unreadable=skip_unreadable)
    raise DataError(
        f"{path} is not a known form of data. Expected a folder of class folders, .npz, …-images-idx3-ubyte[.gz], "
        ".csv or .parquet."
    )
