"""Search for the cheapest cut that can be proven, for one mode of the model."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor, nn

from regraft.cuts.arguments import unread
from regraft.cuts.batches import Arguments, Batch
from regraft.cuts.choosing import choose_cut
from regraft.cuts.crashes import refuse_crash
from regraft.cuts.outlining import Outline, outline_forward
from regraft.cuts.placeholders import MissingDataError
from regraft.cuts.proving import (
    DifferenceError,
    Outcome,
    mixing_leaves,
    model_step,
    prove,
    refuse_random,
    trunk_features,
)
from regraft.cuts.record import Record
from regraft.cuts.recording import record_forward
from regraft.cuts.replay import Replay
from regraft.cuts.replay_trunk import UnfitLeafError
from regraft.cuts.sizes import ROWS, Sizes, learn_sizes
from regraft.errors import SplitError
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import NUMBERS, copied, find_in

ATTEMPTS = 20  # leaves that may be added or ruled out because the record alone did not show it


def record_sizes(model: nn.Module, batch: Batch, *, is_training: bool) -> tuple[Record, Sizes]:
    """The recorded example, and how its sizes grow by forwards with another number of rows and other lengths."""

    def outline(arguments: Arguments) -> Outline | None:
        args, kwargs = copied(arguments)
        try:
            with undisturbed(model, is_training=is_training), _as_written():
                return outline_forward(model, args, kwargs)
        except Exception:  # a model may say what it likes to sizes that it does not take
            return None

    # Before the recording: a layer or a mask that a first forward makes is not made again in later ones.
    more = outline(batch.another())
    args, kwargs = copied(batch.all)
    with undisturbed(model, is_training=is_training), _as_written():
        record = record_forward(model, args, kwargs)
    runs: dict[str, list[tuple[int, Outline]]] = {}
    if more is not None:
        runs[ROWS] = [(batch.rows + 1, more)]
    lengths = {}
    for symbol, length in batch.lengths().items():
        half = outline(batch.shortened(length, length // 2))
        less = outline(batch.shortened(length, length - 1)) if half is not None else None
        if half is not None and less is not None:
            runs[symbol], lengths[symbol] = [(length // 2, half), (length - 1, less)], length
    return record, learn_sizes(record, {ROWS: batch.rows, **lengths}, runs)


def _as_written() -> AbstractContextManager[object]:
    """Run functions that compile themselves (torchvision's stand-in for roi_align does) as they are written.

    To compile them again for each size and under each watcher takes minutes. What is then proven is run as ever.
    """
    # Asking for the stance imports the compiler, which takes seconds; without it nothing can be compiled.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class Search:
    """The search for a cut of one recorded forward.

    at  names of the layers whose outputs are to cross, if the user has chosen
    """

    def __init__(
        self, model: nn.Module, record: Record, sizes: Sizes, batch: Batch, *, at: Sequence[str] | None,
        is_training: bool,
    ) -> None:  # fmt: skip
        self.model, self.record, self.sizes, self.batch = model, record, sizes, batch
        self.at, self.is_training = at, is_training
        self._expected: dict[str, Outcome] = {}

    def proven(self) -> Replay:
        """The first replay that is proven: by rows before whole batches, inside layers before at their outputs.

        Raises SplitError, with the reason of the first attempt, when none is.
        """
        problem: SplitError | None = None
        for whole in (False, True):
            for inside in (True, False):
                try:
                    return self._completed(whole=whole, inside=inside)
                except SplitError as error:
                    problem = problem or error
        assert problem is not None
        raise problem

    def _completed(self, *, whole: bool, inside: bool) -> Replay:
        """A cut of one kind; where it turns out to lack a tensor, that is added and the cut tried again."""
        needed: set[int] = set()
        unfit: set[int] = set()
        while True:
            choice = choose_cut(
                self.record, self.sizes, needed=needed, inside=inside, whole=whole, at=self.at, unfit=unfit
            )
            refuse_random(self.model, self.record, choice.live)
            refuse_crash(self.record)
            replay = Replay(self.model, self.record, self.sizes, choice, self.batch)
            try:
                self._prove_whole(replay) if whole else self._prove_rows(replay)
            except MissingDataError as error:
                if needed >= set(error.values) or len(needed) >= ATTEMPTS:
                    raise
                needed |= set(error.values)
            except UnfitLeafError as error:
                if len(unfit) >= ATTEMPTS:
                    raise
                unfit |= error.values
            else:
                return replay

    def _prove_rows(self, replay: Replay) -> None:
        """Prove the example and a batch with one row more, and that no row depends on the rest of its batch."""
        expected, expected_others = self._step("example", self.batch.all), self._step("another", self.batch.another())
        # All but the heads before: what a frozen layer leaves in the model is then another batch's, and is seen.
        features = self._features(replay, self.batch.all)
        others = self._features(replay, self.batch.another())
        again = self._features(replay, self.batch.another(mate=1))
        self._prove(replay, features, expected)
        self._prove(replay, others, expected_others)
        replay.reads_plain = self._reads_plain(replay, features, expected)
        for symbol in sorted(replay.fixed):
            self._prove_free(replay, symbol)
        mixing = mixing_leaves(features, others, again, self.batch.order())
        if mixing:
            raise UnfitLeafError(
                f"{', '.join(mixing)}: the rows depend on the other examples of their batch, so they cannot be cached.",
                {replay.choice.leaves[name] for name in mixing},
            )

    def _prove_whole(self, replay: Replay) -> None:
        """Prove the example and, where the model takes it in the same way, a batch of other values and equal sizes."""
        expected, features = self._step("example", self.batch.all), self._features(replay, self.batch.all)
        others: dict[str, Tensor] = {}
        with suppress(SplitError):
            expected_others = self._step("altered", self.batch.altered())
            others = self._features(replay, self.batch.altered())
        self._prove(replay, features, expected)
        if others:
            try:
                self._prove(replay, others, expected_others)
            except DifferenceError:
                raise
            except SplitError:  # a head that refuses such a batch gives nothing wrong
                return

    def _prove_free(self, replay: Replay, symbol: str) -> None:
        """A length that the head asks for and no leaf tells: see whether it makes a difference."""
        length = self.sizes.example[symbol]
        shorter = self.batch.shortened(length, length // 2)
        replay.free.add(symbol)
        try:
            features = self._features(replay, shorter)
            self._prove(replay, features, self._step(f"shorter {symbol}", shorter))
        except SplitError:
            replay.free.discard(symbol)

    def _step(self, batch: str, arguments: Arguments) -> Outcome:
        """What the model gives for a batch; the same for every attempt."""
        if batch not in self._expected:
            self._expected[batch] = model_step(self.model, arguments, is_training=self.is_training)
        return self._expected[batch]

    def _features(self, replay: Replay, arguments: Arguments) -> dict[str, Tensor]:
        """What the trunk gives for a batch."""
        return trunk_features(replay, arguments, is_training=self.is_training)

    def _prove(self, replay: Replay, features: dict[str, Tensor], expected: Outcome) -> None:
        """Compare the head with the model."""
        prove(replay, features, expected, is_training=self.is_training)

    def _reads_plain(self, replay: Replay, features: dict[str, Tensor], expected: Outcome) -> bool:
        """Whether the head looks at arguments that are no tensors: these have to stay as they are on the example."""
        if not any(True for _ in find_in(self.record.inputs, (str, bytes, *NUMBERS))):
            return True
        try:
            prove(replay, features, expected, is_training=self.is_training, given=unread)
        except SplitError:
            return True
        return False
