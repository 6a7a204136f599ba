"""Masks beside images: for each pixel the number of its class, in a picture file of the image's size."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from regraft.contracts.preparation import Preparation
from regraft.contracts.text import IGNORED
from regraft.datasets.input_columns import image_column
from regraft.datasets.labelled import Target
from regraft.datasets.rows import TableRows
from regraft.errors import DataError
from regraft.foundation.wording import counted, listed
from regraft.inputs import InputContract, fit, is_image

IMAGE_FOLDERS, MASK_FOLDERS = ("images", "image", "img"), ("masks", "mask", "annotations", "labels")
MASK_COLUMNS = ("mask", "mask_path", "annotation", "label", "segmentation")
WITHOUT_CLASS = 255  # a pixel of this value has no class, as in Pascal VOC and Cityscapes; as a label it is -100


@final
class MaskColumn(Sequence[Tensor]):
    """The label of each image: (height, width) int64, resized with its image, -100 where a pixel has no class.

    images, masks  files, one of each for an example
    target         with `mask_values` where pixels do not hold the numbers of the classes

    Reads all masks once. Raises DataError that names the file for a mask in colours, of another size than its image, or
    with a value that is no class.
    """

    def __init__(self, images: Sequence[Path], masks: Sequence[Path], contract: InputContract, target: Target) -> None:
        self.images, self.masks, self.contract = list(images), list(masks), contract
        with ThreadPoolExecutor() as pool:
            seen = list(pool.map(self._values_of, range(len(self.masks))))
        self.values = target.mask_values or self._class_values(frozenset().union(*seen), target)
        self._refuse_others(seen)
        names = target.classes or tuple(map(str, self.values))
        if len(names) != len(self.values) and not (target.classes and not target.mask_values):
            raise DataError(f"There are names of {len(names)} classes, and mask_values has {len(self.values)} values.")
        self.target = replace(target, task="segmentation", classes=names, mask_values=tuple(self.values))

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]  # no slices
        pixels = self._pixels(index)
        numbers = np.full(int(max(pixels.max(), *self.values, WITHOUT_CLASS)) + 1, IGNORED, np.int32)
        numbers[list(self.values)] = np.arange(len(self.values), dtype=np.int32)
        mask = Image.fromarray(numbers[pixels])
        if self.contract.size is not None:
            how = (self.contract.resize, self.contract.crop_fraction, Image.Resampling.NEAREST)
            mask = fit(mask, self.contract.size, *how, border=IGNORED)
        return torch.from_numpy(np.asarray(mask).astype(np.int64))

    def _pixels(self, index: int) -> np.ndarray:
        """(height, width), the values of the mask's pixels."""
        path = self.masks[index]
        try:
            with Image.open(path) as mask, Image.open(self.images[index]) as image:
                sizes = mask.size, ImageOps.exif_transpose(image).size
                if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
                    raise DataError(
                        f"{path} has colours (mode {mask.mode}); a mask holds the number of a class for each pixel. "
                        "Store it as a grey or palette picture."
                    )
                pixels = np.asarray(mask)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as a mask: {error}.\nRepair or remove it.") from error
        if sizes[0] != sizes[1]:
            raise DataError(
                f"{path} has {sizes[0][0]} × {sizes[0][1]} pixels, and its image {self.images[index]} has "
                f"{sizes[1][0]} × {sizes[1][1]}; both need the same size."
            )
        return pixels.astype(np.int64)

    def _values_of(self, index: int) -> frozenset[int]:
        return frozenset(np.unique(self._pixels(index)).tolist())

    def _class_values(self, seen: frozenset[int], target: Target) -> tuple[int, ...]:
        """The pixel value of each class, where the masks hold the numbers of the classes."""
        if seen == {0, WITHOUT_CLASS}:
            raise DataError(
                "The masks hold the values 0 and 255 alone, and 255 stands for a pixel without a class.\nIf 255 is the "
                "second class, set [data] mask_values = [0, 255]; else store other classes than 0."
            )
        count = len(target.classes) if target.classes else max(seen - {WITHOUT_CLASS}, default=0) + 1
        if count > WITHOUT_CLASS:
            raise DataError(
                f"The masks have the values {listed(list(map(str, sorted(seen))))}: list the classes' ones."
            )
        return tuple(range(count))

    def _refuse_others(self, seen: Sequence[frozenset[int]]) -> None:
        """Raise DataError that names the masks with values that are no class."""
        allowed = {*self.values, WITHOUT_CLASS}
        wrong = [(path, sorted(values - allowed)) for path, values in zip(self.masks, seen, strict=True)
                 if values - allowed]  # fmt: skip
        if wrong:
            lines = "\n".join(f"  {path}: {listed(list(map(str, values)))}" for path, values in wrong[:20])
            raise DataError(
                f"{counted(len(wrong), 'mask', 'has/have')} values that are no class; the classes' ones are "
                f"{listed(list(map(str, self.values)))}, and {WITHOUT_CLASS} is a pixel without a class:\n{lines}"
            )


def mask_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of the images and of the masks in a data set for segmentation; None for any other folder."""
    images = [folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    masks = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    return (images[0], masks[0]) if images and masks else None


def open_masks(folder: Path, preparation: Preparation, *, target: Target, skip_unreadable: bool = False) -> TableRows:
    """folder/images/NAME.* with folder/masks/NAME.png for each.

    Raises DataError for folders of other names, and for images without a mask.
    """
    folders, contract = mask_folders(folder), preparation.image
    if folders is None or contract is None:
        raise DataError(f"{folder} holds no images with masks. Expected images/NAME.jpg and masks/NAME.png.")
    images, by_stem = _images_below(folders[0]), _masks_by_stem(folders[1])
    paths = _masks_of(images, folders[0], by_stem)
    others = [str(path) for path in set(by_stem.values()) - set(paths)]
    left_out = f"{counted(len(others), 'mask')} left out, without an image: {listed(sorted(others))}"
    masks = MaskColumn(images, paths, contract, target)
    return TableRows(
        {"image": image_column(images, contract)},
        masks,
        masks.target,
        preparation,
        ids=[path.relative_to(folder).as_posix() for path in images],
        notes=[left_out] if others else [],
        skip_unreadable=skip_unreadable,
        where=str(folder),
    )


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """Name in the folder without its suffix → mask. Raises DataError for two of one name."""
    masks = _images_below(folder)
    by_stem = {_stem(path, folder): path for path in masks}
    twice = [str(path) for path in masks if by_stem[_stem(path, folder)] != path]
    if twice:
        raise DataError(f"Two masks differ only in their suffix. Remove one of each name: {listed(twice)}.")
    return by_stem


def _masks_of(images: Sequence[Path], folder: Path, by_stem: Mapping[str, Path]) -> list[Path]:
    without = [str(path) for path in images if _stem(path, folder) not in by_stem]
    if without:
        raise DataError(f"{counted(len(without), 'image', 'has/have')} no mask of its name: {listed(without)}.")
    return [by_stem[_stem(path, folder)] for path in images]


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
