"""Split a model into trunk and head at its frozen boundary, proven identical on an example.

The trunk is all that depends only on inputs and frozen layers; the head is the rest. Both run the model's own forward.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Batch, batch_of
from regraft.cuts.beside import POOLS, Wanted
from regraft.cuts.cut import Cut
from regraft.cuts.fingerprint import SettingsWatch, class_name, computation_of, setting_texts, source_hash
from regraft.cuts.head_run import run_head
from regraft.cuts.modes import ProvenModes, ancestors_of_leaves, layers_of_trunk, operations_of_trunk, whole_cut
from regraft.cuts.pickled import OUTDATED, digest_of_code, refuse_other_cut
from regraft.cuts.program import Features
from regraft.cuts.proving_modes import proven_modes
from regraft.cuts.row_rounding import BATCH_ROWS, batch_sizes, difference_of_copies, repeated_rows, same_rows
from regraft.cuts.trunk_run import run_trunk, run_trunk_from
from regraft.errors import SplitError
from regraft.foundation.patterns import Patterns, choose, choose_whole
from regraft.tensors.fingerprints import hash_description
from regraft.tensors.keeping import undisturbed
from regraft.tensors.threads import threads_for
from regraft.tensors.trees import map_tree


class FeatureComputer(ABC):
    """What computes features: called with a batch, it gives leaf name → one row per example."""

    cut: Cut
    step_work = math.inf  # floating-point operations of the model for a batch: how many threads share it

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Features:
        """The features of a batch."""

    @abstractmethod
    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the features depend on, by name."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the features depend on beside tensors, cut and torch's switches; plain data, equal for equal trunks."""

    def cut_for(self, batch_size: int) -> Cut:
        """The cut, with what is known of batches of this size."""
        return self.cut

    def row_shapes(self, *args: object, **kwargs: object) -> dict[str, tuple[int | None, ...]]:
        """Each leaf's shape for one example, from a batch of one; none where only a run shows it."""
        return {}


