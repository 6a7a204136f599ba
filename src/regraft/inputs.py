"""The input contract: how an image becomes the array that the original model was trained on."""

from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from regraft.errors import Advice, DataError, JobError
from regraft.foundation.wording import refused

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Pixels = Annotated[int, Field(ge=1, le=65_535, strict=True)]  # no image is larger: JPEG's own limit
Channels = tuple[Annotated[float, Field(strict=True)], ...]


def _pair(size: object) -> object:
    """One number of pixels for both sides."""
    return (size, size) if isinstance(size, int) else size


def _each(value: object) -> object:
    """One number for all channels."""
    return (value,) if isinstance(value, int | float) else value


def _without_zero(values: Channels) -> Channels:
    if not all(values):
        raise ValueError("every channel is divided by it, so none can be 0")
    return values


class ContractError(JobError, ValueError):
    """An input contract that cannot be used: a ValueError too, so that pydantic collects it among a job's problems."""


@dataclass(frozen=True)
class InputContract:
    """What the original model expects of its input images.

    size           (height, width) in pixels, or one number for both; None keeps each image's own size
    mean, std      per channel, or one number for all, on values from 0 to 1: x → (x - mean) / std
    resize         "crop": shorter side to size / crop_fraction, then the centre · "squash": both sides, ratio lost ·
                   "pad": longer side to size, black borders
    crop_fraction  the part of the resized shorter side that the crop keeps (timm's crop_pct)
    channels       3 (red, green, blue) or 1 (grey)
    interpolation  as Pillow defines it (with antialiasing)
    flatten        give a vector (channels × height × width) instead of a (channels, height, width) array

    Equal to torchvision's and timm's evaluation transforms (tests/test_inputs.py). Beyond them, a photograph is
    first turned upright by its EXIF tag.

    Raises JobError with every value that cannot be used.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # pydantic decodes it from a job and from a saved model

    size: (
        Annotated[
            tuple[Pixels, Pixels],
            BeforeValidator(_pair),
            Field(description="a number of pixels of 1 or more, or [height, width]"),
        ]
        | None
    ) = None
    mean: Annotated[Channels, BeforeValidator(_each), Field(description="a number, or one for each channel")] = (0.0,)
    std: Annotated[
        Channels,
        BeforeValidator(_each),
        AfterValidator(_without_zero),
        Field(description="a number, or one for each channel"),
    ] = (1.0,)
    resize: Literal["crop", "squash", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    channels: Annotated[Literal[1, 3], Field(description="1 (grey) or 3 (red, green, blue)")] = 3
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    flatten: Annotated[bool, Field(strict=True)] = False

    def __post_init__(self) -> None:
        problems = [problem for field in fields(self) for problem in self._taken(field.name, field.type)]
        if not problems:
            counts = {name: len(getattr(self, name)) for name in ("mean", "std")}
            problems = [
                f"{name} has {count} values: expected 1 or {self.channels}, one for each channel"
                for name, count in counts.items()
                if count not in (1, self.channels)
            ]
        if problems:
            raise ContractError("\n  ".join(["The input contract cannot be used:", *problems]))

    def _taken(self, name: str, kind: Any) -> list[str]:
        """Take a value over in the form of its type; gives the problems, each in words."""
        given = getattr(self, name)
        try:
            object.__setattr__(self, name, TypeAdapter(kind).validate_python(given))
        except ValidationError as error:
            return list(dict.fromkeys(f"{name} is {refused(problem, kind, given)}" for problem in error.errors()))
        return []

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

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

    def from_file(self, path: Path, content: bytes | None = None) -> np.ndarray:
        """The model's input for the image in a file. Raises DataError that names the file when it is unreadable.

        content  of the file, where it is known
        """
        try:
            with Image.open(path if content is None else BytesIO(content)) as image:
                return self.from_pixels(image)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{path} cannot be read as an image: {error}.\nRepair or remove it.",
                advice=[Advice("skip_unreadable", True, "go on without such files")],
            ) from error


def is_image(path: Path) -> bool:
    """Whether Pillow reads files of this suffix."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN


def as_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image upright, 8 bits a channel, in grey or RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range; store it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255 instead of scaling it
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return image.convert("RGB" if channels == 3 else "L")


def fit(
    image: Image.Image, size: tuple[int, int], how: str, crop_fraction: float, resampling: Image.Resampling, *,
    border: int = 0,
) -> Image.Image:  # fmt: skip
    """The image at (height, width) = size, by cropping, squashing or padding with a border of this value."""
    height, width = size
    inner, (left, top) = geometry(image.size, size, how, crop_fraction)
    if inner != image.size:
        image = image.resize(inner, resampling)
    if how == "squash":
        return image
    if how == "pad":
        canvas = Image.new(image.mode, (width, height), border)
        canvas.paste(image, (left, top))
        return canvas
    return image.crop((left, top, left + width, top + height))


def unfit(mask: Image.Image, whole: tuple[int, int], contract: InputContract, *, border: int) -> Image.Image:
    """A mask over a prepared image, as a mask over the image itself.

    border  the value of what the preparation cut off
    mask   of the prepared image, in any resolution
    whole  (width, height) of the image
    """
    if contract.size is None:
        return mask if mask.size == whole else mask.resize(whole, Image.Resampling.NEAREST)
    height, width = contract.size
    inner, (left, top) = geometry(whole, contract.size, contract.resize, contract.crop_fraction)
    mask = mask if mask.size == (width, height) else mask.resize((width, height), Image.Resampling.NEAREST)
    if contract.resize == "pad":
        mask = mask.crop((left, top, left + inner[0], top + inner[1]))
    elif contract.resize == "crop":
        canvas = Image.new(mask.mode, inner, border)
        canvas.paste(mask, (left, top))
        mask = canvas
    return mask.resize(whole, Image.Resampling.NEAREST)


def geometry(
    whole: tuple[int, int], size: tuple[int, int], how: str, crop_fraction: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How an image of (width, height) = whole is brought to (height, width) = size.

    Returns (width, height) after resizing, and the place (left, top): of the crop in the resized image, or of the
    resized image in its borders.
    """
    height, width = size
    if how == "squash":
        return (width, height), (0, 0)
    if how == "pad":
        ratio = min(width / whole[0], height / whole[1])
        inner = (max(1, round(whole[0] * ratio)), max(1, round(whole[1] * ratio)))
        return inner, ((width - inner[0]) // 2, (height - inner[1]) // 2)
    # int() and round() where torchvision's Resize and CenterCrop have them: one pixel off changes every output.
    short = int(min(size) / crop_fraction)
    if height != width:
        ratio = max(width / whole[0], height / whole[1]) / crop_fraction
        inner = (max(width, round(whole[0] * ratio)), max(height, round(whole[1] * ratio)))
    elif whole[0] <= whole[1]:
        inner = (short, int(short * whole[1] / whole[0]))
    else:
        inner = (int(short * whole[0] / whole[1]), short)
    return inner, (round((inner[0] - width) / 2.0), round((inner[1] - height) / 2.0))
