"""The demo: the whole way without network, with files that ship with the package."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regraft.cuts.cut import Cut
from regraft.demo import running as demo
from regraft.demo.mobilenet import MobileNetV1
from regraft.errors import SaveError
from regraft.recipe import reuse


@pytest.fixture(scope="module")
def lines():
    """What a demo told while it ran."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, lines):
    """A small demo: one epoch on images of 32 pixels."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "EPOCHS", 1)
        patch.setattr(demo, "SIZE", 32)
        patch.setattr(demo, "JOB_TEXT", demo.JOB_TEXT.replace("epochs = 30", "epochs = 1").replace("128", "32"))
        return demo.run_demo(out, tell=lines.append)


def test_three_methods_are_compared_and_the_cache_changes_no_bit(finished):
    """Each with its accuracy on 150 test photographs, the error of that, and its seconds."""
    assert [row.name for row in finished.rows] == [
        "from scratch",
        "reused and frozen, uncached",
        "reused and frozen, cached",
    ]
    assert all(0 < row.standard_error < 0.05 and row.seconds > 0 for row in finished.rows)
    assert finished.same
    assert finished.tolerance < 1e-3  # 0.0 where no row is rounded by its index


def test_the_job_trains_the_model_that_was_compared(finished):
    """The same seed, batches and inputs: the same accuracy as the cached method."""
    assert finished.run.record.scores["test"].accuracy == finished.rows[-1].accuracy


def test_the_lines_show_the_methods_and_the_summary_what_to_do_next(finished, lines):
    """What `make demo` prints; the lines come one by one, also into a file."""
    assert [line.strip()[:12] for line in lines] == ["6 types of v", "from scratch", "reused and f", "reused and f"]
    text = replace(finished, tolerance=0.0).summary()
    assert "the trained weights are equal to the last bit" in text
    assert "equal within 0.0003 (this processor" in replace(finished, tolerance=3e-4).summary()
    assert str(finished.folder / "report.html") in text
    assert text.count("regraft ") == 3
    assert finished.advice.sentences[0] in text
    assert "How many layers" in (finished.folder / "report.html").read_text()


def test_the_answers_are_those_of_the_first_photographs_of_each_class(finished):
    """Not chosen by what the model says of them."""
    names = [Path(answer.name) for answer in finished.predictions]
    assert len(names) == 18
    assert {name.parent.name for name in names} == set(finished.run.record.classes)
    assert names[0] == min((finished.folder / "photos/test/bike").iterdir())


def test_the_folder_holds_what_the_job_needs_and_can_be_run_again(finished, tmp_path):
    """Checkpoint, network, photographs, licenses, job, run folder and report; no path leads elsewhere."""
    names = sorted(path.name for path in finished.folder.iterdir() if path.name != "__pycache__")
    assert names == [
        "LICENSE",
        "SOURCES.md",
        "job.toml",
        "mobilenet.py",
        "mobilenet_v1_0.25_224.ckpt.data-00000-of-00001",
        "mobilenet_v1_0.25_224.ckpt.index",
        "photos",
        "report.html",
        "run",
    ]
    assert "Methods compared" in (finished.folder / "report.html").read_text()
    moved = shutil.copytree(finished.folder, tmp_path / "moved")
    shutil.rmtree(moved / "run")
    assert reuse(moved / "job.toml").record.scores == finished.run.record.scores


def test_threads_are_afterwards_as_before():
    """One thread meanwhile, also where the demo ends with an error."""
    before = torch.get_num_threads()
    during = []

    def stop():
        during.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), demo.one_thread():
        stop()
    assert during == [1]
    assert torch.get_num_threads() == before


def test_weights_are_equal_to_the_last_bit_unless_rows_are_rounded_by_their_index():
    """Then each of the steps may add a difference of the size of the features'."""
    first, second = MobileNetV1(0.25, 6), MobileNetV1(0.25, 6)
    second.load_state_dict(first.state_dict())
    assert demo.have_same_weights(first, second)
    with torch.no_grad():
        second.Logits.weight += 1e-6 * second.Logits.weight.abs().max()
    assert not demo.have_same_weights(first, second)
    assert demo.have_same_weights(first, second, tolerance=1e-5)
    assert not demo.have_same_weights(first, second, tolerance=1e-7)
    assert demo.weight_tolerance(Cut((), 0.5)) == 0.0
    assert demo.weight_tolerance(Cut((), 0.5, row_rounding=1e-7)) == pytest.approx(180 * 1e-6)


def test_an_existing_folder_is_not_replaced(tmp_path):
    """Unless asked."""
    (tmp_path / "precious").touch()
    with pytest.raises(SaveError, match="exists already; nothing was changed"):
        demo.run_demo(tmp_path)


def test_only_a_demo_is_replaced(finished, tmp_path):
    """All that it wrote is its own; a file beside it or a photograph among its own is not."""
    assert demo.foreign_to_demo(finished.folder) == []
    changed = shutil.copytree(finished.folder, tmp_path / "changed")
    (changed / "photos/test/bike/mine.jpg").touch()
    assert demo.foreign_to_demo(changed) == ["photos/test/bike/mine.jpg"]
    (tmp_path / "job.toml").touch()
    with pytest.raises(SaveError, match=r"did not write there: changed"):
        demo.run_demo(tmp_path, overwrite=True)
    shutil.rmtree(changed)
    with pytest.raises(SaveError, match="no run of the demo"):
        demo.run_demo(tmp_path, overwrite=True)


def test_a_demo_whose_job_fails_leaves_the_old_one(finished, tmp_path, monkeypatch):
    """The job runs last, for minutes: what it replaces stays until then."""
    old = shutil.copytree(finished.folder, tmp_path / "out")
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "SIZE", 32)

    def fail(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "reuse", fail)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(old, overwrite=True)

    assert demo.foreign_to_demo(old) == []
    assert (old / "run" / "regraft.json").read_bytes() == (finished.folder / "run" / "regraft.json").read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
