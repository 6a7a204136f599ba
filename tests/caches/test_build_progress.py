"""How far the workers of a build are together, as any process can tell."""

import json

import pytest

from regraft.caches.build_progress import progress_in
from regraft.caches.maintenance import clear_entries
from regraft.caches.options import Engine, Share
from regraft.caches.worker_reports import FOLDER
from regraft.caching import cache_features, fill_features
from regraft.cli.caches import cache_progress
from regraft.errors import CacheError
from trunks import tiny_data, tiny_trunk

NAMES = {"batch_size": 8, "data_id": "numbers"}


def report(folder, name, **facts):
    """Another worker's report."""
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    whole = {"name": name, "rows": 1040, "present": 40, "stored": 40, "done": 40, "computed": 0, "began": 1.0,
             "seconds": 0.0, "share": "0/3", "state": "working"}  # fmt: skip
    (entry / FOLDER).mkdir(exist_ok=True)
    (entry / FOLDER / f"{name}.json").write_text(json.dumps(whole | facts))


@pytest.fixture
def building(tmp_path):
    """40 rows of an earlier data set, 40 that workers have added since, and 960 to come."""
    cache_features(tiny_trunk(), tiny_data(40), tmp_path, **NAMES)
    cache_features(tiny_trunk(), tiny_data(80), tmp_path, batch_size=8, data_id="others")
    report(tmp_path, "first", computed=300, seconds=1800.0, stored=80)
    report(tmp_path, "second", computed=60, seconds=360.0, began=2.0, done=140, share="1/3")
    report(tmp_path, "third", computed=5, seconds=1440.0, began=3.0, share="2/3", state="example 7 cannot be read")
    return tmp_path


def test_rows_throughput_end_and_cost_are_those_of_all_workers(building):
    """Each of two computes a row in 6 s; the third has ended by an error, and has cost money."""
    (build,) = progress_in(building)
    assert (build.rows, build.done, len(build.working)) == (1040, 140, 2)
    assert build.rows_per_s == pytest.approx(2 / 6)
    assert build.ends_in_s == pytest.approx(900 * 3)
    assert build.worker_hours == pytest.approx(1.0)
    text = "\n".join(build.lines(price=2.5))
    assert "140 of 1,040 rows (13 %), 2 workers at work, 0.3 rows/s, done in 45 min 00 s" in text
    assert "1.00 worker hours, 2.50 so far at 2.5 an hour" in text
    assert "third (share 2/3): 5 rows in 24 min 00 s; stopped: example 7 cannot be read" in text


def test_what_was_committed_counts_although_its_worker_has_not_said_so(building):
    """The store has more rows than it had when the first worker began."""
    cache_features(tiny_trunk(), tiny_data(400), building, batch_size=8, data_id="more")
    (build,) = progress_in(building)
    assert build.done == 40 + 40 + 400


def test_a_build_that_has_ended_shows_what_it_took(tmp_path, capsys):
    for number in range(2):
        fill_features(tiny_trunk(), tiny_data(40), tmp_path, engine=Engine(share=Share(number, 2)), **NAMES)
    cache_progress(str(tmp_path), price=None)
    out = capsys.readouterr().out
    assert "whole: 40 of 40 rows (100 %), 0 workers at work" in out
    assert "0.00 worker hours\n" in out


def test_a_folder_without_reports_says_so_and_one_that_is_not_there_is_refused(tmp_path, capsys):
    cache_features(tiny_trunk(), tiny_data(40), tmp_path, **NAMES)
    cache_progress(str(tmp_path), price=1.0)
    assert capsys.readouterr().out.startswith("No worker has written its progress: ")
    with pytest.raises(CacheError, match="There is no feature folder"):
        progress_in(tmp_path / "nowhere")


def test_reports_are_cleared_with_their_entry(building):
    clear_entries(building, older_than_s=0)
    assert not [path for path in building.iterdir() if path.is_dir()]
