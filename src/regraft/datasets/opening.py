"""Opens labelled data of any known form."""

from pathlib import Path

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import open_idx, open_npz
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.columns import is_table
from regraft.datasets.labelled import UNDECIDED, Labelled, Target
from regraft.datasets.masks import mask_folders, open_masks
from regraft.datasets.shards import is_shards, shards_of
from regraft.datasets.table import open_table
from regraft.datasets.texts import is_text, open_texts
from regraft.errors import DataError
from regraft.foundation.wording import listed


def has_data(path: Path) -> bool:
    """Whether there is anything at a path, or for a pattern of shards."""
    return path.exists() or bool(shards_of(path))


def open_data(
    path: Path, preparation: Preparation, *, target: Target = UNDECIDED, skip_unreadable: bool = False
) -> Labelled:
    """Labelled examples: a folder of class folders or of images and masks, a table, shards, .npz, idx files, or texts.

    preparation      how the inputs are made
    target           what is known of the labels; with the training data's classes for further data of the same task
    skip_unreadable  leave out damaged files, with a note, instead of refusing

    Raises DataError that names the path when it is missing, of no known form, or unusable.
    """
    if is_shards(path):
        return open_table(path, preparation, target=target, skip_unreadable=skip_unreadable)
    _refuse_missing(path)
    name = path.name.lower()
    if name.endswith(".npz"):
        return open_npz(path, preparation, target=target)
    if name.removesuffix(".gz").endswith("idx3-ubyte"):
        return open_idx(path, preparation, target=target)
    if is_table(path):
        return open_table(path, preparation, target=target, skip_unreadable=skip_unreadable)
    if is_text(path):
        return open_texts(path, preparation, target=target)
    if path.is_dir():
        open_folder = open_masks if _has_masks(path, target) else open_class_folder
        return open_folder(path, preparation, target=target, skip_unreadable=skip_unreadable)
    raise DataError(
        f"{path} is not a known form of data. Expected a folder of class folders or of images/ and masks/, .npz, "
        "…-images-idx3-ubyte[.gz], a table (.csv, .parquet, .arrow, .jsonl, a saved data set of Hugging "
        "Face), tar shards or .txt."
    )


def _has_masks(folder: Path, target: Target) -> bool:
    return target.task == "segmentation" or (target.task is None and mask_folders(folder) is not None)


def _refuse_missing(path: Path) -> None:
    if missing := [str(shard) for shard in shards_of(path) if not shard.is_file()]:
        raise DataError(f"{path} names shards that do not exist: {listed(missing)}.")
    if not path.exists():
        raise DataError(f"There is nothing at {path}.")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder.")
