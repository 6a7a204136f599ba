"""Prove the first choice of both modes at once: each run of the model serves all proofs that it can.

docs/why/splitting.md lists which run proves what. A split that does not pass is searched for mode by mode.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from regraft.cuts.batches import Arguments
from regraft.cuts.choosing import Rules
from regraft.cuts.program import Features, Guards, Layout, Program
from regraft.cuts.proving import (
    Outcome,
    Step,
    forward_step,
    graph_step,
    mixing_leaves,
    model_step_with_features,
    prove,
    same_in_another_batch,
    training_step,
    watched_trunk,
)
from regraft.cuts.search import Proven, Recording, Search
from regraft.cuts.trunk_run import is_changed_by_watching
from regraft.errors import SplitError

Modes = Mapping[bool, Search]  # mode (whether training) → the search in it; one mode or both


def proven_together(searches: Modes, recordings: Mapping[bool, Recording]) -> dict[bool, Proven]:
    """The cheapest cut by rows, proven in each mode; empty where a proof does not hold, or where runs cannot be shared.

    Gradients are computed in the first mode. In the other one the steps of the backward pass and all that they read are
    compared, which decides the gradients.
    """
    with suppress(Exception):  # the search of each mode says what is wrong
        return _Together(searches, recordings).proven()
    return {}


class _Together:
    """The runs of the modes, and the proofs that share them."""

    def __init__(self, searches: Modes, recordings: Mapping[bool, Recording]) -> None:
        self.searches, self.recordings = searches, recordings
        self.first, *others = searches
        self.batch, self.others = searches[self.first].batch, others
        self.chosen = {mode: search.chosen(Rules(at=search.at)) for mode, search in searches.items()}
        trunks = [trunk for _, trunk in self.chosen.values()]
        if len({tuple(trunk.leaves) for trunk in trunks}) > 1 or any(map(is_changed_by_watching, trunks)):
            raise SplitError("The modes have no runs in common.")

    def proven(self) -> dict[bool, Proven]:
        """Run the model and the trunks, then the heads: a head that reads what a layer left in the model is seen."""
        trunk, order = self.chosen[self.first][1], self.batch.order()
        runs = {self.first: _run(trunk, self.batch.another(), training_step)}
        for mode in self.others:
            runs[mode] = _run(self.chosen[mode][1], self.batch.another(mate=1), graph_step)
        others, again = runs[self.first].features, self._mates(runs)
        example = watched_trunk(trunk, Guards(), self.batch.all)
        if mixing_leaves(example.features, others, again, order):
            raise SplitError("Rows depend on the other examples of their batch.")
        layouts = {name: example.layouts[value] for name, value in trunk.leaves.items()}
        shared = Proven(
            trunk, trunk, Guards(), example.features,
            self.searches[self.first].without_gradient(runs[self.first].expected),
            same_in_another_batch(example.features, others, order),
        )  # fmt: skip
        return {mode: self._with_head(mode, run, shared, layouts) for mode, run in runs.items()}

    def _mates(self, runs: Mapping[bool, "_Run"]) -> Features:
        """The features of the larger batch with another new row: from the other mode's run, which is then the same."""
        if self.others:
            return runs[self.others[0]].features
        return watched_trunk(self.chosen[self.first][1], Guards(), self.batch.another(mate=1)).features

    def _with_head(self, mode: bool, run: "_Run", shared: Proven, layouts: Mapping[str, Layout]) -> Proven:
        """The mode with its guards, after its head was proven on the larger batch and on the example."""
        head, trunk = self.chosen[mode]
        by_value = {value: layouts[name] for name, value in trunk.leaves.items()}
        laid_out = replace(trunk, layouts=by_value)
        program = laid_out if head is trunk else replace(head, layouts=by_value)
        guards = prove(program, run.features, run.expected, step=run.step)
        on_example, prove_again = self._prove_example(mode, program, shared.features)
        guards = self.searches[mode].widened(guards.joined(on_example), program, laid_out, prove_again)
        return replace(shared, program=program, trunk=laid_out, guards=guards)

    def _prove_example(self, mode: bool, program: Program, features: Features) -> tuple[Guards, Callable[..., Guards]]:
        """What the head's proof on the example shows; and the proof, to run it again.

        The recording was a run of the model on the example. Where the head differs from it, it may be by rounding,
        since a forward that is watched or runs without gradients takes other kernels: then the model itself runs.
        """
        recorded = partial(prove, program, features, self.recordings[mode].outcome, step=forward_step)
        with suppress(SplitError):
            return recorded(), recorded
        computed = partial(prove, program, features, self.searches[mode].step_on_example())
        return computed(), computed


@dataclass(frozen=True)
class _Run:
    """A run of the model on the larger batch: what it gave, the features on the way, and the step that it was."""

    expected: Outcome
    features: Features
    step: Step


def _run(trunk: Program, arguments: Arguments, step: Step) -> _Run:
    """Run the model."""
    expected, run = model_step_with_features(trunk, arguments, step)
    return _Run(expected, run.features, step)
