"""What the key of features depends on."""

import json

import pytest
import torch
from torch import nn

from regraft.caches.keys import key_of, manifest_of, modes
from regraft.caches.options import Engine, Options
from regraft.caching import cache_features
from regraft.freezing import freeze
from regraft.splitting import split
from regraft.stores.memory import MemoryStore
from trunks import HandTrunk, tiny_data, tiny_trunk


def key(trunk, **options):
    """The key of a trunk's features."""
    return key_of(manifest_of(trunk, Options(**{"batch_size": 8, **options})))


def test_the_key_depends_on_everything_that_changes_a_bit():
    """Weights, batch size, precision, compute; not on threads or canaries."""
    keys = {key(tiny_trunk()), key(tiny_trunk(1)), key(tiny_trunk(), batch_size=9),
            key(tiny_trunk(), precision="int8"), key(tiny_trunk(), engine=Engine(compute="bfloat16"))}  # fmt: skip
    assert len(keys) == 5
    assert key(tiny_trunk()) == key(tiny_trunk(), engine=Engine(workers=3, canaries=9))


BACKENDS = torch.backends
PRESENT = {  # torch's switches for the arithmetic of float32, the general ones first
    "all": BACKENDS, "cudnn": BACKENDS.cudnn, "cuda.matmul": BACKENDS.cuda.matmul, "cudnn.conv": BACKENDS.cudnn.conv,
    "cudnn.rnn": BACKENDS.cudnn.rnn, "mkldnn.matmul": BACKENDS.mkldnn.matmul, "mkldnn.conv": BACKENDS.mkldnn.conv,
    "mkldnn.rnn": BACKENDS.mkldnn.rnn,
}  # fmt: skip


def present(name, value):
    """What sets one of the present switches."""
    return lambda: setattr(PRESENT[name], "fp32_precision", value)


def both():
    """An older switch and then a present one, which the older ones cannot express."""
    torch.set_float32_matmul_precision("high")
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"


SWITCHES = {  # how a user sets a switch → the devices whose results change
    "all = tf32": (present("all", "tf32"), {"cpu", "cuda"}),
    "all = bf16": (present("all", "bf16"), {"cpu"}),  # CUDA has no such arithmetic
    "cuda.matmul = tf32": (present("cuda.matmul", "tf32"), {"cuda"}),
    "cudnn = tf32": (present("cudnn", "tf32"), {"cuda"}),
    "cudnn.conv = tf32": (present("cudnn.conv", "tf32"), {"cuda"}),
    "cudnn.rnn = tf32": (present("cudnn.rnn", "tf32"), {"cuda"}),
    "mkldnn.matmul = bf16": (present("mkldnn.matmul", "bf16"), {"cpu"}),
    "mkldnn.conv = bf16": (present("mkldnn.conv", "bf16"), {"cpu"}),
    "mkldnn.rnn = bf16": (present("mkldnn.rnn", "bf16"), {"cpu"}),
    "set_float32_matmul_precision": (lambda: torch.set_float32_matmul_precision("medium"), {"cpu", "cuda"}),
    "cuda.matmul.allow_tf32": (lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True), {"cuda"}),
    "cudnn.allow_tf32": (lambda: setattr(BACKENDS.cudnn, "allow_tf32", True), {"cuda"}),
    "both": (both, {"cpu", "cuda"}),
}


@pytest.fixture
def nothing_lowered():
    """Every switch says that nothing is lowered; afterwards all are as they were, the older ones first."""
    before = {name: switch.fp32_precision for name, switch in PRESENT.items()}
    older = torch.get_float32_matmul_precision(), BACKENDS.cudnn.allow_tf32
    for name in PRESENT:
        present(name, "none")()
    yield
    torch.set_float32_matmul_precision(older[0])
    BACKENDS.cudnn.allow_tf32 = older[1]
    for name, value in before.items():
        present(name, value)()


@pytest.mark.usefixtures("nothing_lowered")
@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_of_float32_arithmetic_changes_the_key_where_it_matters(name):
    """The present switches and the older ones, alone and mixed. The features can be cached under each."""
    change, devices = SWITCHES[name]
    before = {device: modes(torch.device(device)) for device in ("cpu", "cuda")}
    change()
    assert {device for device in before if modes(torch.device(device)) != before[device]} == devices
    assert cache_features(tiny_trunk(), tiny_data(), MemoryStore(), batch_size=8).computed == 40


def test_a_size_that_varies_is_not_part_of_the_key():
    """Another example's length means the same trunk."""
    short, long = (HandTrunk(nn.Identity(), (length, 4), varying=(0,)) for length in (5, 7))
    assert key(short) == key(long)
    assert key(short) != key(HandTrunk(nn.Identity(), (5, 4)))


def test_each_fact_is_in_the_manifest_once():
    """The trunk states what it alone knows; the key adds cut, tensors, options and torch."""
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    freeze(model, "0")
    manifest = manifest_of(split(model, tiny_data()[0][:2])[0], Options())
    assert sorted(manifest["trunk"]) == ["attention", "computation", "modules", "settings", "sources"]
    assert json.dumps(manifest).count(str(torch.__version__)) == 1
