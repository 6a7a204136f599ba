"""The contracts themselves: a store that breaks its word fails them."""

import numpy as np
import pytest

from regraft.stores.memory import MemoryEntry, MemoryStore
from regraft.testing import StoreContract, part_of


class TestOwnStore(StoreContract):
    """An extender inherits the tests like this."""

    def make_store(self, tmp_path):
        """An empty store."""
        return MemoryStore()


def test_a_store_that_loses_a_part_fails_the_contract(monkeypatch, tmp_path):
    """The contract can catch a fault."""
    monkeypatch.setattr(MemoryEntry, "parts", lambda self: [])
    with pytest.raises(AssertionError):
        TestOwnStore().test_parts_are_listed_by_name(tmp_path)


def test_a_store_that_mixes_configurations_fails_the_contract(monkeypatch, tmp_path):
    """Silence is caught, too."""
    entry = MemoryStore().entry("k1", {})
    monkeypatch.setattr(MemoryStore, "entry", lambda self, key, manifest: entry)
    with pytest.raises(AssertionError, match="another configuration was opened"):
        TestOwnStore().test_another_manifest_under_the_same_key_is_refused(tmp_path)


def test_sample_parts_are_the_same_each_time():
    """Ids and values depend on the seed alone."""
    assert np.array_equal(part_of(3)[0], part_of(3)[0])
    assert not np.array_equal(part_of(3)[0], part_of(3, seed="p2")[0])
