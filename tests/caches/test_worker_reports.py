"""What workers report of themselves; how far they are together is in test_build_progress.py."""

import json

import pytest

from regraft.caches import worker_reports
from regraft.caches.options import Engine, Share
from regraft.caches.worker_reports import ENDED, FOLDER, WorkerReport, reports_in
from regraft.caching import cache_features, fill_features
from regraft.stores.memory import MemoryStore
from regraft.stores.places import place_of
from trunks import tiny_data, tiny_trunk


def entry_in(folder):
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return place_of(entry)


def test_a_short_build_of_one_process_leaves_no_report(tmp_path):
    cache_features(tiny_trunk(), tiny_data(40), tmp_path, batch_size=8, data_id="numbers")
    assert not reports_in(entry_in(tmp_path))


def test_each_of_several_workers_reports_what_it_did(tmp_path):
    """The second one finds all rows."""
    for number in range(2):
        engine = Engine(share=Share(number, 2))
        fill_features(tiny_trunk(), tiny_data(40), tmp_path, batch_size=8, data_id="numbers", engine=engine)
    first, second = reports_in(entry_in(tmp_path))
    assert (first.rows, first.present, first.stored, first.done, first.computed) == (40, 0, 0, 40, 40)
    assert (first.share, second.share) == ("0/2", "1/2")
    assert (second.present, second.stored, second.done, second.computed) == (40, 40, 40, 0)
    assert first.state == second.state == ENDED
    assert not first.is_working


def test_a_worker_reports_while_it_works_and_what_has_ended_it(tmp_path, monkeypatch):
    """Every few seconds; here at once, and of one process too."""
    monkeypatch.setattr(worker_reports, "EVERY_S", 0.0)

    class Broken:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            if index == 30:
                raise OSError("the disk is gone\nand more")
            return tiny_data(40)[0][index], 0

    with pytest.raises(OSError, match="the disk is gone"):
        cache_features(tiny_trunk(), Broken(), tmp_path, batch_size=8, data_id="numbers", engine=Engine(workers=0))
    (report,) = reports_in(entry_in(tmp_path))
    assert report.state == "the disk is gone"
    assert not report.is_working


def test_a_silent_worker_is_taken_for_dead():
    report = WorkerReport("w", 10, 0, 0, 5, 5, 0.0, 5.0, "0/1", "working", silent_s=1.0)
    assert report.is_working
    assert not WorkerReport("w", 10, 0, 0, 5, 5, 0.0, 5.0, "0/1", "working", silent_s=1e6).is_working


def test_damaged_reports_are_left_out_and_unknown_facts_ignored(tmp_path):
    """Of a later version, or half-copied."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "a.json").write_text("{")
    facts = {"name": "b", "rows": 1, "present": None, "stored": 0, "done": 1, "computed": 1, "began": 0.0,
             "seconds": 1.0, "share": "0/1", "state": ENDED, "colour": "red"}  # fmt: skip
    (tmp_path / FOLDER / "b.json").write_text(json.dumps(facts))
    assert [report.name for report in reports_in(place_of(tmp_path))] == ["b"]


def test_a_store_in_memory_takes_no_reports():
    features = cache_features(
        tiny_trunk(), tiny_data(16), MemoryStore(), data_id="numbers", engine=Engine(share=Share(0, 2))
    )
    assert features.computed == 16
