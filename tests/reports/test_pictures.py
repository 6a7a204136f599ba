"""Inputs of a model as small pictures."""

import base64
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from regraft.reports.pictures import SIDE, pictures_of


def opened(uri):
    """The image in a data URI."""
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_mean_and_a_standard_deviation_are_undone():
    """Each channel is stretched to the range of all images: the pixels are those of the file."""
    pixels = np.zeros((2, 3, 8, 8), np.uint8)
    pixels[1] = np.array([255, 255, 255], np.uint8)[:, None, None]
    pixels[0, 0, 2, 3], pixels[0, 2, 7, 1] = 100, 200
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    prepared = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    shown = [opened(uri) for uri in pictures_of(list(torch.tensor(prepared).float()))]
    assert [image.format for image in shown] == ["PNG", "PNG"]
    assert np.array_equal(np.asarray(shown[0]).transpose(2, 0, 1), pixels[0])


def test_grey_images_and_large_ones():
    """A large image is reduced in its own ratio."""
    grey = opened(pictures_of([torch.rand(1, 8, 8)])[0])
    assert (grey.mode, grey.size) == ("L", (8, 8))
    large = opened(pictures_of([torch.rand(3, 100, 400)])[0])
    assert (large.format, large.size) == ("JPEG", (SIDE, SIDE // 4))


def test_inputs_that_are_no_images_have_no_picture():
    """Vectors, maps of many channels, tokens; values that are no numbers do not spoil the others."""
    broken = torch.rand(3, 8, 8)
    broken[0, 0, 0] = torch.nan
    inputs = [torch.rand(5), torch.rand(7, 8, 8), (torch.rand(3, 8, 8),), "text", broken]
    assert [bool(uri) for uri in pictures_of(inputs)] == [False, False, False, False, True]
    assert pictures_of([]) == []
    assert opened(pictures_of([torch.ones(3, 4, 4)])[0]).size == (4, 4)
