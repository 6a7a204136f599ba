"""The cut prints as a table."""

import torch

from regraft.cuts.cut import Cut, Leaf


def test_a_cut_prints_what_crosses():
    """Sizes that vary have a star; the note comes last."""
    leaves = (Leaf("layer", (12, 4), torch.float32, 192, (0,)), Leaf("input:mask", (), torch.bool, 1))
    text = str(Cut(leaves, 0.5, note="Beware."))
    assert "12* × 4" in text
    assert "scalar" in text
    assert "2 tensors cross: 193 bytes per example, 50.0% of the forward's work saved" in text
    assert text.endswith("Beware.")


def test_a_single_tensor_crosses_in_the_singular():
    assert "1 tensor crosses: 1 byte per example" in str(Cut((Leaf("input:mask", (), torch.bool, 1),), 0.5))
