"""The step that builds: a checkpoint that describes its network → the network as a torch module with its weights."""

import copyreg
import linecache
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType
from typing import Any

from torch import nn

from regraft.arrays import Checkpoint
from regraft.errors import BuildError
from regraft.loading import apply_plan
from regraft.matching import plan_of_pairs
from regraft.networks.chain import chain_network
from regraft.networks.damage import refused_damage
from regraft.networks.emitting import emit
from regraft.networks.heads import NewHead, with_new_head
from regraft.networks.network import Network
from regraft.networks.preparation import ImageInput, image_input
from regraft.networks.reading import network_of
from regraft.networks.source import ModuleSource
from regraft.networks.writing import write_source
from regraft.plan import Plan
from regraft.plans.match_by_name import Pairing

CLASS = "Net"


@dataclass(frozen=True)
class BuiltNetwork:
    """A network that is built from its file.

    model    with its initial weights, until `plan` is applied to it
    plan     which arrays of the file fill which of the model
    text     the source of the model's class
    network  what the file describes, with the new head
    source   the steps of the forward, and which value of the file each gives
    image    the image that the network takes, when its input is one
    notes    what a user must know, in sentences
    """

    model: nn.Module
    plan: Plan
    text: str
    network: Network
    source: ModuleSource
    image: ImageInput | None
    notes: tuple[str, ...]


def build_model(
    checkpoint: Checkpoint,
    *,
    head: Mapping[str, object] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    chain: Mapping[str, object] | None = None,
) -> nn.Module:
    """The network that the checkpoint's file describes, with its weights, in eval mode.

    head    {"classes": 6} replaces the last dense layer or 1×1 convolution by a new one of 6 outputs, and leaves out
            what is behind it; {"classes": 6, "layer": "conv_preds"} replaces another layer
    shapes  input → a shape at which the network works, where its file leaves sizes free and only some are possible:
            {"input": (1, 576)}
    chain   of a plain list of arrays, such as an .npz or a Theano pickle: what it does not record, so that its
            convolutions and dense layers are built in their order: {"activation": "relu", "layout": "theano"};
            convolutions also need "image": [1, 28, 28], "padding", "stride" and "pool"

    The layers are torch's own, under the names of the file; a name's "/" becomes ".". Images have their channels as the
    second axis, whatever the file says. The class's source is what `regraft code` prints.

    Raises BuildError when the file describes no network, or with everything in it that has no translation.
    """
    built = planned_network(checkpoint, head=head, shapes=shapes, chain=chain)
    apply_plan(built.plan, checkpoint, built.model)
    return built.model


def planned_network(
    checkpoint: Checkpoint,
    *,
    head: Mapping[str, object] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    chain: Mapping[str, object] | None = None,
) -> BuiltNetwork:
    """The network with its plan, which is not applied yet; the arguments are those of `build_model`."""
    network = network_of(checkpoint) if chain is None else chain_network(checkpoint, chain)
    if head is not None:
        network = with_new_head(network, checkpoint, head_of(head))
    with refused_damage(checkpoint.path):
        source = emit(network, checkpoint, shapes)
    text = write_source(source, _title(network, checkpoint), class_name=CLASS)
    model = model_of_source(text)
    plan = _plan(checkpoint, model, source)
    return BuiltNetwork(
        model.eval(), plan, text, network, source, image_input(network), (*network.notes, *source.notes)
    )


def head_of(given: Mapping[str, Any]) -> NewHead:
    """The new head that a mapping describes. Raises BuildError for other keys and values."""
    classes, layer = given.get("classes"), given.get("layer", "")
    is_known = isinstance(layer, str) and given.keys() <= {"classes", "layer"}
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1 or not is_known:
        raise BuildError(
            f'The head is {dict(given)}; expected {{"classes": 6}}, the number of its outputs, and optionally '
            '"layer", the layer that it replaces.'
        )
    return NewHead(classes, layer)


def _title(network: Network, checkpoint: Checkpoint) -> str:
    return f"{network.name}, written by regraft from {checkpoint.path.name}."


def _plan(checkpoint: Checkpoint, model: nn.Module, source: ModuleSource) -> Plan:
    arrays = source.arrays
    pairings = {name: Pairing(array.sources, array.operations) for name, array in arrays.items() if array.shape is None}
    fresh = [name for name in arrays if name not in pairings]
    return plan_of_pairs(checkpoint, model, pairings, fresh, source.tensors)


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
