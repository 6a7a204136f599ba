"""`regraft show`."""

import json

import numpy as np

from typed import typed


def test_show_prints_a_line_for_each_array(tmp_path):
    """And JSON for machines."""
    np.savez(tmp_path / "theirs.npz", **{"dnn/0/kernel": np.ones((2, 3), np.float32), "dnn/0/bias": np.zeros(3)})
    assert "dnn/0/kernel  2 × 3  float32" in typed("show", tmp_path / "theirs.npz").output
    listed = json.loads(typed("show", tmp_path / "theirs.npz", "--json").output)
    assert listed["arrays"]["dnn/0/bias"]["shape"] == [3]
