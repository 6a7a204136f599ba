"""Random flips and shifts, found again by their seed."""

import pytest
import torch

from regraft.caching import cache_features
from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.augmented import Augmented
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.labelled import Target
from regraft.errors import CacheError, DataError
from regraft.inputs import InputContract
from trunks import HandTrunk

AB = Target("classification", ("a", "b"))


def ramp(count=6):
    """Images that grow from left to right and from top to bottom."""
    image = torch.arange(20.0).view(1, 4, 5)
    return ArrayExamples(torch.stack([image + 100 * index for index in range(count)]), torch.arange(count) % 2, AB)


def trunk():
    """Flattened pixels."""
    return HandTrunk(torch.nn.Flatten(), (20,))


def test_images_are_mirrored_and_shifted_within_bounds():
    """Every value is one of the image's own; a shift of a quarter moves four rows by one."""
    torch.manual_seed(0)
    data = Augmented(ramp(), shift=0.25)
    draws = torch.stack([data[0][0] for _ in range(60)])
    firsts = set(draws[:, 0, 0, 0].tolist())
    assert firsts <= {0.0, 1.0, 5.0, 6.0, 3.0, 4.0, 8.0, 9.0}
    assert len(firsts) == 8
    assert data[3][1] == 1


def test_nothing_is_drawn_when_nothing_is_asked_for():
    """The image as it is."""
    assert torch.equal(Augmented(ramp(), flip=False, shift=0)[2][0], ramp()[2][0])


def test_it_is_cached_as_views_only(image_folder):
    """Refused without views; with them the same in every run."""
    data = Augmented(open_class_folder(image_folder, Preparation(InputContract((4, 5), channels=1))))
    with pytest.raises(CacheError, match="draws at random"):
        cache_features(trunk(), data, image_folder / "store")
    first = cache_features(trunk(), data, image_folder / "store", views=3)
    again = cache_features(trunk(), data, image_folder / "store", views=3)
    assert (first.computed, again.computed) == (18, 0)
    assert not torch.equal(first.view(0).gather(torch.arange(6))[0]["hidden"],
                           first.view(1).gather(torch.arange(6))[0]["hidden"])  # fmt: skip


def test_other_draws_are_other_content(image_folder):
    """So they are not taken for each other."""
    data = open_class_folder(image_folder, Preparation(InputContract((4, 5))))
    assert Augmented(data).content_ids()[0] != Augmented(data, shift=0.2).content_ids()[0]
    assert Augmented(ramp()).content_ids() is None


def test_what_is_no_image_is_refused():
    """With its shape."""
    flat = ArrayExamples(torch.ones(4, 20), torch.arange(4) % 2, AB)
    with pytest.raises(DataError, match=r"shape \(20,\); only images"):
        Augmented(flat)[0]
    with pytest.raises(DataError, match=r"shift is 1\.5"):
        Augmented(flat, shift=1.5)
