"""Which Flax layer an array belongs to."""

import pytest

from golden_files import GOLDEN
from regraft.arrays import ArrayInfo
from regraft.formats.flax import Flax
from regraft.formats.flax_layers import with_flax_layers


def judged(**shapes):
    return with_flax_layers({name: ArrayInfo(shape, "float32") for name, shape in shapes.items()})


def test_the_golden_network_s_layers_are_known():
    """Automatic names, siblings, and composites by their parts; statistics belong to their parameters' layer."""
    checkpoint = Flax().open(GOLDEN / "flax_state.msgpack")

    types = {info.layer: info.layer_type for info in checkpoint.values() if info.role == "weight"}

    assert types == {
        "BatchNorm_0": "BatchNorm", "Conv_0": "Conv", "Dense_0": "Dense", "LayerNorm_0": "LayerNorm", "stem": "Conv",
        "OptimizedLSTMCell_0": "LSTMCell", "attention": "MultiHeadDotProductAttention",
    }  # fmt: skip
    assert checkpoint["batch_stats/BatchNorm_0/mean"].layer == "BatchNorm_0"
    assert checkpoint["params/attention/query/kernel"].leaf == "query/kernel"


@pytest.mark.parametrize(("shapes", "kind"), [
    ({"a/kernel": (3, 4)}, "Dense"), ({"a/kernel": (3, 3, 2, 4)}, "Conv"), ({"a/kernel": (3, 2, 4)}, ""),
    ({"a/scale": (3,), "a/bias": (3,)}, ""), ({"a/scale": (3,), "a/mean": (3,), "a/var": (3,)}, "BatchNorm"),
    ({"a/embedding": (9, 3)}, "Embed"), ({"GroupNorm_2/scale": (3,)}, "GroupNorm"),
])  # fmt: skip
def test_a_type_is_told_only_without_doubt(shapes, kind):
    """A scale and a bias may be of three norms."""
    assert {info.layer_type for info in judged(**shapes).values()} == {kind}


def test_nnx_s_boxes_are_no_layers():
    """flax.nnx keeps each array under `value`."""
    info = judged(**{"model/conv/kernel/value": (3, 3, 2, 4)})["model/conv/kernel/value"]

    assert (info.layer, info.leaf, info.layer_type) == ("conv", "kernel", "Conv")
