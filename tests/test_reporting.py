"""The page about a run: whole, self-contained, readable whatever the names are."""

import re
from dataclasses import replace

import pytest
import torch

from regraft.cuts.cut import Cut, Leaf
from regraft.depths.depth_advice import DepthAdvice
from regraft.depths.rows import DepthRow
from regraft.evaluating import Score
from regraft.learning.history import History, Stage
from regraft.plan import CheckpointIdentity, Plan
from regraft.plans.rows import Row
from regraft.reporting import write_report
from regraft.reports.outcomes import Outcomes
from regraft.reports.record import Parameters, RunRecord, Variant

PICTURE = "data:image/png;base64,AAAA"
HOSTILE = "<script>alert('x')</script>&\"'"


def a_run(classes=2, rows=4, epochs=3):
    """A run with every part; `classes`, `rows` and `epochs` say how large."""
    confusion = tuple(tuple(9 if row == column else row % 2 for column in range(classes)) for row in range(classes))
    statuses = ["exact", "converted", "kept_init", "unused"]
    plan = tuple(
        Row(f"layer{index // 4}.{index}.weight", (f"their/{index}",), statuses[index % 4], (), (3, 4))
        for index in range(rows)
    )
    return RunRecord(
        title="vehicles",
        date="2026-11-22 01:40 UTC",
        command="regraft reuse job.toml",
        versions={"torch": "2.13.0"},
        machine="two cores",
        checkpoint="a.ckpt",
        files={"a.ckpt.index": "ab" * 32},
        plan=Plan(CheckpointIdentity("/models/a.ckpt", "tensorflow-v2", "tensorflow"), "tensorflow", plan),
        frozen=("layer0", "layer1"),
        parameters=Parameters(100, 60, 40),
        cut=Cut((Leaf("mean", (256,), torch.float32, 1024),), 0.994),
        cost="It pays from 2 epochs on.",
        history=History(
            tuple(1 / (number + 1) for number in range(epochs)),
            validation_loss=(0.9,) * epochs,
            validation_accuracy=(0.5,) * epochs,
            best_epoch=2,
            stopped_because="done",
        ),
        scores={"test": Score(0.929, 0.0074, 1200, 0.2, confusion), "validation": Score(0.95, 0.02, 120, 0.1)},
        classes=tuple(f"class{index}" for index in range(classes)),
        seconds={"features": 12.0, "training": 3.0},
        notes=("train: 1 unreadable images skipped: a.png",),
        counts={"train": (50,) * classes},
        advice=DepthAdvice(
            120,
            2,
            "accuracy",
            0.5,
            (DepthRow("layer<0>", "layer", 0.8, 0.04, 0.5, 0.0, 0.0, 0.0, False, 1024, 0.6, 16, 0.55),),
            "layer<0>",
            ("layer<0>",),
            ("Freeze up to layer<0>.",),
        ),
        outcomes=Outcomes("test", ("x.png", "y.png"), (0, 1), (0, 0), (0.9, 0.6), {0: PICTURE}),
        comparison=(Variant("from scratch", 0.5, 0.01, 9.0, (0.49, 0.51)), Variant("cached", 0.9, 0.01)),
    )


@pytest.mark.parametrize("row_rounding", [0.0, 1.2e-7])
def test_rows_that_are_rounded_by_their_index_are_mentioned(page, row_rounding):
    """The cut's own sentence; nothing where the bits are the same at every index."""
    record = a_run()
    record = replace(record, cut=replace(record.cut, row_rounding=row_rounding))
    assert ("This processor rounds a row by its index in the batch" in page(record)) == bool(row_rounding)


@pytest.fixture
def page(tmp_path):
    """The page of a record, as text."""

    def written(record):
        write_report(tmp_path / "report.html", record)
        return (tmp_path / "report.html").read_text()

    return written


