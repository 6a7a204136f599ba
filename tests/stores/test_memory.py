"""Features in memory."""

from regraft.stores.memory import MemoryStore
from regraft.testing import STORE_MANIFEST, StoreContract, part_of


class TestMemoryStore(StoreContract):
    """Everything that a store promises."""

    def make_store(self, tmp_path):
        """An empty store."""
        return MemoryStore()


def test_the_store_object_is_what_keeps_the_features():
    """A second call with the same object finds them."""
    store = MemoryStore()
    store.entry("k1", STORE_MANIFEST).commit("p1", *part_of(3))

    assert len(store.entry("k1", STORE_MANIFEST).parts()) == 1
    assert MemoryStore().entry("k1", STORE_MANIFEST).parts() == []
