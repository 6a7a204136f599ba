"""The input contract equals the evaluation transforms of torchvision and timm."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from timm.data import create_transform
from torchvision import transforms

from regraft.errors import DataError, JobError
from regraft.inputs import InputContract

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(100, 100), (131, 77), (64, 200), (500, 375), (33, 32)]


def noise(size, mode="RGB"):
    """A random image of (width, height)."""
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop", "interpolation"), [(1.0, "bilinear"), (0.875, "bicubic")])
def test_cropping_equals_torchvision(size, crop, interpolation):
    """Resize the shorter side, crop the centre, scale, normalise."""
    contract = InputContract((56, 56), MEAN, STD, "crop", crop, interpolation=interpolation)
    theirs = transforms.Compose(
        [
            transforms.Resize(int(56 / crop), transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    image = noise(size)
    assert torch.equal(torch.from_numpy(contract.from_pixels(image)), theirs(image))


@pytest.mark.parametrize("size", SIZES)
def test_cropping_equals_timm(size):
    """timm's evaluation transform with its usual crop."""
    contract = InputContract((56, 56), MEAN, STD, "crop", 0.875, interpolation="bicubic")
    theirs = create_transform((3, 56, 56), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=0.875)
    image = noise(size)
    # timm may normalise with another order of operations: one rounding of float32 values below 3
    torch.testing.assert_close(torch.from_numpy(contract.from_pixels(image)), theirs(image), rtol=0, atol=5e-7)


@pytest.mark.parametrize("size", SIZES)
def test_squashing_equals_torchvision(size):
    """Both sides at once, the ratio is lost."""
    contract = InputContract((48, 64), (0.5,), (0.5,), "squash")
    theirs = transforms.Compose(
        [transforms.Resize((48, 64)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    )
    image = noise(size)
    assert torch.equal(torch.from_numpy(contract.from_pixels(image)), theirs(image))


def test_padding_keeps_the_ratio_on_black():
    """A wide image gets borders above and below."""
    array = InputContract((40, 40), resize="pad").from_pixels(Image.new("RGB", (80, 40), "white"))
    assert array.shape == (3, 40, 40)
    assert array[:, :10].max() == 0
    assert array[:, 10:30].min() == 1
    assert array[:, 30:].max() == 0


def test_grey_and_flat_vectors():
    """MNIST's form."""
    assert InputContract((28, 28), channels=1, flatten=True).from_pixels(noise((28, 28), "L")).shape == (784,)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    """Pillow's own conversion would turn half grey into white."""
    image = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert abs(InputContract(channels=1).from_pixels(image).mean() - 0.5) < 0.01  # 8 bits: half a step is 0.002


def test_photographs_are_turned_upright(tmp_path):
    """By their EXIF tag, as every viewer shows them."""
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert InputContract().from_file(tmp_path / "photo.jpg").shape == (3, 20, 10)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 truncated"])
def test_an_unreadable_file_is_named(tmp_path, content):
    """With the way to go on."""
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad.jpg cannot be read as an image[\s\S]*Pass skip_unreadable=True to go on"):
        InputContract().from_file(path)


def test_a_truncated_jpeg_is_refused_not_greyed(tmp_path):
    """Half a picture is not the picture."""
    path = tmp_path / "half.jpg"
    noise((64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"half.jpg cannot be read as an image: image file is truncated"):
        InputContract().from_file(path)


def test_every_value_that_cannot_be_used_is_named_at_once():
    """With what is allowed, in the words of a job."""
    with pytest.raises(JobError) as caught:
        InputContract((0, 5), "bright", (0.0,), "cropp", 1.5, 2, "cubic", 1)  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "The input contract cannot be used:",
        "  size is [0, 5]: expected a number of pixels of 1 or more, or [height, width]",
        '  mean is "bright": expected a number, or one for each channel',
        "  std is [0.0]: every channel is divided by it, so none can be 0",
        '  resize is "cropp": expected "crop", "squash" or "pad". Did you mean "crop"?',
        "  crop_fraction is 1.5: expected a number above 0 and at most 1",
        "  channels is 2: expected 1 (grey) or 3 (red, green, blue)",
        '  interpolation is "cubic": expected "nearest", "bilinear", "bicubic" or "lanczos". Did you mean "bicubic"?',
        "  flatten is 1: expected true or false",
    ]


def test_means_and_deviations_are_one_or_one_for_each_channel():
    """Two are neither."""
    with pytest.raises(JobError, match="mean has 4 values: expected 1 or 3, one for each channel"):
        InputContract(mean=(0.1, 0.2, 0.3, 0.4))
    assert InputContract(224, 0.5, (0.2, 0.3, 0.4)) == InputContract((224, 224), (0.5,), (0.2, 0.3, 0.4))


@pytest.mark.parametrize("size", [True, 8.5, "8", (1, 2, 3), (8, True)])
def test_a_size_is_whole_pixels(size):
    """True is no number."""
    with pytest.raises(JobError, match="size is"):
        InputContract(size)


def test_plain_data_and_back():
    """As in regraft.json: lists for tuples."""
    contract = InputContract((8, 9), MEAN, STD, "pad", channels=3)
    written = json.loads(json.dumps(contract.to_dict()))
    assert TypeAdapter(InputContract).validate_python(written) == contract
    assert list(written) == ["size", "mean", "std", "resize", "crop_fraction", "channels", "interpolation", "flatten"]


def test_floating_point_pixels_are_refused(tmp_path):
    """0 to 1 or 0 to 255? Guessing made such pictures black."""
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif cannot be read as an image: its pixels are floating-point"):
        InputContract().from_file(tmp_path / "a.tif")
