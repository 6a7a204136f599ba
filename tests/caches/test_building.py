"""Building: fixed parts, whole batches, every row once."""

import pytest
import torch

from regraft.caches import building
from regraft.caches.building import Builder, columns_in_memory, part_rows, storage_order
from regraft.caches.options import Options
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.examples import TensorExamples
from regraft.stores.folder import FolderStore
from trunks import leaf_of, tiny_data, tiny_trunk


def build(trunk, data, entry, batch_size=8):
    """All rows of the data in the entry."""
    builder = Builder(Runner(trunk), Samples(TensorExamples(*data)), entry, Options(batch_size=batch_size))
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
    samples = Samples(TensorExamples(inputs, labels), hashed=False)
    columns = columns_in_memory(Runner(trunk), samples, Options(batch_size=8))
    assert torch.equal(columns["hidden"][:8], trunk.module(inputs[:8]))
    assert torch.equal(samples.labels, labels)
