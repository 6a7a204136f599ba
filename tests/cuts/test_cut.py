"""The cut as the user sees it."""

import pytest
import torch
from torch import nn

import regraft
from regraft.cuts.cut import Cut, Leaf, describe_cut
from splits import Branch, example, frozen, parts


def test_a_cut_prints_what_crosses():
    """Sizes that vary have a star; the note comes last."""
    leaves = (Leaf("layer", (12, 4), torch.float32, 192, (0,)), Leaf("input:mask", (), torch.bool, 1))
    text = str(Cut(leaves, 0.5, note="Beware."))
    assert "12* × 4" in text
    assert "scalar" in text
    assert "2 tensors cross: 193 bytes per example, 50.0 % of the forward's work saved" in text
    assert text.endswith("Beware.")


def test_rows_that_are_rounded_by_their_index_are_mentioned():
    """In one sentence, after the note; not where the bits are the same at every index."""
    leaf = Leaf("layer", (4,), torch.float32, 16)
    assert Cut((leaf,), 0.5).rounding_note == ""
    text = str(Cut((leaf,), 0.5, note="Beware.", row_rounding=1.2e-7))
    assert text.endswith(
        "Beware.\nThis processor rounds a row by its index in the batch: values change by up to 1e-07 of their size. "
        "Rows of other batches are equal within 1e-06, not bit for bit."
    )


def test_a_single_tensor_crosses_in_the_singular():
    assert "1 tensor crosses: 1 byte per example" in str(Cut((Leaf("input:mask", (), torch.bool, 1),), 0.5))


def test_the_description_counts_bytes_of_one_example():
    """And the work that is saved."""
    record, sizes, _, choice = parts(frozen(Branch()), example())
    cut = describe_cut(record, sizes, choice, by_row=True)
    assert [(leaf.shape, leaf.bytes_per_example) for leaf in cut.leaves] == [((8,), 32)]
    assert cut.work_saved == pytest.approx((6 * 8 + 8 * 8) / (6 * 8 + 8 * 8 + 8 * 3))


class Shaken(nn.Module):
    """Adds noise to its input in training; owns no parameters."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


def network():
    return nn.Sequential(Shaken(), nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))


def test_a_random_layer_before_a_frozen_one_is_named_with_the_way_out():
    """Otherwise one only sees that nothing is saved."""
    model = network()
    regraft.freeze(model, "1")
    trunk, _ = regraft.split(model, torch.randn(4, 8))

    assert trunk.cut.note == (
        "72.7% of the forward's work stays in the head although its layers are frozen: layers before them draw random "
        "numbers or change state, and are not frozen.\nTo compute it once, freeze these too: freeze(model, ['0'])."
    )
    assert "0 % of the forward's work saved" in str(trunk.cut)


def test_the_way_out_leads_out():
    """Frozen, the layer is still, and the frozen work is computed once."""
    model = network()
    regraft.freeze(model, ["0", "1"])
    trunk, _ = regraft.split(model, torch.randn(4, 8))

    assert (trunk.cut.note, round(trunk.cut.work_saved, 3)) == ("", 0.727)


def test_dropout_behind_the_frozen_layers_hinders_nothing():
    """It belongs to the head; so does a random layer behind a trainable one, whatever is frozen after it."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 64), nn.Linear(64, 3))
    regraft.freeze(model, "2")
    trunk, _ = regraft.split(model, torch.randn(4, 8))

    assert (
        trunk.cut.note == "Nothing costly is frozen below the first trainable layer: the cut is the inputs themselves."
    )
