"""Choose what runs the trunk: its own forward, or the fastest compiled copy that computes the same."""

from dataclasses import dataclass
from typing import final

import torch

from regraft.caches.costs import Cost
from regraft.caches.fast_trunk import FastTrunk, gain_of, installed_runtimes, seconds_of
from regraft.caches.keys import key_of, manifest_of
from regraft.caches.options import Options
from regraft.caches.running import device_of
from regraft.caches.sampling import Samples
from regraft.errors import CacheError
from regraft.foundation.wording import seconds_text
from regraft.splitting import FeatureComputer, Trunk
from regraft.tensors.trees import Inputs, map_tree

SHORT_S = 5.0  # compiling takes a few seconds: a shorter pass gains nothing
LEAST_GAIN = 1.1  # a smaller one is not worth other bits
WORTH_TELLING, LONG_S = 1.3, 60.0  # gain and seconds from which on the exact engine says what the fast one would take


@final
@dataclass(frozen=True)
class Runtime:
    """What runs the trunk, and what that gains.

    name        "exact" for the model's own forward; else the runtime that compiled it
    gain        how many times as fast as the exact trunk it computed a batch; 1.0 where that was not measured
    difference  the largest difference from the exact features, relative to the largest value of the row
    note        a sentence on the choice; "" where nothing was to be chosen
    """

    name: str = "exact"
    gain: float = 1.0
    difference: float = 0.0
    note: str = ""


EXACT = Runtime()
Choice = tuple[FeatureComputer, Runtime]


def choose_runtime(trunk: FeatureComputer, samples: Samples, options: Options) -> Choice:
    """What `Options.engine` asks for: the trunk itself, or for "fast" the trunk as its fastest runtime computes it.

    A runtime of which the store has features of this trunk is taken again without measuring.
    """
    if options.engine.runtime == "exact":
        return trunk, EXACT
    if not isinstance(trunk, Trunk):
        return _exact(trunk, "it carries features on from a shallower cut, and the fast engine needs the inputs")
    if trunk.reads_values:
        return _exact(trunk, "the path through the model depends on values of its tensors")
    return _stored_choice(trunk, options) or _fastest(trunk, samples, options)


def fast_engine_note(trunk: FeatureComputer, samples: Samples, cost: Cost, options: Options) -> str:
    """A sentence on what the fast engine would take, where the exact one takes long and the gain is worth it; or ""."""
    seconds = cost.missing * cost.trunk_s
    engine = options.engine
    if seconds < LONG_S or engine.compute != "float32" or not isinstance(trunk, Trunk) or trunk.reads_values:
        return ""
    _, runtime = _fastest(trunk, samples, options)
    if runtime.gain < WORTH_TELLING:
        return ""
    return (
        f"The fast engine ({runtime.name}) would run the trunk in about {seconds_text(seconds / runtime.gain)} instead "
        f"of {seconds_text(seconds)}; features would differ by up to {runtime.difference:.1g} of the largest value of "
        "a row."
    )


def _fastest(trunk: Trunk, samples: Samples, options: Options) -> Choice:
    """Compile the trunk by each runtime that is installed; compare and time them on two batches."""
    first, other = _two_batches(trunk, samples, options)
    seconds = seconds_of(trunk, first) * len(samples) / options.batch_size
    if seconds < SHORT_S:
        return _exact(trunk, f"it takes about {seconds_text(seconds)}, less than compiling")
    best: Choice = trunk, Runtime(gain=LEAST_GAIN)
    results = []
    for name in installed_runtimes(device_of(trunk)):
        fast = FastTrunk(trunk, name, options.batch_size)
        try:
            difference = max(fast.compile(first), fast.check(other))
        except CacheError as error:
            results.append(error.text.rstrip("."))
            continue
        gain = gain_of(fast, first)
        results.append(f"{name} computes a batch {gain:.2f} times as fast")
        if gain > best[1].gain:
            note = (
                f"The features are computed by {name}, {gain:.1f} times as fast as by the model's own forward. They "
                f"differ by up to {difference:.1g} of the largest value of a row."
            )
            best = fast, Runtime(name, gain, difference, note)
    return _exact(trunk, "; ".join(results)) if best[0] is trunk else best


def _stored_choice(trunk: Trunk, options: Options) -> Choice | None:
    """The runtime of which the store has features of this trunk."""
    stored = options.store.manifests() if options.store is not None else {}
    for name in installed_runtimes(device_of(trunk)) if stored else ():
        fast = FastTrunk(trunk, name, options.batch_size)
        if key_of(manifest_of(fast, options)) in stored:
            return fast, Runtime(name, note=f"The features are computed by {name}, as those in the store.")
    return None


def _exact(trunk: FeatureComputer, reason: str) -> Choice:
    return trunk, Runtime(note=f"The features are computed by the model's own forward: {reason}.")


def _two_batches(trunk: Trunk, samples: Samples, options: Options) -> tuple[Inputs, Inputs]:
    """Two random batches of the size of the build, on the trunk's device."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    rows = order.repeat(1 + 2 * options.batch_size // len(order))

    def batch(start: int) -> Inputs:
        inputs = samples.inputs_of(rows[start : start + options.batch_size])
        return map_tree(lambda tensor: tensor.to(device_of(trunk)), inputs)

    return batch(0), batch(options.batch_size)
