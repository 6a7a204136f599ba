"""A little of what `make scale` does: the simulator drives the store's own code, and a killed worker costs nothing."""

import builders
import kills
import scale

from regraft.caches import planning


def test_builders_share_the_parts_and_an_entry_is_opened_from_few_files(monkeypatch):
    """Two builders do half of the parts each, and a third one writes nothing; two catalogues hold 2,000 records."""
    for name in ("PART_BYTES", "LEAST_PARTS"):
        monkeypatch.setattr(planning, name, getattr(planning, name))
    half, rest, third = scale.built(200)
    assert "200 put," in half  # shards and records; whoever is interrupted writes no catalogue
    assert "201 put," in rest
    assert "put" not in third
    _, opened, index = scale.opened(2000)
    assert "(2 get, 7 list)" in opened
    assert "| 0 () |" in index


def test_workers_read_each_input_once_between_them(tmp_path):
    """And a few more to see that the data do not change."""
    _, alone = builders.seconds(1, 96, 0, 0)
    _, together = builders.seconds(2, 96, 0, 0)
    assert 96 <= alone <= together <= 96 + 2 * 32


def test_a_killed_worker_leaves_nothing_wrong(tmp_path):
    """In a folder; `benchmarks/kills.py` does it twenty times, on an S3 server too."""
    import random

    log, whole = tmp_path / "log", tmp_path / "whole"
    log.touch()
    assert kills.exit_status(kills.worker(str(whole), log, 0)) == 0
    kills.killed_once(str(tmp_path / "shared"), whole, tmp_path, 0.3, random.Random(0))
