"""From samples to rows: what is kept, and what the caller is told."""

from types import SimpleNamespace

import pytest
import torch

from regraft.caches.computing import compute, memory_budget
from regraft.caches.options import Options
from regraft.caches.rows import HeldRows, StoredRows
from regraft.caches.sampling import samples_of
from regraft.errors import CacheError
from regraft.examples import TensorExamples
from regraft.stores.folder import FolderStore
from trunks import tiny_data, tiny_trunk


def computed(options, trunk=None):
    """Forty rows."""
    samples = samples_of(TensorExamples(*tiny_data()), views=1, data_id=None, hashed=True)
    return compute(trunk or tiny_trunk(), samples, options)


def test_rows_that_fit_are_held_and_others_streamed(tmp_path):
    """By the store's memory."""
    assert isinstance(computed(Options()).rows, HeldRows)
    assert isinstance(computed(Options(FolderStore(tmp_path))).rows, HeldRows)
    assert isinstance(computed(Options(FolderStore(tmp_path, memory_bytes=0))).rows, StoredRows)
    assert memory_budget() > 0


def test_what_was_computed_keeps_its_options_without_the_callers_objects(monkeypatch):
    """Deeper features are computed with them; a head would be kept alive, and a function cannot be pickled."""
    # What a row costs is measured, and that it pays depends on the machine.
    monkeypatch.setattr("regraft.caches.computing.expected_cost", lambda *_: SimpleNamespace(missing=0))
    options = computed(Options(batch_size=4, tell=print, head=print, epochs=10**9)).options
    assert options == Options(batch_size=4)


def test_a_trunk_that_changes_its_weights_is_refused():
    """The rows would belong to no model."""
    trunk = tiny_trunk()
    plain = trunk.module.forward

    def moving(x):
        with torch.no_grad():
            trunk.module[0].bias += 1
        return plain(x)

    trunk.module.forward = moving
    with pytest.raises(CacheError, match="Frozen weights changed while the features were computed"):
        computed(Options(), trunk)
