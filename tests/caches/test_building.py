"""Building: fixed parts, whole batches, every row once."""

import pytest
import torch

from regraft.caches import planning
from regraft.caches.building import Builder, columns_in_memory
from regraft.caches.options import Engine, Options, Share
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.errors import CacheError
from regraft.examples import TensorExamples, as_examples
from regraft.stores.folder import FolderStore
from trunks import tiny_data, tiny_trunk


def build(trunk, data, entry, share=Share()):  # noqa: B008 - a frozen value
    """All rows of the data in the entry."""
    options = Options(batch_size=8, engine=Engine(share=share))
    builder = Builder(Runner(trunk), Samples(TensorExamples(*data)), entry, options)
    builder.build()
    return builder


@pytest.fixture
def small_parts(monkeypatch):
    """Sixteen rows a part."""
    monkeypatch.setattr(planning, "PART_BYTES", 16 * 16)
    monkeypatch.setattr(planning, "LEAST_PARTS", 1)


def files_of(root):
    """Every file with its bytes, but those that only join records: who committed what decides which."""
    files = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if "catalog" not in name.parts}


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


class Fetched(torch.utils.data.Dataset):
    """Examples with names, that notes which were read."""

    def __init__(self, count):
        self.inputs, self.labels = tiny_data(count)
        self.read = []

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.read.append(index)
        return self.inputs[index], self.labels[index]

    def content_ids(self, indices=None):
        """Known without reading."""
        return [f"example {index}" for index in (range(len(self)) if indices is None else indices)]


def test_two_builders_read_and_compute_each_input_once_in_all(tmp_path, small_parts):
    """A part is leased before it is read. The second one begins while the first is amid its part."""
    data, trunk, other = [Fetched(200), Fetched(200)], tiny_trunk(), tiny_trunk()
    entries = [FolderStore(tmp_path / "a").entry("k", {}) for _ in range(2)]
    first, second = (
        Builder(Runner(trunk), Samples(as_examples(some)), entry,
                Options(batch_size=8, engine=Engine(share=Share(number, 2), workers=0)))
        for number, (trunk, some, entry) in enumerate(zip([trunk, other], data, entries, strict=True))
    )  # fmt: skip
    plain, left = trunk.module.forward, []

    def with_another(x):
        if trunk.calls == 2:  # in the middle of its second part
            left.extend(second.build(wait=False))
        return plain(x)

    trunk.module.forward = with_another
    assert first.build() == []

    alone = FolderStore(tmp_path / "b").entry("k", {})
    Builder(Runner(tiny_trunk()), Samples(as_examples(Fetched(200))), alone, Options(batch_size=8)).build()
    assert [len(part.rows) for part in left] == [16]
    assert sorted(data[0].read + data[1].read) == list(range(200))
    assert first.computed + second.computed == 200
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_builders_of_inputs_without_names_are_refused(tmp_path):
    """Each would read all. Tensors in memory are hashed by each: they cost no reading."""
    pairs = [(x, int(y)) for x, y in zip(*tiny_data(40), strict=True)]
    builder = Builder(Runner(tiny_trunk()), Samples(as_examples(pairs)), FolderStore(tmp_path).entry("k", {}),
                      Options(batch_size=8, engine=Engine(share=Share(1, 2))))  # fmt: skip
    with pytest.raises(CacheError, match=r"(?s)the inputs have no names.*method content_ids") as error:
        builder.build()
    assert [(advice.argument, advice.value) for advice in error.value.advice] == [("data_id", "flowers-v1")]
    assert build(tiny_trunk(), tiny_data(40), FolderStore(tmp_path).entry("k", {}), Share(1, 2)).computed == 40


def test_a_share_and_the_whole_write_the_same_files(tmp_path, small_parts):
    """Whether ids are known first or read with the inputs."""
    for name, share in (("a", Share()), ("b", Share(1, 2))):
        build(tiny_trunk(), tiny_data(43), FolderStore(tmp_path / name).entry("k", {}), share)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
