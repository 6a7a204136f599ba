"""Split a model into trunk and head at its frozen boundary, proven identical on an example.

The trunk is all that depends only on inputs and frozen layers; the head is the rest. Both run the model's own forward.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Batch, batch_of
from regraft.cuts.choosing import describe_cut
from regraft.cuts.cut import Cut, Leaf
from regraft.cuts.fingerprint import class_name, settings_of, source_hash
from regraft.cuts.record import slots_of
from regraft.cuts.replay import Replay
from regraft.cuts.search import Search, record_sizes
from regraft.errors import SplitError
from regraft.patterns import Patterns, choose
from regraft.tensors.fingerprints import hash_description
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import copied, map_tree

Features = dict[str, Tensor]
Way = Mapping[bool, Replay]  # mode (whether training) → the proven replay of a batch
WAY = "(way)"  # among the features of a whole batch: the number of the way that it takes through the model


class FeatureExtractor(ABC):
    """What computes features: called with a batch, it gives leaf name → one row per example."""

    cut: Cut

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Features:
        """The features of a batch."""

    @abstractmethod
    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the features depend on, by name."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the features depend on beside tensors, cut and torch's switches; plain data, equal for equal trunks."""

    def row_shapes(self, *args: Any, **kwargs: Any) -> dict[str, tuple[int | None, ...]]:
        """Each leaf's shape for one example, from a batch of one; none where only running can tell."""
        return {}


