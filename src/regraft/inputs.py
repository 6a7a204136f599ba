"""The input contract: how an image becomes the array that the original model was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from regraft.errors import DataError, JobError
from regraft.wording import as_toml, near_names

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UNUSABLE = "The input contract cannot be used:"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _pair(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return height, width


def _are_numbers(value: object) -> bool:
    numbers = _list(value)
    return bool(numbers) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in numbers)


def _is_size(value: object) -> bool:
    sizes = _list(value)
    return value is None or (
        all(type(one) is int for one in sizes) and len(sizes) == (2 if isinstance(value, (list, tuple)) else 1)
    )


# key -> whether a value is of its type, and which that is
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (_is_size, "a number of pixels, or [height, width]"),
    "mean": (_are_numbers, "a number, or one for each channel"),
    "std": (_are_numbers, "a number, or one for each channel"),
    "resize": (lambda value: isinstance(value, str), '"crop", "squash" or "pad"'),
    "crop_fraction": (lambda value: _are_numbers(value) and not isinstance(value, (list, tuple)), "a number"),
    "channels": (lambda value: type(value) is int, "1 (grey) or 3 (red, green, blue)"),
    "interpolation": (lambda value: isinstance(value, str), "one of " + ", ".join(RESAMPLING)),
    "flatten": (lambda value: isinstance(value, bool), "true or false"),
}


@dataclass(frozen=True)
class InputContract:
    """What the original model expects of its input images.

    size           (height, width) in pixels; None keeps each image's own size
    mean, std      per channel, on values from 0 to 1: x → (x - mean) / std
    resize         "crop": shorter side to size / crop_fraction, then the centre · "squash": both sides, ratio lost ·
                   "pad": longer side to size, black borders
    crop_fraction  the part of the resized shorter side that the crop keeps (timm's crop_pct)
    channels       3 (red, green, blue) or 1 (grey)
    interpolation  "bilinear", "bicubic", "nearest" or "lanczos", as Pillow defines them (with antialiasing)
    flatten        give a vector (channels × height × width) instead of a (channels, height, width) array

    Equal to torchvision's and timm's evaluation transforms (tests/test_inputs.py). Beyond them, a photograph is
    first turned upright by its EXIF tag.

    Raises JobError when the values contradict each other.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Literal["crop", "squash", "pad"] = "squash"
    crop_fraction: float = 1.0
    channels: int = 3
    interpolation: str = "bilinear"
    flatten: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.resize not in ("crop", "squash", "pad"):
            problems.append(f"resize is {self.resize!r}. {near_names(str(self.resize), ['crop', 'squash', 'pad'])}")
        if self.interpolation not in RESAMPLING:
            problems.append(f"interpolation is {self.interpolation!r}. {near_names(self.interpolation, RESAMPLING)}")
        if self.channels not in (1, 3):
            problems.append(f"channels is {self.channels}, expected 1 (grey) or 3 (red, green, blue)")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                problems.append(f"{name} has {len(getattr(self, name))} values, expected 1 or {self.channels}")
        if not all(self.std):
            problems.append("std holds a zero, and every channel is divided by it")
        if self.size is not None and min(self.size) < 1:
            problems.append(f"size is {self.size}, expected at least 1 × 1 pixel")
        if not 0 < self.crop_fraction <= 1:
            problems.append(f"crop_fraction is {self.crop_fraction}, expected more than 0 and at most 1")
        if problems:
            raise JobError("\n  ".join([_UNUSABLE, *problems]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "InputContract":
        """The contract from a job file's [input] section or from `to_dict`; a single number becomes what it means.

        Raises JobError with all problems: unknown keys, values of another type, and contradictions among the others.
        """
        if not isinstance(data, Mapping):
            raise JobError(f"{_UNUSABLE}\n  is {as_toml(data)}: expected a section with keys")
        known = dict.fromkeys(cls.__dataclass_fields__)
        problems = [f"has no key {key!r}. {near_names(key, known)}" for key in data if key not in known]
        wrong = [key for key in known if key in data and not _EXPECTED[key][0](data[key])]
        problems += [f"{key} is {as_toml(data[key])}: expected {_EXPECTED[key][1]}" for key in wrong]
        values = {key: value for key, value in data.items() if key in known and key not in wrong}
        if values.get("size") is not None:
            values["size"] = _pair(values["size"])
        values |= {name: tuple(map(float, _list(values[name]))) for name in ("mean", "std") if name in values}
        try:
            contract = cls(**values)
        except JobError as error:
            problems += [line.strip() for line in str(error).splitlines()[1:]]
        if problems:
            raise JobError("\n  ".join([_UNUSABLE, *problems]))
        return contract

    def from_pixels(self, image: Image.Image) -> np.ndarray:
        """The model's input for one image: (channels, height, width) float32, or a vector when `flatten`."""
        image = as_mode(image, self.channels)
        if self.size is not None:
            image = fit(image, self.size, self.resize, self.crop_fraction, RESAMPLING[self.interpolation])
        pixels = np.asarray(image, dtype=np.float32) / np.float32(255)  # (h, w) or (h, w, c)
        pixels = pixels.reshape(*pixels.shape[:2], self.channels).transpose(2, 0, 1)
        mean = np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        array = np.ascontiguousarray((pixels - mean) / std)
        return array.reshape(-1) if self.flatten else array

    def from_file(self, path: Path) -> np.ndarray:
        """The model's input for the image in a file. Raises DataError that names the file when it is unreadable."""
        try:
            with Image.open(path) as image:
                return self.from_pixels(image)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{path} cannot be read as an image: {error}.\n"
                "Mend or remove it, or go on without such files: --skip-unreadable, in a job "
                "data.skip_unreadable = true."
            ) from error


def as_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image upright, 8 bits a channel, in grey or RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range; store it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255 instead of scaling it
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return image.convert("RGB" if channels == 3 else "L")


def fit(
    image: Image.Image, size: tuple[int, int], how: str, crop_fraction: float, resampling: Image.Resampling
) -> Image.Image:
    """The image at (height, width) = size, by cropping, squashing or padding."""
    height, width = size
    if how == "squash":
        return image if image.size == (width, height) else image.resize((width, height), resampling)
    if how == "pad":
        ratio = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        image = image.resize(inner, resampling)
        canvas = Image.new(image.mode, (width, height))
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas
    # int() and round() where torchvision's Resize and CenterCrop have them: one pixel off changes every output.
    short = int(min(size) / crop_fraction)
    if height == width:
        if image.width <= image.height:
            inner = (short, int(short * image.height / image.width))
        else:
            inner = (int(short * image.width / image.height), short)
    else:
        ratio = max(width / image.width, height / image.height) / crop_fraction
        inner = (max(width, round(image.width * ratio)), max(height, round(image.height * ratio)))
    if inner != image.size:
        image = image.resize(inner, resampling)
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
