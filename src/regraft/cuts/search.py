"""Search for the cheapest cut that can be proven, for one mode of the model."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from regraft.cuts.arguments import unread
from regraft.cuts.batches import Arguments, Batch
from regraft.cuts.beside import Wanted, outputs_beside
from regraft.cuts.choosing import Choice, Rules, choose_cut, named_like, with_beside
from regraft.cuts.placeholders import MissingDataError
from regraft.cuts.program import Features, Guards, Program
from regraft.cuts.proving import (
    DifferenceError,
    Outcome,
    mixing_leaves,
    model_step,
    outcome_of,
    prove,
    refuse_crash,
    refuse_random_layers,
    same_in_another_batch,
    watched_trunk,
)
from regraft.cuts.record import Record, values_in
from regraft.cuts.recording import record_forward
from regraft.cuts.shapes import ForwardShapes, shapes_of_forward
from regraft.cuts.sizes import ROWS, Sizes, learn_sizes
from regraft.cuts.trunk_run import UnfitLeafError
from regraft.errors import SplitError
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import NUMBERS, copied, find_in, numbers_of

ATTEMPTS = 20  # leaves that may be added or ruled out because the record alone did not show it


@dataclass(frozen=True)
class Proven:
    """The programs of one mode and what their proof has shown: all that trunk and head need.

    program           that of the head
    trunk             that of the trunk: the same, unless outputs of layers cross beside what the head takes
    features          of the example
    without_gradient  trainable parameters that get no gradient in the model itself
    is_steady         whether its rows had the same bits at other indices of another batch
    """

    program: Program
    trunk: Program
    guards: Guards
    features: Features
    without_gradient: tuple[str, ...] = ()
    is_steady: bool = False

    def renamed(self, leaf: str, name: str) -> "Proven":
        """The same with another name for a leaf."""
        program, trunk = self.program.renamed(leaf, name), self.trunk.renamed(leaf, name)
        features = {name if own == leaf else own: rows for own, rows in self.features.items()}
        return replace(self, program=trunk if self.program is self.trunk else program, trunk=trunk, features=features)


@dataclass(frozen=True)
class Recording:
    """The example as a model ran it in one mode.

    outcome      its outputs and buffers
    runs         symbol → forwards of other sizes, from which `sizes` are learnt
    is_borrowed  whether these were run in the other mode
    """

    record: Record
    sizes: Sizes
    outcome: Outcome
    runs: Mapping[str, Sequence[tuple[int, ForwardShapes]]]
    is_borrowed: bool = False


def record_sizes(model: nn.Module, batch: Batch, *, is_training: bool) -> tuple[Record, Sizes]:
    """The recorded example, and how its sizes grow by forwards with another number of rows and other lengths."""
    recording = record_example(model, batch, is_training=is_training)
    return recording.record, recording.sizes


def record_example(model: nn.Module, batch: Batch, *, is_training: bool, before: Recording | None = None) -> Recording:
    """The example recorded in a mode, and how its sizes grow.

    before  the recording in the other mode. Where its calls and functions gave the same shapes as those of this one,
            they grow in the same way, and no forward of another size is run
    """
    if before is None:
        # Before the recording: a layer or a mask that a first forward makes is not made again in later ones.
        more = _shapes_of(model, batch.another(), is_training=is_training)
        record, outcome = _record(model, batch, is_training=is_training)
    else:
        record, outcome = _record(model, batch, is_training=is_training)
        if _forms(record).items() <= _forms(before.record).items():
            sizes = learn_sizes(record, before.sizes.example, before.runs)
            return Recording(record, sizes, outcome, before.runs, is_borrowed=True)
        more = _shapes_of(model, batch.another(), is_training=is_training)
    runs: dict[str, list[tuple[int, ForwardShapes]]] = {}
    if more is not None:
        runs[ROWS] = [(batch.rows + 1, more)]
    lengths = {}
    for symbol, length in batch.lengths().items():
        half = _shapes_of(model, batch.shortened(length, length // 2), is_training=is_training)
        shorter = batch.shortened(length, length - 1)
        less = _shapes_of(model, shorter, is_training=is_training) if half is not None else None
        if half is not None and less is not None:
            runs[symbol], lengths[symbol] = [(length // 2, half), (length - 1, less)], length
    return Recording(record, learn_sizes(record, {ROWS: batch.rows, **lengths}, runs), outcome, runs)


def _record(model: nn.Module, batch: Batch, *, is_training: bool) -> tuple[Record, Outcome]:
    """The recorded example and its outcome. Nothing changes in the model."""
    args, kwargs = copied(batch.all)
    with undisturbed(model, is_training=is_training), _as_written():
        record, output = record_forward(model, args, kwargs)
        return record, outcome_of(model, output)


def _shapes_of(model: nn.Module, arguments: Arguments, *, is_training: bool) -> ForwardShapes | None:
    """The shapes in a forward; None where the model does not take these sizes."""
    args, kwargs = copied(arguments)
    try:
        with undisturbed(model, is_training=is_training), _as_written():
            return shapes_of_forward(model, args, kwargs)
    except Exception:  # a model may say what it likes to sizes that it does not take
        return None


def _forms(record: Record) -> dict[tuple[object, ...], object]:
    """Call or function → the shapes and numbers that it gave; named as in `ForwardShapes`."""

    def shapes(structure: object) -> list[tuple[int, ...]]:
        return [record.values[value].shape for value in values_in(structure)]

    forms: dict[tuple[object, ...], object] = {}
    for call in record.calls:
        forms[call.name, call.ordinal] = shapes(call.output), numbers_of(call.output)
    for operation in record.operations:
        call = record.calls[operation.call]
        forms[call.name, call.ordinal, operation.name, operation.ordinal] = shapes(operation.outputs), operation.numbers
    return forms


def _as_written() -> AbstractContextManager[object]:
    """Run functions that compile themselves (torchvision's stand-in for roi_align does) as they are written.

    To compile them again for each size and under each watcher takes minutes. What is then proven is run as ever.
    """
    # Asking for the stance imports the compiler, which takes seconds; without it nothing can be compiled.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class Search:
    """The search for a cut of one recorded forward.

    wanted  the outputs that are to cross, if the user has chosen; averaged ones cross beside the cheapest cut
    """

    def __init__(
        self, model: nn.Module, record: Record, sizes: Sizes, batch: Batch, *, wanted: Wanted | None, is_training: bool
    ) -> None:
        self.model, self.record, self.sizes, self.batch = model, record, sizes, batch
        self.wanted, self.is_training = wanted, is_training
        self.at = None if wanted is None or wanted.pool else wanted.inside
        self._expected: dict[str, Outcome] = {}

    def proven(self) -> Proven:
        """The first program that is proven: by rows before whole batches, inside layers before at their outputs.

        Raises SplitError, with the reason of the first attempt, when none is.
        """
        problem: SplitError | None = None
        for whole in (False, True):
            for inside in (True, False):
                try:
                    return self._completed(Rules(inside, whole, self.at))
                except SplitError as error:
                    problem = problem or error
        assert problem is not None
        raise problem

    def _completed(self, rules: Rules) -> Proven:
        """A cut of one kind; where it turns out to lack a tensor, that is added and the cut tried again."""
        while True:
            program, trunk = self.chosen(rules)
            try:
                return self._prove_whole(program, trunk) if rules.whole else self._prove_rows(program, trunk)
            except MissingDataError as error:
                if rules.needed.issuperset(error.values) or len(rules.needed) >= ATTEMPTS:
                    raise
                rules = replace(rules, needed=rules.needed.union(error.values))
            except UnfitLeafError as error:
                if len(rules.unfit) >= ATTEMPTS:
                    raise
                rules = replace(rules, unfit=rules.unfit | error.values)

    def chosen(self, rules: Rules) -> tuple[Program, Program]:
        """The head's program and the trunk's, not yet proven."""
        choice = choose_cut(self.record, self.sizes, rules)
        refuse_random_layers(self.model, self.record, choice.flow.live)
        refuse_crash(self.record)
        return self._programs(choice, rules)

    def _programs(self, choice: Choice, rules: Rules) -> tuple[Program, Program]:
        """The programs of a choice."""
        program = Program(self.model, self.is_training, self.record, self.sizes, choice, self.batch)
        if self.wanted is None:
            return program, program
        beside = outputs_beside(
            self.record, self.sizes, choice.flow, self.wanted, unfit=rules.unfit, taken=choice.leaves
        )  # fmt: skip
        choice = named_like(choice, beside)
        return replace(program, choice=choice), replace(program, choice=with_beside(self.record, choice, beside))

    def _prove_rows(self, program: Program, trunk: Program) -> Proven:
        """Prove the example and a batch with one row more, and that no row depends on the rest of its batch."""
        expected, expected_others = self.step_on_example(), self._step("another", self.batch.another())
        # All but the heads before: what a frozen layer leaves in the model is then another batch's, and is seen.
        program, trunk, features = self._laid_out(program, trunk)
        others = watched_trunk(trunk, Guards(), self.batch.another()).features
        again = watched_trunk(trunk, Guards(), self.batch.another(mate=1)).features
        guards = prove(program, features, expected).joined(prove(program, others, expected_others))
        guards = self.widened(guards, program, trunk, partial(prove, program, features, expected))
        mixing = mixing_leaves(features, others, again, self.batch.order())
        if mixing:
            raise UnfitLeafError(
                f"{', '.join(mixing)}: the rows depend on the other examples of their batch, so they cannot be cached.",
                {trunk.leaves[name] for name in mixing},
            )
        is_steady = same_in_another_batch(features, others, self.batch.order())
        return Proven(program, trunk, guards, features, self.without_gradient(expected), is_steady)

    def widened(self, guards: Guards, program: Program, trunk: Program, prove_again: Callable[..., Guards]) -> Guards:
        """The guards, with what may differ from the example although the forward could look at it."""
        guards = replace(guards, reads_plain=self._reads_plain(prove_again))
        for symbol in sorted(guards.assumed):
            guards = self._with_free(program, trunk, guards, symbol)
        return guards

    def _prove_whole(self, program: Program, trunk: Program) -> Proven:
        """Prove the example and, where the model takes the same path, a batch of other values and equal sizes."""
        expected = self.step_on_example()
        program, trunk, features = self._laid_out(program, trunk)
        others: dict[str, Tensor] = {}
        with suppress(SplitError):
            expected_others = self._step("altered", self.batch.altered())
            others = watched_trunk(trunk, Guards(), self.batch.altered()).features
        guards = prove(program, features, expected)
        if others:
            try:
                guards = guards.joined(prove(program, others, expected_others))
            except DifferenceError:
                raise
            except SplitError:  # a head that refuses such a batch gives nothing wrong
                pass
        return Proven(program, trunk, guards, features, self.without_gradient(expected))

    def _laid_out(self, program: Program, trunk: Program) -> tuple[Program, Program, Features]:
        """The programs, with the layout of their leaves in memory as the trunk gives them, and the example's features.

        One program stays one.
        """
        run = watched_trunk(trunk, Guards(), self.batch.all)
        laid_out = replace(trunk, layouts=run.layouts)
        return laid_out if program is trunk else replace(program, layouts=run.layouts), laid_out, run.features

    def _with_free(self, program: Program, trunk: Program, guards: Guards, symbol: str) -> Guards:
        """A length that the head asks for and no leaf gives: see whether it makes a difference."""
        length = self.sizes.example[symbol]
        shorter = self.batch.shortened(length, length // 2)
        freed = replace(guards, free=guards.free | {symbol})
        try:
            features = watched_trunk(trunk, freed, shorter).features
            return freed.joined(prove(program, features, self._step(f"shorter {symbol}", shorter)))
        except SplitError:
            return guards

    def without_gradient(self, expected: Outcome) -> tuple[str, ...]:
        """The trainable parameters that got no gradient in a step of the model."""
        trainable = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        return tuple(name for name in trainable if f"gradient of {name}" not in expected.tensors)

    def step_on_example(self) -> Outcome:
        """What the model gives for the example."""
        return self._step("example", self.batch.all)

    def _step(self, batch: str, arguments: Arguments) -> Outcome:
        """What the model gives for a batch; the same for every attempt."""
        if batch not in self._expected:
            self._expected[batch] = model_step(self.model, arguments, is_training=self.is_training)
        return self._expected[batch]

    def _reads_plain(self, prove_again: Callable[..., Guards]) -> bool:
        """Whether the head looks at arguments that are no tensors: these have to stay as they are on the example."""
        kinds: tuple[type, ...] = (str, bytes, *NUMBERS)
        if not any(True for _ in find_in(self.record.inputs, kinds)):
            return True
        try:
            prove_again(given=unread)
        except SplitError:
            return True
        return False