def text_of(html):
    """What a person reads: no tags, one space between words."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", "", html, flags=re.S)).split())


def test_the_page_tells_all_that_a_run_has(page):
    """Accuracy with its error and count, what was reused and frozen, the cut, the time, how to repeat it."""
    told = text_of(page(a_run()))
    for words in ("0.929", "± 0.0074", "1,200 examples", "layer0.0.weight", "their/0", "layer1", "mean", "float32",
                  "It pays from 2 epochs on.", "regraft reuse job.toml", "a.png", "from scratch", "class1",
                  "features".capitalize(), "ab" * 32, "tensorflow-v2", "torch"):  # fmt: skip
        assert words in told, words


def test_the_page_needs_nothing_from_elsewhere(page):
    """No script, no style sheet, no image, no font is fetched."""
    html = page(a_run())
    assert not re.search(r"<(script|iframe)\b", html)
    assert all('src="data:image/' in tag for tag in re.findall(r"<img\b[^>]*>", html))
    assert re.findall(r"<link[^>]*>", html) == re.findall(r"<link[^>]*data:[^>]*>", html)  # an empty icon
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)
    assert "@import" not in html
    assert "url(" not in html


def test_the_page_follows_the_readers_theme_and_width(page):
    """Dark where the system is dark, and no wider than a phone."""
    html = page(a_run())
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_hostile_names_are_shown_and_never_run(page):
    """Class, layer, file and job names come from elsewhere."""
    record = a_run()
    row = Row(HOSTILE, (HOSTILE,), "exact", (), (1,), note=HOSTILE)
    plan = Plan(CheckpointIdentity(HOSTILE, HOSTILE, HOSTILE), HOSTILE, (row,))
    cut = Cut((Leaf(HOSTILE, (1,), torch.float32, 4),), 0.5)
    stage = Stage(0, (HOSTILE,), 1, (HOSTILE,), note=HOSTILE)
    record = replace(
        record,
        title=HOSTILE,
        command=HOSTILE,
        checkpoint=HOSTILE,
        files={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        machine=HOSTILE,
        plan=plan,
        frozen=(HOSTILE,),
        cut=cut,
        cost=HOSTILE,
        history=replace(record.history, stopped_because=HOSTILE, stages=(stage,)),
        classes=(HOSTILE, "b"),
        seconds={HOSTILE: 1.0},
        notes=(HOSTILE,),
        outcomes=Outcomes(HOSTILE, (HOSTILE,) * 2, (0, 1), (0, 0), (0.5, 0.5)),
        comparison=(Variant(HOSTILE, 0.5, 0.1, 1.0, note=HOSTILE),),
    )
    html = page(record)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_names_that_are_no_unicode_do_not_stop_the_page(page):
    """A file name of a foreign system reaches Python as lone surrogates."""
    assert "\\udcff" in page(replace(a_run(), title="bad \udcff name"))


@pytest.mark.parametrize(
    "missing", ["plan", "checkpoint", "cut", "history", "scores", "parameters", "seconds", "comparison", "outcomes"]
)
def test_a_missing_part_is_left_out(page, missing):
    """No empty heading, no error."""
    empty = {"seconds": {}, "scores": {}, "comparison": (), "checkpoint": ""}.get(missing)
    html = page(replace(a_run(), **{missing: empty}))
    assert "None" not in text_of(html)


def test_a_run_with_nothing_but_a_title_has_a_page(page):
    """The least that there is."""
    assert "just a title" in text_of(page(RunRecord("just a title")))


def test_a_long_plan_and_many_classes_stay_small(page):
    """400 rows, 100 classes, 300 epochs: below 400 kB, rows folded, the matrix drawn without numbers."""
    html = page(a_run(classes=100, rows=400, epochs=300))
    assert len(html.encode()) < 400_000
    assert "<details" in html


def test_a_problem_is_shown_at_once(page):
    """Even in a long plan that is folded."""
    record = a_run(rows=60)
    bad = Row("zz.weight", ("their/zz",), "shape_mismatch", (), (3,), note="expected (4,)")
    html = page(replace(record, plan=replace(record.plan, rows=(*record.plan.rows, bad))))
    folded = re.findall(r"<details(?! open).*?</details>", html, flags=re.S)
    assert "zz.weight" in html
    assert not any("zz.weight" in part for part in folded)


def test_the_same_record_gives_the_same_bytes(page):
    """So that reports can be compared."""
    assert page(a_run()) == page(a_run())


def test_the_stages_of_a_schedule_are_a_table(page):
    """What trains from which epoch, on how many bytes; and in the list of epochs, where it began."""
    stages = (
        Stage(0, ("head",), 27, ("mean",), 32, 768, 0.5),
        Stage(2, ("conv3", "norm3"), 483, ("norm2",), 1536, note="it does not pay"),
    )
    run = a_run()
    html = page(replace(run, history=replace(run.history, stages=stages)))
    assert "Unfrozen step by step" in html
    assert '<code>conv3 | norm3</code></td><td class="r n">483' in html
    assert "768 bytes, computed from those of the last cut in 0.500 s" in html
    assert html.count("<code>conv3 | norm3</code>") == 2
    assert "it does not pay" in html
    assert "Unfrozen step by step" not in page(run)


def test_epochs_count_from_0_everywhere(page):
    """As in a schedule, and it says so: in the text, the table, the charts, and where the best one was."""
    html = page(a_run(epochs=3))
    assert "The validation loss was lowest in epoch 2. Epochs count from 0, as in a schedule." in html
    assert [f"epoch {number}: " in html for number in range(4)] == [True, True, True, False]
    assert [f'<th scope="row" class="r">{number}</th>' in html for number in range(4)] == [True, True, True, False]


def test_numbers_as_labels_have_a_loss_and_no_accuracy(page):
    """A regression's page has no section of accuracies."""
    run = replace(a_run(), scores={"test": Score(None, None, 20, 0.6)})
    assert "How accurate it is" not in page(run)