@final
class Trunk(FeatureExtractor):
    """The frozen part of a model: `trunk(*args, **kwargs)` gives the features, one row per example for each leaf.

    model    the user's model
    cut      what crosses to the head
    example  its features of the example
    ways     how batches run through the model; the example's is the first, and without whole batches the only one
    """

    def __init__(self, model: nn.Module, batch: Batch, at: list[str] | None) -> None:
        self.model, self._at = model, at
        way, self.example = _proven_way(model, batch, at)
        self.ways, self.cut = [way], _whole_cut(way)

    @property
    def replays(self) -> Way:
        """The example's way."""
        return self.ways[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Features:
        """The features of a batch: leaf name → tensor. They have no gradients; nothing changes in the model.

        Where features hold for a batch as a whole, a batch that takes another way than those before (more pictures in
        a list, other experts) is split and proven for itself.
        """
        try:
            return self._run(self.replays, args, kwargs)
        except SplitError as error:
            if self.cut.by_row:
                raise
            return self._run_another_way(error, args, kwargs)

    def _run(self, way: Way, args: tuple, kwargs: Mapping[str, Any]) -> Features:
        """The leaves of every mode. The present mode comes first: the model may not run the batch in the other."""
        features: Features = {}
        for is_training in sorted(way, key=lambda mode: mode != self.model.training):
            if all(name in features for name in way[is_training].choice.leaves):
                continue
            with undisturbed(self.model, is_training=is_training):
                features |= way[is_training].trunk(args, kwargs)
        return features

    def row_shapes(self, *args: Any, **kwargs: Any) -> dict[str, tuple[int | None, ...]]:
        """Each leaf's shape for one example, from a batch of one; None for a size that only running can tell.

        Nothing is run and no value is read: tensors of the device "meta" will do.
        """
        shapes: dict[str, tuple[int | None, ...]] = {}
        for replay in self.replays.values():
            shapes = replay.row_shapes(args, kwargs) | shapes
        return shapes

    def _run_another_way(self, problem: SplitError, args: tuple, kwargs: Mapping[str, Any]) -> Features:
        """The features by one of the other ways known, else by a new one."""
        for number, way in enumerate(self.ways[1:], 1):
            with suppress(SplitError):
                return self._run(way, args, kwargs) | {WAY: torch.tensor(number)}
        try:
            way, _ = _proven_way(self.model, batch_of(args, kwargs), self._at)
            features = self._run(way, args, kwargs)
        except SplitError:
            raise problem from None
        self.ways.append(way)
        return features | {WAY: torch.tensor(len(self.ways) - 1)}

    def step_from(self, shallower: "Trunk") -> "TrunkPart":
        """The way from the features of a shallower trunk to the features of this one: inputs are not needed.

        Split again after freezing more layers, then carry the cached features on:
        `features.deeper(new_trunk.step_from(old_trunk))`, or batch by batch `new_trunk.step_from(old_trunk)(old)`.
        """
        if shallower.model is not self.model:
            raise SplitError("Features can only be carried on from a trunk of the same model.")
        return TrunkPart(self, shallower)

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the features depend on, by name."""
        names = sorted({name for replay in self.replays.values() for name in replay.tensors_before_the_cut()})
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {name: state[name].detach() for name in names}

    def describe(self) -> dict[str, Any]:
        """The layers before the cut with their settings and sources, and the operations that they ran."""
        modules = dict(self.model.named_modules())
        names = sorted({name for replay in self.replays.values() for name in replay.modules_before_the_cut()})
        classes = sorted({type(modules[name]) for name in names}, key=lambda cls: cls.__qualname__)
        return {
            "modules": {name: f"{class_name(type(modules[name]))}({modules[name].extra_repr()})" for name in names},
            "settings": {name: settings_of(modules[name]) for name in names},
            "computation": [hash_description(replay.computation_before_the_cut()) for replay in self.replays.values()],
            "sources": {class_name(cls): source_hash(cls) for cls in classes},
            "attention": str(getattr(getattr(self.model, "config", None), "_attn_implementation", "")),
        }

    def __repr__(self) -> str:
        return f"Trunk of {type(self.model).__name__}\n{self.cut}"


@final
class TrunkPart(FeatureExtractor):
    """The part of a trunk between a shallower cut and its own: `part(features)` gives the features of the deeper cut.

    For `cache_features` it is a trunk, whose data set are the shallower features.
    """

    def __init__(self, trunk: Trunk, shallower: Trunk) -> None:
        self.trunk, self.shallower, self.cut = trunk, shallower, trunk.cut

    def __call__(self, features: Mapping[str, Tensor] | None = None, /, **leaves: Tensor) -> Features:
        """The deeper features of a batch, from its shallower ones as a dictionary or by their names."""
        given, deeper = leaves if features is None else features, dict[str, Tensor]()
        model, replays = self.trunk.model, self.trunk.replays
        for is_training in sorted(replays, key=lambda mode: mode != model.training):  # as the trunk does
            if not all(name in deeper for name in replays[is_training].choice.leaves):
                with undisturbed(model, is_training=is_training):
                    deeper |= replays[is_training].trunk_from(self.shallower.replays[is_training], given)
        return deeper

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the deeper features depend on, by name."""
        return self.trunk.frozen_tensors()

    def describe(self) -> dict[str, Any]:
        """What the deeper features depend on beside the tensors."""
        return {**self.trunk.describe(), "from": [leaf.name for leaf in self.shallower.cut.leaves]}


@final
class Head(nn.Module):
    """The trainable part of a model: `head(features)` gives what the model gives. Training it trains the model.

    trunk   what computes its features
    model   the user's model, whose own layers run; `train()`, `eval()`, `to()` reach it
    """

    takes_features = True  # tells training apart a head, called with features, from a model, called with inputs

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk, self.model, self.training = trunk, trunk.model, trunk.model.training

    def recut(self) -> tuple[TrunkPart, "Head"]:
        """After more layers were frozen: the way from this head's features to the deeper ones, and the head for those.

        The model is split on the example on which it was split before, and the way is proven on it: the features
        that it gives are those that the inputs give, bit by bit.

        Raises as `split` does, and SplitError where the deeper features need what the features do not hold.
        """
        device = next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))
        batch = next(iter(self.trunk.replays.values())).batch
        args, kwargs = map_tree(lambda tensor: tensor.to(device), batch.all)
        trunk, head = split(self.model, *args, **kwargs)
        part = trunk.step_from(self.trunk)
        got = part({name: rows.to(device) for name, rows in self.trunk.example.items()})
        different = [name for name, rows in trunk.example.items() if not torch.equal(got[name], rows)]
        if different:
            raise SplitError(f"{', '.join(different)} cannot be computed from the features of the shallower cut.")
        return part, head

    def forward(self, features: Mapping[str, Tensor]) -> Any:
        """The model's output for these features (leaf name → tensor, one row per example)."""
        way = self.trunk.ways[int(features[WAY])] if WAY in features else self.trunk.replays
        replay = way.get(self.model.training)
        if replay is None:
            mode = "training" if self.model.training else "evaluation"
            raise SplitError(f"The example could not be run in {mode} mode, so the head cannot be either.")
        return replay.head(features)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters, as `model.<name>`; the frozen ones belong to the trunk."""
        return ((name, p) for name, p in super().named_parameters(*args, **kwargs) if p.requires_grad)


def split(model: nn.Module, *args: Any, at: Patterns | None = None, **kwargs: Any) -> tuple[Trunk, Head]:
    """Trunk and head of a model with frozen layers: `head(trunk(*args, **kwargs))` equals `model(*args, **kwargs)`.

    args, kwargs   an example batch, as the model takes it; two rows or more let BatchNorm train
    at             patterns of the frozen layers whose outputs are to cross, instead of the cheapest cut

    The example is run in training and in evaluation mode, with one row more and, for sequences, with other lengths:
    that tells how sizes grow. Outputs, gradients and buffers of model and head are proven equal bit by bit before
    anything is returned, and that no example's features depend on the rest of its batch. The model is left as it was.

    Raises SplitError for a model that cannot be cut or proven equal, FreezeError for a frozen layer that is random,
    PatternError when `at` matches nothing.
    """
    _refuse_compiled(model)
    batch = batch_of(args, kwargs)
    if not batch.rows:
        raise SplitError("The example holds no tensor with rows. Give a batch as the model takes it.")
    chosen = None if at is None else choose([name for name, _ in model.named_modules() if name], at)
    trunk = Trunk(model, batch, chosen)
    return trunk, Head(trunk)


def _proven_way(model: nn.Module, batch: Batch, chosen: list[str] | None) -> tuple[Way, Features]:
    """A proven replay of the batch for each mode in which the model runs, and the batch's features."""
    replays, failures = {}, []
    for is_training in (True, False):
        try:
            record, sizes = record_sizes(model, batch, is_training=is_training)
            if not slots_of(record.calls[0].output):
                raise SplitError("its output holds no tensor, so that nothing could be compared.")
        except Exception as error:  # BatchNorm cannot train on one row: the head then works in evaluation only
            failures.append(error)
            continue
        search = Search(model, record, sizes, batch, at=chosen, is_training=is_training)
        replays[is_training] = search.proven()
    if not replays:
        raise SplitError(f"The model cannot run the example: {failures[0]}") from failures[0]
    return replays, _told_apart(replays, batch)


