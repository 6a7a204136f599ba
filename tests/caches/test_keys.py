"""How a trunk is run, and what its features' key depends on."""

import torch
from torch import nn

from regraft.caches.keys import Engine, device_of, key_of, manifest_of, modes, runner
from trunks import HandTrunk, tiny_data, tiny_trunk


def key(trunk, **options):
    """The key of a trunk's features."""
    given = {"batch_size": 8, "precision": "float32", "engine": Engine(), **options}
    return key_of(manifest_of(trunk, **given))


def test_the_key_depends_on_everything_that_changes_a_bit():
    """Weights, batch size, precision, compute; not on threads or canaries."""
    keys = {key(tiny_trunk()), key(tiny_trunk(1)), key(tiny_trunk(), batch_size=9),
            key(tiny_trunk(), precision="int8"), key(tiny_trunk(), engine=Engine(compute="bfloat16"))}  # fmt: skip
    assert len(keys) == 5
    assert key(tiny_trunk()) == key(tiny_trunk(), engine=Engine(workers=3, canaries=9))


def test_modes_of_torch_are_told():
    """Here the precision of products."""
    before = torch.get_float32_matmul_precision()
    plain = modes(torch.device("cpu"))
    try:
        torch.set_float32_matmul_precision("medium")
        assert modes(torch.device("cpu")) != plain
    finally:
        torch.set_float32_matmul_precision(before)


def test_another_compute_gives_the_cuts_own_dtype():
    """Computed in bfloat16, handed out in float32."""
    trunk, (inputs, _) = tiny_trunk(), tiny_data()
    exact, fast = (runner(trunk, compute)(inputs)["hidden"] for compute in ("float32", "bfloat16"))
    assert fast.dtype == exact.dtype == torch.float32
    assert not torch.equal(fast, exact)


def test_a_size_that_varies_is_not_part_of_the_key():
    """Another example's length means the same trunk."""
    short, long = (HandTrunk(nn.Identity(), (length, 4), varying=(0,)) for length in (5, 7))
    assert key(short) == key(long)
    assert key(short) != key(HandTrunk(nn.Identity(), (5, 4)))
    assert device_of(tiny_trunk()) == torch.device("cpu")