SECTIONS = ("accuracy", "examples", "training", "reused", "depth", "frozen")


def test_the_advice_on_depth_has_its_chart_its_words_and_its_table(page):
    """Without it there is no such section."""
    html = page(a_run())
    assert "of a linear head against the depth" in html
    text = text_of(html)
    assert "Freeze up to layer&lt;0&gt;." in html
    assert "80.0 ± 4.0" in text
    assert 'id="depth"' not in page(replace(a_run(), advice=None))


def test_accuracy_comes_first_beside_what_needs_no_model(page):
    """Then the examples, the training, and only then where the layers come from."""
    html = page(a_run())
    order = [html.index(f'<section id="{name}">') for name in SECTIONS]
    assert order == sorted(order)
    text = text_of(html)
    assert "always “class0”: 0.47" in text  # 9 of 19 test examples; each class has as many training examples
    assert "Weakest class 90.0 % of class1 found; mostly taken for class0" in text
    assert "By chance 0.500" in text


def test_each_class_has_precision_recall_f1_and_support(page):
    """Of class1 9 of 10 are found, and all that is taken for it belongs to it; 50 were trained on."""
    assert "class1 100 % 90.0 % 0.947 10 50 class0" in text_of(page(a_run()))


def test_examples_have_their_picture_their_answer_and_the_true_class_of_a_mistake(page):
    """An example without a picture has its name; the answers' calibration is drawn."""
    html = page(a_run())
    assert html.count(f'<img src="{PICTURE}"') == 1
    text = text_of(html)
    assert "class0 0.90" in text
    assert "y.png class0 0.60 is class1" in text
    assert "class1 taken for class0" in text
    assert "Expected calibration error 0.350" in text  # (0.1 + 0.6) / 2
    assert "the model is too sure" in text
    assert "1 answers with a probability of 0.90 on average: 100% are right" in html


def test_values_of_an_epoch_are_shown_on_hover(page):
    """Without a script, for as many epochs as a reader can point at."""
    assert "epoch 1: training 0.5, validation 0.9" in page(a_run())
    assert page(a_run(epochs=1000)).count('class="column"') == 2 * 120
