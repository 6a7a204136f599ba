"""Building: fixed parts, whole batches, every row once."""

import pytest
import torch

from regraft.caches import building
from regraft.caches.building import Builder, check_outputs, padded, part_rows, storage_order, whole
from regraft.caches.ragged import OwnShapes
from regraft.caches.sampling import Draws
from regraft.errors import CacheError
from regraft.examples import TensorExamples
from regraft.stores.folder import FolderStore
from trunks import HandTrunk, leaf_of, tiny_data, tiny_trunk


def build(trunk, data, entry, batch_size=8):
    """All rows of the data in the entry."""
    builder = Builder(trunk, Draws(TensorExamples(*data)), entry, trunk.cut.leaves, batch_size=batch_size,
                      precision="float32")  # fmt: skip
    builder.build()
    return builder


@pytest.fixture
def small_parts(monkeypatch):
    """Sixteen rows a part."""
    monkeypatch.setattr(building, "PART_ROWS", 16)


def files_of(root):
    """Every file with its bytes."""
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_parts_hold_whole_batches():
    """At most 32 MiB and 2,048 rows, never less than a batch."""
    assert part_rows([leaf_of("x", (50,))], 64) == 2048
    assert part_rows([leaf_of("x", (1 << 20,))], 3) == 6
    assert part_rows([leaf_of("x", (1 << 24,))], 64) == 64


def test_rows_lie_in_random_order_with_the_rest_last():
    """A fixed one: every builder has the same."""
    order = storage_order(43, 8)
    assert torch.equal(order.sort().values, torch.arange(43))
    assert torch.equal(order[40:], torch.arange(40, 43))
    assert not torch.equal(order[:40], torch.arange(40))
    assert torch.equal(order, storage_order(43, 8))


def test_short_batches_are_filled_by_repetition():
    """So every row is computed in a batch of the same size."""
    assert padded(torch.arange(3), 3, 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_every_build_of_the_same_data_writes_the_same_bytes(tmp_path, small_parts):
    """Names, records, shards."""
    for name in ("a", "b"):
        build(tiny_trunk(), tiny_data(43), FolderStore(tmp_path / name).entry("k", {}))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert len(list((tmp_path / "a").rglob("*.safetensors"))) == 3


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, small_parts):
    """Only the part under way is computed again, and the result is that of one run."""
    trunk, entry = tiny_trunk(), FolderStore(tmp_path / "a").entry("k", {})
    plain = trunk.module.forward

    def tired(x):
        if trunk.calls == 4:
            raise KeyboardInterrupt("tired")
        return plain(x)

    trunk.module.forward = tired
    with pytest.raises(KeyboardInterrupt, match="tired"):
        build(trunk, tiny_data(43), entry)
    trunk.module.forward = plain

    resumed = build(trunk, tiny_data(43), FolderStore(tmp_path / "a").entry("k", {}))
    build(tiny_trunk(), tiny_data(43), FolderStore(tmp_path / "b").entry("k", {}))

    assert resumed.computed == 43 - 16
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_builders_part_is_waited_for(tmp_path, small_parts):
    """Its lease is seen; its rows are not computed twice. Neither goes on before both have begun."""
    import threading

    both_began = threading.Barrier(2)

    def together(module):
        plain, waits = module.forward, iter([both_began.wait])
        return lambda x: (next(waits, lambda: None)(), plain(x))[1]

    trunks = [tiny_trunk(), tiny_trunk()]
    for trunk in trunks:
        trunk.module.forward = together(trunk.module)
    builders = []
    threads = [
        threading.Thread(target=lambda trunk=trunk: builders.append(
            build(trunk, tiny_data(200), FolderStore(tmp_path / "a").entry("k", {}))))
        for trunk in trunks
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    build(tiny_trunk(), tiny_data(200), FolderStore(tmp_path / "b").entry("k", {}))

    assert sum(builder.computed for builder in builders) == 200
    assert all(builder.computed > 0 for builder in builders)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_in_memory_rows_lie_in_the_data_sets_order():
    """Without ids, without a store."""
    trunk, (inputs, labels) = tiny_trunk(), tiny_data(20)
    draws = Draws(TensorExamples(inputs, labels), hashed=False)
    rows, told = whole(
        draws, trunk, trunk.cut.leaves, OwnShapes(None, ()), batch_size=8, workers=None, advance=lambda *_: None
    )
    assert torch.equal(rows["hidden"][:8], trunk.module(inputs[:8]))
    assert torch.equal(told, labels)


def test_a_trunk_that_breaks_its_word_is_refused():
    """Other rows, other dtypes, a missing leaf."""
    leaves = [leaf_of("x", (3,))]
    with pytest.raises(CacheError, match=r"gave no 'x'; it gave y"):
        check_outputs({"y": torch.ones(2, 3)}, leaves, 2)
    with pytest.raises(CacheError, match=r"x with shape \(1, 3\)"):
        check_outputs({"x": torch.ones(1, 3)}, leaves, 2)
    with pytest.raises(CacheError, match=r"float64"):
        check_outputs({"x": torch.ones(2, 3).double()}, leaves, 2)
    assert HandTrunk
