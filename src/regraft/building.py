"""The step that builds: a checkpoint that describes its network → the network as a torch module with its weights."""

import copyreg
import linecache
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType
from typing import Any

from torch import nn

from regraft.arrays import Checkpoint
from regraft.loading import apply_plan
from regraft.matching import plan_of_pairs
from regraft.networks.emitting import emit
from regraft.networks.network import Network
from regraft.networks.reading import network_of
from regraft.networks.source import Source
from regraft.networks.writing import write_source
from regraft.plan import Plan
from regraft.plans.match_by_name import Pairing

CLASS = "Net"


@dataclass(frozen=True)
class Built:
    """A network that was built from its file.

    model  with the file's weights
    plan   which arrays they are, and what was done to them
    text   the source of the model's class
    notes  what a user must know, in sentences
    """

    model: nn.Module
    plan: Plan
    text: str
    notes: tuple[str, ...]


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """The network that the checkpoint's file describes, with its weights, in eval mode.

    Raises BuildError when the file describes no network, or with everything in it that has no translation.
    """
    return build_network(checkpoint).model


def build_network(checkpoint: Checkpoint) -> Built:
    """The network with its plan and its source, as `build_model`."""
    network = network_of(checkpoint)
    source = emit(network, checkpoint)
    text = write_source(source, _title(network, checkpoint), class_name=CLASS)
    model = model_of_source(text)
    plan = _plan(checkpoint, model, source)
    apply_plan(plan, checkpoint, model)
    return Built(model.eval(), plan, text, (*network.notes, *source.notes))


def _title(network: Network, checkpoint: Checkpoint) -> str:
    return f"{network.name}, written by regraft from {checkpoint.path.name}."


def _plan(checkpoint: Checkpoint, model: nn.Module, source: Source) -> Plan:
    pairings = {
        name: Pairing(array.sources, array.operations) for name, array in source.arrays.items() if array.shape is None
    }
    fresh = [name for name, array in source.arrays.items() if array.shape is not None]
    return plan_of_pairs(checkpoint, model, pairings, fresh)


# --- source that is a module ------------------------------------------------------------------------------------------

_TEXTS: dict[str, str] = {}  # name of a module that was made here → its source


def model_of_source(text: str) -> nn.Module:
    """The network of a source, with initial weights. It can be pickled, and copied, with its source."""
    model: nn.Module = getattr(_module(text), CLASS)()
    return model


def source_of(model: nn.Module) -> str | None:
    """The source of a model that was built here; None for any other."""
    return _TEXTS.get(type(model).__module__)


def _module(text: str) -> ModuleType:
    """The source as a module; the same source is the same module, in every process under the same name."""
    name = f"regraft_network_{sha256(text.encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        module = ModuleType(name)
        file = f"<{name}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # for tracebacks
        exec(compile(text, file, "exec"), module.__dict__)
        sys.modules[name], _TEXTS[name] = module, text
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == name:
                copyreg.pickle(kind, _reduced)
    return sys.modules[name]


def _reduced(module: nn.Module) -> tuple[Any, tuple[str, str], Mapping[str, Any]]:
    """How pickle and copy make a module of a built network again: by the source of its class."""
    return _empty, (_TEXTS[type(module).__module__], type(module).__name__), module.__dict__


def _empty(text: str, class_name: str) -> nn.Module:
    """A module of the class, without its state."""
    kind = getattr(_module(text), class_name)
    made: nn.Module = kind.__new__(kind)
    return made