def _refuse_compiled(model: nn.Module) -> None:
    """A compiled model is one piece of code, which neither shows its layers nor rounds as they do."""
    if isinstance(model, torch.jit.ScriptModule):
        raise SplitError("The model is TorchScript, whose layers cannot be watched: split the Python model instead.")
    for name, module in model.named_modules():
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise SplitError(
                f"{name or 'The model'} is compiled, and rounds otherwise than its layers do one by one.\nSplit the "
                "model before it is compiled (`torch.compile(model)` keeps it as `_orig_mod`)."
            )


def _whole_cut(replays: Way) -> Cut:
    """The leaves of every mode: a head that was trained on the features is evaluated on them too."""
    by_row = all(replay.by_row for replay in replays.values())
    cuts = [describe_cut(replay.record, replay.sizes, replay.choice, by_row=by_row) for replay in replays.values()]
    leaves: dict[str, Leaf] = {}
    for cut in cuts:
        leaves = leaves | {leaf.name: leaf for leaf in cut.leaves if leaf.name not in leaves}
    return replace(cuts[0], leaves=tuple(leaves.values()))


def _told_apart(replays: Way, batch: Batch) -> Features:
    """The batch's features, after a leaf of evaluation that is not the same in training was given another name."""
    features: dict[bool, Features] = {}
    for is_training, replay in replays.items():
        with undisturbed(replay.model, is_training=is_training):
            features[is_training] = replay.trunk(*copied(batch.all))
    told = features.get(True, {})
    for name, rows in features.get(False, {}).items():
        other = told.get(name)
        is_same = other is None or (rows.shape == other.shape and torch.equal(rows, other))
        own_name = name if is_same else f"{name} (evaluation)"
        if not is_same:
            replays[False].rename(name, own_name)
        told = told | {own_name: rows}
    return told
