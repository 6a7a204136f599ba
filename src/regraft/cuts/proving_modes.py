"""The proven program of each mode in which a model runs the example, with one set of features for both."""

from collections.abc import Sequence

import torch
from torch import nn

from regraft.cuts.batches import Batch
from regraft.cuts.beside import Wanted
from regraft.cuts.modes import ProvenModes
from regraft.cuts.program import Features
from regraft.cuts.proving_together import proven_together
from regraft.cuts.record import values_in
from regraft.cuts.row_rounding import BATCH_ROWS
from regraft.cuts.search import Recording, Search, record_example
from regraft.errors import SplitError
from regraft.tensors.threads import threads_for


def proven_modes(
    model: nn.Module, batch: Batch, wanted: Wanted | None, tried: Sequence[bool]
) -> tuple[ProvenModes, Features]:
    """A proven program for each mode in which the model runs, and the features of the example.

    tried  the modes to prove, training first

    Raises SplitError when the model runs the example in none of them, or when no cut can be proven.
    """
    recordings = _recordings(model, batch, tried)

    def search(mode: bool, recording: Recording) -> Search:
        return Search(model, recording.record, recording.sizes, batch, wanted=wanted, is_training=mode)

    first = next(iter(recordings.values())).record
    with threads_for(first.work_of(first.operations) / batch.rows * BATCH_ROWS):
        modes = proven_together({mode: search(mode, each) for mode, each in recordings.items()}, recordings)
        if not modes:
            for mode, recording in recordings.items():
                own = record_example(model, batch, is_training=mode) if recording.is_borrowed else recording
                modes[mode] = search(mode, own).proven()
    return _with_one_name_each(modes)


def _recordings(model: nn.Module, batch: Batch, tried: Sequence[bool]) -> dict[bool, Recording]:
    """The example recorded in each mode in which the model runs it."""
    recordings: dict[bool, Recording] = {}
    failures = []
    for mode in tried:
        before = next(iter(recordings.values()), None)
        try:
            recording = record_example(model, batch, is_training=mode, before=before)
            if not values_in(recording.record.calls[0].output):
                raise SplitError("its output holds no tensor, so that nothing could be compared.")
            recordings[mode] = recording
        except Exception as error:  # BatchNorm cannot train on one row: the head then works in evaluation only
            failures.append(error)
    if not recordings:
        raise SplitError(f"The model cannot run the example: {failures[0]}{batch.how_to_unpack()}") from failures[0]
    return recordings


def _with_one_name_each(modes: ProvenModes) -> tuple[ProvenModes, Features]:
    """The modes and the features of the example; a leaf of evaluation that differs in training gets another name."""
    by_mode = {is_training: proven.features for is_training, proven in modes.items()}
    features, modes = by_mode.get(True, {}), dict(modes)
    for name, rows in by_mode.get(False, {}).items():
        other = features.get(name)
        is_same = other is None or (rows.shape == other.shape and torch.equal(rows, other))
        own_name = name if is_same else f"{name} (evaluation)"
        if not is_same:
            modes[False] = modes[False].renamed(name, own_name)
        features = features | {own_name: rows}
    return modes, features