@final
class Trunk(FeatureComputer):
    """The frozen part of a model: `trunk(*args, **kwargs)` gives the features, one row per example for each leaf.

    model    the user's model
    cut      what crosses to the head
    example  its features of the example
    modes    the proven program of each mode in which the model runs the example
    """

    def __init__(
        self, model: nn.Module, batch: Batch, wanted: Wanted | None = None, *, only_evaluation: bool = False
    ) -> None:
        self.model = model
        before = SettingsWatch(dict(model.named_modules()))
        self.modes, self.example = proven_modes(model, batch, wanted, (False,) if only_evaluation else (True, False))
        self.cut = whole_cut(model, self.modes)
        record = next(iter(self.modes.values())).program.record
        self.step_work = record.work_of(record.operations) / batch.rows * BATCH_ROWS
        is_steady = all(proven.is_steady for proven in self.modes.values())
        self._rounding = {batch.rows: 0.0} if is_steady else {}  # batch size → measured row_rounding
        own = layers_of_trunk(self.modes)
        layers = {name: module for name, module in model.named_modules() if name in own}
        self._settings = SettingsWatch(layers)
        self._settings.keep_steady(before)
        self.cut = self.cut_for(BATCH_ROWS)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "code": digest_of_code()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a pickle of another version of regraft the model is split again: what is recorded changes with versions.

        Raises SplitError where another cut results than the one that was pickled.
        """
        if state.pop("code", None) != digest_of_code():
            state = self._split_again(state)
        self.__dict__.update(state)

    @staticmethod
    def _split_again(state: dict[str, Any]) -> dict[str, Any]:
        modes: ProvenModes = state["modes"]
        batch = next(iter(modes.values())).program.batch
        try:
            trunk = Trunk(state["model"], batch, only_evaluation=True not in modes)
        except Exception as error:
            raise SplitError(f"{OUTDATED}\n{error}") from error
        refuse_other_cut(state["cut"], trunk.cut)
        return vars(trunk)

    def __call__(self, *args: object, **kwargs: object) -> Features:
        """The features of a batch: leaf name → tensor. They have no gradients; nothing changes in the model.

        Raises SplitError, with the way out, for a batch on which the head could not be as proven: another path through
        the model, other plain arguments, and, where features belong to a batch as a whole, another number of pictures.
        """
        self.refuse_changed_settings()
        modes = self.modes

        def run(mode: bool) -> Features:
            return run_trunk(modes[mode].trunk, modes[mode].guards, args, kwargs).features

        with threads_for(self.step_work):
            return _of_all_modes(self.model, modes, run)

    def refuse_changed_settings(self) -> None:
        """Raise SplitError that names the settings of frozen layers (eps, a flag) that have changed since the split."""
        changes = self._settings.changes()
        if changes:
            raise SplitError(
                f"Settings of frozen layers have changed since the split: {'; '.join(changes[:5])}.\n"
                "Call `split` again; features that were computed before belong to the old settings."
            )

    def cut_for(self, batch_size: int) -> Cut:
        """The cut, its `row_rounding` measured in batches of the example's size and, where cheap, of this size."""
        batch = self.batch
        if not self.cut.by_row or batch.is_listed:
            return self.cut
        records = [proven.program.record for proven in self.modes.values()]
        work = sum(operation.flops for record in records for operation in record.operations)
        for size in batch_sizes(batch.rows, batch_size, work / batch.rows) - self._rounding.keys():
            (args, kwargs), order = repeated_rows(batch, size)
            with suppress(Exception):  # a model may refuse equal rows, or so many of them: that size is not measured
                self._rounding[size] = difference_of_copies(self(*args, **kwargs), order)
        measured = (self._rounding.get(size, 0.0) for size in (batch.rows, batch_size))
        return replace(self.cut, row_rounding=max(self.cut.row_rounding, *measured))

    @property
    def reads_values(self) -> bool:
        """Whether the path of the forward to the leaves depends on values of tensors, not on their shapes alone."""
        programs = [proven.program for proven in self.modes.values()]
        return any(operation.needs_data for program in programs for operation in operations_of_trunk(program))

    @property
    def batch(self) -> Batch:
        """The example, on the model's device."""
        device = next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))
        batch = next(iter(self.modes.values())).program.batch
        args, kwargs = map_tree(lambda tensor: tensor.to(device), batch.all)
        return replace(batch, args=args, kwargs=kwargs)

    def row_shapes(self, *args: object, **kwargs: object) -> dict[str, tuple[int | None, ...]]:
        """Each leaf's shape for one example, from a batch of one; None for a size that only a run shows.

        Nothing is run and no value is read: tensors of the device "meta" will do.
        """
        shapes: dict[str, tuple[int | None, ...]] = {}
        for proven in self.modes.values():
            shapes = proven.trunk.row_shapes(args, kwargs) | shapes
        return shapes

    def step_from(self, shallower: "Trunk") -> "TrunkPart":
        """What computes the features of this trunk from those of a shallower one: inputs are not needed.

        Split again after freezing more layers, then carry the cached features on:
        `features.deeper(new_trunk.step_from(old_trunk))`, or batch by batch `new_trunk.step_from(old_trunk)(old)`.
        """
        if shallower.model is not self.model:
            raise SplitError("Features can only be carried on from a trunk of the same model.")
        return TrunkPart(self, shallower)

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The parameters and buffers that the features depend on, by name."""
        names = {
            value.name
            for proven in self.modes.values()
            for value in map(proven.trunk.record.values.__getitem__, ancestors_of_leaves(proven.trunk).values)
            if value.kind in ("parameter", "buffer")
        }
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {name: state[name].detach() for name in sorted(names)}

    def describe(self) -> dict[str, Any]:
        """The layers before the cut with their settings and sources, and the operations that they ran."""
        modules = dict(self.model.named_modules())
        operations = {p.trunk: operations_of_trunk(p.trunk) for p in self.modes.values()}
        names = sorted(layers_of_trunk(self.modes))
        classes = sorted({type(modules[name]) for name in names}, key=lambda cls: cls.__qualname__)
        return {
            "modules": {name: f"{class_name(type(modules[name]))}({modules[name].extra_repr()})" for name in names},
            "settings": {name: setting_texts(modules[name]) for name in names},
            "computation": [
                hash_description(computation_of(program.record, program.sizes, own))
                for program, own in operations.items()
            ],
            "sources": {class_name(cls): source_hash(cls) for cls in classes},
            "attention": str(getattr(getattr(self.model, "config", None), "_attn_implementation", "")),
        }

    def __repr__(self) -> str:
        return f"Trunk of {type(self.model).__name__}\n{self.cut}"


@final
class TrunkPart(FeatureComputer):
    """The part of a trunk between a shallower cut and its own: `part(features)` gives the features of the deeper cut.

    For `cache_features` it is a trunk, whose data set are the shallower features.
    """

    def __init__(self, trunk: Trunk, shallower: Trunk) -> None:
        self.trunk, self.shallower, self.cut, self.step_work = trunk, shallower, trunk.cut, trunk.step_work

    def __call__(self, features: Mapping[str, Tensor] | None = None, /, **leaves: Tensor) -> Features:
        """The deeper features of a batch, from its shallower ones as a dictionary or by their names."""
        given = leaves if features is None else features
        modes, before = self.trunk.modes, self.shallower.modes

        def run(mode: bool) -> Features:
            new, old = modes[mode], before[mode]
            return run_trunk_from(new.trunk, new.guards, old.program, old.guards, given).features

        with threads_for(self.step_work):
            return _of_all_modes(self.trunk.model, modes, run)

    def cut_for(self, batch_size: int) -> Cut:
        """As `Trunk.cut_for`."""
        return self.trunk.cut_for(batch_size)

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

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk, self.model, self.training = trunk, trunk.model, trunk.model.training

    @property
    def example_work(self) -> float:
        """Floating-point operations of a forward of the head for one example, roughly."""
        program = next(iter(self.trunk.modes.values())).program
        repeated = [program.record.operations[index] for index in program.choice.repeated]
        return program.record.work_of(repeated) / program.batch.rows

    def recut(self) -> tuple[TrunkPart, "Head"]:
        """After more layers were frozen: what computes deeper features from this head's, and the head for those.

        The model is split on the example on which it was split before, and the result is checked on it: the features
        that it gives are those that the inputs give, bit by bit (or within `Cut.row_tolerance`).

        Raises as `split` does, and SplitError where the deeper features need what the features do not hold.
        """
        device = next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))
        trunk = Trunk(self.model, self.trunk.batch)
        part = trunk.step_from(self.trunk)
        got = part({name: rows.to(device) for name, rows in self.trunk.example.items()})
        allowed = trunk.cut.row_tolerance  # 0.0: every bit
        different = [name for name, rows in trunk.example.items() if not same_rows(rows, got[name], allowed)]
        if different:
            raise SplitError(f"{', '.join(different)} cannot be computed from the features of the shallower cut.")
        return part, Head(trunk)

    def forward(self, features: Mapping[str, Tensor]) -> Any:
        """The model's output for these features (leaf name → tensor, one row per example)."""
        proven = self.trunk.modes.get(self.model.training)
        if proven is None:
            mode = "training" if self.model.training else "evaluation"
            raise SplitError(f"The example could not be run in {mode} mode, so the head cannot be either.")
        return run_head(proven.program, proven.guards, features)

    def train(self, mode: bool = True) -> "Head":
        """Training or evaluation mode, for the model too; refused when settings of frozen layers have changed."""
        self.trunk.refuse_changed_settings()
        return super().train(mode)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters, as `model.<name>`; the frozen ones belong to the trunk."""
        return ((name, p) for name, p in super().named_parameters(*args, **kwargs) if p.requires_grad)


def split(
    model: nn.Module, *args: object, at: Patterns | None = None, pool: Literal["mean"] | None = None, **kwargs: object
) -> tuple[Trunk, Head]:
    """Trunk and head of a model with frozen layers: `head(trunk(*args, **kwargs))` equals `model(*args, **kwargs)`.

    args, kwargs   an example batch, as the model takes it; two rows or more let BatchNorm train
    at             patterns of the frozen layers whose outputs cross, each a leaf of the trunk; the head takes the
                   deepest of them that carry all that it needs, and runs the frozen layers behind these
    pool           "mean" averages the outputs of `at` over their positions (height and width, or tokens; those of the
                   `attention_mask` where the model takes one): leaves named mean(layer), of one number for each
                   channel. The head does not need them and takes the cheapest cut, which crosses beside them

    The example is run in training and in evaluation mode, with one row more and, for sequences, with other lengths:
    which shows how sizes grow. Outputs, gradients and buffers of model and head are proven equal bit by bit before
    anything is returned, and that no example's features depend on the rest of its batch: about six forwards and two
    backward passes of the example (docs/why/splitting.md says which run proves what). How far the processor rounds a
    row by its index in the batch is measured: `trunk.cut.row_rounding`. The model is left as it was.

    Raises SplitError for a model that cannot be cut or proven equal, for a layer of `at` whose output cannot cross (it
    is not frozen, has no row for each example, or has no axis that is known to hold the channels, for its mean),
    FreezeError for a frozen layer that is random, PatternError when `at` matches nothing.
    """
    _refuse_compiled(model)
    batch = batch_of(args, kwargs)
    if not batch.rows:
        raise SplitError("The example holds no tensor with rows. Pass a batch as the model takes it.")
    if pool not in (None, *POOLS):
        raise SplitError(f"pool is {pool!r}; expected {' or '.join(map(repr, POOLS))}.")
    if pool and at is None:
        raise SplitError("pool averages the outputs of layers. Pass their names as `at`.")
    trunk = Trunk(model, batch, None if at is None else _wanted(model, at, pool))
    return trunk, Head(trunk)


def _wanted(model: nn.Module, at: Patterns, pool: str | None) -> Wanted:
    """The layers of these names; those in them where a name stands for the whole of a parent."""
    names = [name for name, _ in model.named_modules() if name]
    return Wanted(tuple(choose_whole(names, at)), tuple(choose(names, at)), pool)


def _of_all_modes(model: nn.Module, modes: ProvenModes, run: Callable[[bool], Features]) -> Features:
    """The leaves of every mode. The present mode comes first: the model may not run the batch in the other."""
    features: Features = {}
    for is_training in sorted(modes, key=lambda mode: mode != model.training):
        if not features.keys() >= modes[is_training].trunk.leaves.keys():
            with undisturbed(model, is_training=is_training):
                features |= run(is_training)
    return features


def _refuse_compiled(model: nn.Module) -> None:
    """A compiled model is one piece of code, which neither shows its layers nor rounds as they do."""
    if isinstance(model, torch.jit.ScriptModule):
        raise SplitError("The model is TorchScript, whose layers cannot be watched: split the Python model instead.")
    for name, module in model.named_modules():
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise SplitError(
                f"{name or 'The model'} is compiled, so its layers cannot be run one by one with equal rounding.\n"
                "Split the model before it is compiled (`torch.compile(model)` keeps it as `_orig_mod`)."
            )
