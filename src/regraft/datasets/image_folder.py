"""A folder with one subfolder of images for each class."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from regraft.datasets.image_files import ImageFiles
from regraft.errors import DataError
from regraft.inputs import InputContract
from regraft.wording import counted, near_names


def open_image_folder(
    folder: Path, contract: InputContract, *, classes: Sequence[str] | None = None, skip_unreadable: bool = False
) -> ImageFiles:
    """The images of folder/CLASS/**, labelled by the class's place in the sorted names.

    classes  the training data's classes, in order; a folder for another class is an error

    Files that are no images by their suffix are left out, with a note. Hidden files are ignored.
    Raises DataError for no subfolders, one class only, an empty class, or a class that the model does not know.
    """
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise DataError(
            f"{folder} holds no class folders. Expected one subfolder of images for each class: {folder}/CLASS/*.jpg"
        )
    names = list(classes) if classes is not None else found
    strange = [name for name in found if name not in names]
    if strange:
        raise DataError("\n".join(f"{folder}/{name} is no class of the training data. {near_names(name, names)}"
                                  for name in strange))  # fmt: skip
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    paths, labels, left_out = [], [], []
    for label, name in enumerate(names):
        for path in sorted((folder / name).rglob("*")):
            if path.is_dir() or any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            if path.suffix.lower() in suffixes:
                paths.append(path)
                labels.append(label)
            else:
                left_out.append(str(path.relative_to(folder)))
    told = f"{counted(len(left_out), 'file')} left out, being no images: {', '.join(left_out[:20])}"
    notes = [told] if left_out else []
    return ImageFiles(
        paths,
        labels,
        names,
        contract,
        ids=[path.relative_to(folder).as_posix() for path in paths],
        notes=notes,
        every_class=classes is None,
        skip_unreadable=skip_unreadable,
        where=str(folder),
    )
