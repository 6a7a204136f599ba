"""The files that ship with the package: a checkpoint, the network that takes its layers, photographs, licenses."""

import shutil
from importlib import resources
from pathlib import Path

CHECKPOINT, NETWORK, PHOTOS = "mobilenet_v1_0.25_224.ckpt", "mobilenet.py", "photos"
FACTORY = f"{NETWORK}:mobilenet_v1_025"
OF_NETWORK = (f"{CHECKPOINT}.index", f"{CHECKPOINT}.data-00000-of-00001", NETWORK, "LICENSE", "SOURCES.md")


def copy_network(folder: Path) -> None:
    """Copy the checkpoint, the code of its network, their license and the list of sources into a folder."""
    home = resources.files("regraft.demo")
    with resources.as_file(home.joinpath("files")) as files, resources.as_file(home.joinpath(NETWORK)) as network:
        shutil.copytree(files / "mobilenet_v1_025", folder, dirs_exist_ok=True)
        shutil.copy(files / "SOURCES.md", folder)
        shutil.copy(network, folder / NETWORK)


def copy_photos(folder: Path) -> None:
    """Copy the photographs into folder/photos/{train,test}/CLASS/."""
    with resources.as_file(resources.files("regraft.demo").joinpath("files")) as files:
        shutil.copytree(files / PHOTOS, folder / PHOTOS)


def foreign_photos(folder: Path) -> list[str]:
    """The files in folder/photos that do not ship with the package."""
    with resources.as_file(resources.files("regraft.demo").joinpath("files")) as files:
        return sorted(_names_in(folder) - _names_in(files))


def _names_in(folder: Path) -> set[str]:
    """The photographs at any depth, by their path in the folder."""
    files = (file for file in (folder / PHOTOS).rglob("*") if not file.is_dir())
    return {file.relative_to(folder).as_posix() for file in files}
