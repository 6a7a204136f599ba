"""A folder with one subfolder for each class, of images or of sounds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from regraft.contracts.preparation import Preparation
from regraft.contracts.sound import is_sound
from regraft.datasets.input_columns import InputColumn, image_column, sound_column
from regraft.datasets.labelled import UNDECIDED, Target, refuse_unknown_classes
from regraft.datasets.rows import TableRows
from regraft.errors import DataError
from regraft.foundation.wording import counted, listed, toml_text
from regraft.inputs import InputContract, is_image
from regraft.labels import class_names

PARTS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}


def open_class_folder(
    folder: Path, preparation: Preparation, *, target: Target = UNDECIDED, skip_unreadable: bool = False
) -> TableRows:
    """The files of folder/CLASS/**, labelled by the class's place in the sorted names.

    They are sounds where the preparation has a contract for them, else images.

    target  with the training data's classes, in order; a folder for another class is an error

    Files that are none of these by their suffix are left out, with a note. Hidden files are ignored.
    Raises DataError for no subfolders, one class only, an empty class, or a class that the model does not know.
    """
    noun = "sound" if preparation.sound is not None else "image"
    folders = _class_folders(folder, noun)
    if target.task not in (None, "classification"):
        raise DataError(f"{folder} has a folder for each class; for {target.task} give a table with the labels.")
    if target.classes is None:
        _refuse_parts(folder, folders)
    names = folders if target.classes is None else list(target.classes)
    refuse_unknown_classes(folders, names, prefix=f"{folder}/")
    files, others = _files_of(folder, names, is_sound if noun == "sound" else is_image)
    left_out = f"{counted(len(others), 'file')} left out, not {noun}s by their suffix: {listed(others)}"
    return TableRows(
        {noun: _column([folder / path for path, _ in files], preparation)},
        torch.tensor([label for _, label in files], dtype=torch.int64),
        Target("classification", tuple(names)),
        preparation,
        ids=[path.as_posix() for path, _ in files],
        notes=[left_out] if others else [],
        every_class=target.classes is None,
        skip_unreadable=skip_unreadable,
        where=str(folder),
    )


def _class_folders(folder: Path, noun: str) -> list[str]:
    folders = class_names(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(
            f"{folder} holds no class folders. Expected one subfolder of {noun}s for each class: {folder}/CLASS/"
            + ("*.wav" if noun == "sound" else "*.jpg")
        )
    return folders


def _column(paths: Sequence[Path], preparation: Preparation) -> InputColumn:
    if preparation.sound is not None:
        return sound_column(paths, preparation.sound)
    return image_column(paths, preparation.image or InputContract())


def _refuse_parts(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError for a folder of train/ and test/: these are parts of the data, not classes."""
    parts = [name for name in names if name.lower() in PARTS]
    if len(parts) > 1:
        train = next((name for name in parts if name.lower().startswith("train")), parts[0])
        raise DataError(
            f"{folder} holds {' and '.join(parts)}: parts of the data, not classes.\n"
            f"Name each part by itself: [data] train = {toml_text(str(folder / train))}, and the others likewise."
        )


def _files_of(
    folder: Path, names: Sequence[str], is_wanted: Callable[[Path], bool]
) -> tuple[list[tuple[Path, int]], list[str]]:
    """Each wanted file's path in the folder with its label, and the files that are not wanted."""
    files: list[tuple[Path, int]] = []
    others: list[str] = []
    for label, name in enumerate(names):
        for entry in sorted((folder / name).rglob("*")):
            path = entry.relative_to(folder)
            if entry.is_dir() or any(part.startswith(".") for part in path.parts):
                continue
            if is_wanted(path) and entry.is_file():  # a named pipe would be waited for
                files.append((path, label))
            else:
                others.append(str(path))
    return files, others
