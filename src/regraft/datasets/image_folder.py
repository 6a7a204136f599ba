"""A folder with one subfolder of images for each class."""

from collections.abc import Sequence
from pathlib import Path

from regraft.datasets.image_files import ImageFiles
from regraft.datasets.labelled import class_names, refuse_unknown_classes
from regraft.errors import DataError
from regraft.foundation.wording import counted, listed, toml_text
from regraft.inputs import InputContract, is_image

PARTS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}


def open_image_folder(
    folder: Path, contract: InputContract, *, classes: Sequence[str] | None = None, skip_unreadable: bool = False
) -> ImageFiles:
    """The images of folder/CLASS/**, labelled by the class's place in the sorted names.

    classes  the training data's classes, in order; a folder for another class is an error

    Files that are no images by their suffix are left out, with a note. Hidden files are ignored.
    Raises DataError for no subfolders, one class only, an empty class, or a class that the model does not know.
    """
    folders = _class_folders(folder)
    if classes is None:
        _refuse_parts(folder, folders)
    names = folders if classes is None else list(classes)
    refuse_unknown_classes(folders, names, prefix=f"{folder}/")
    images, others = _files_of(folder, names)
    left_out = f"{counted(len(others), 'file')} left out, not images by their suffix: {listed(others)}"
    return ImageFiles(
        [folder / path for path, _ in images],
        [label for _, label in images],
        names,
        contract,
        ids=[path.as_posix() for path, _ in images],
        notes=[left_out] if others else [],
        every_class=classes is None,
        skip_unreadable=skip_unreadable,
        where=str(folder),
    )


def _refuse_parts(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError for a folder of train/ and test/: these are parts of the data, not classes."""
    parts = [name for name in names if name.lower() in PARTS]
    if len(parts) > 1:
        train = next((name for name in parts if name.lower().startswith("train")), parts[0])
        raise DataError(
            f"{folder} holds {' and '.join(parts)}: parts of the data, not classes.\n"
            f"Name each part by itself: [data] train = {toml_text(str(folder / train))}, and the others likewise."
        )


def _class_folders(folder: Path) -> list[str]:
    folders = class_names(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(
            f"{folder} holds no class folders. Expected one subfolder of images for each class: {folder}/CLASS/*.jpg"
        )
    return folders


def _files_of(folder: Path, names: Sequence[str]) -> tuple[list[tuple[Path, int]], list[str]]:
    """Each image's path in the folder with its label, and the files that are no images by their suffix."""
    images: list[tuple[Path, int]] = []
    others: list[str] = []
    for label, name in enumerate(names):
        for entry in sorted((folder / name).rglob("*")):
            path = entry.relative_to(folder)
            if entry.is_dir() or any(part.startswith(".") for part in path.parts):
                continue
            if is_image(path) and entry.is_file():  # a named pipe would be waited for
                images.append((path, label))
            else:
                others.append(str(path))
    return images, others
