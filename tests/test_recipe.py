"""The whole way, on a small job; and what happens when any part of it cannot go on."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from regraft import Steps, errors, load, save, train
from regraft.jobs.job import Job
from regraft.recipe import advise_on, predict, reuse
from regraft.saving import Factory
from small_models import same_weights

FOLDER = [
    "answers.csv", "epochs.csv", "metrics.json", "model.safetensors", "net.py", "plan.json", "regraft.json",
    "report.html",
]  # fmt: skip


def test_a_job_leaves_a_whole_run_folder(job_file):
    """Weights, plan, metrics, report; the trained model can be used at once."""
    run = reuse(job_file)

    assert sorted(path.name for path in run.folder.iterdir()) == FOLDER
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert (metrics["test"]["count"], metrics["validation"]["count"], metrics["epochs"]) == (16, 4, 3)
    assert metrics["frozen"] == ["0", "1"]
    assert set(metrics["seconds"]) == {"reading", "features", "training", "evaluation"}
    assert metrics["cut"]["bytes_per_example"] == 16
    assert "What was reused" in (run.folder / "report.html").read_text()
    assert "accuracy" in run.summary()


def test_the_frozen_layers_are_those_of_the_checkpoint(job_file):
    """Bit for bit, batch statistics included."""
    run = reuse(job_file)
    theirs = np.load(job_file.parent / "theirs.npz")
    ours = load_file(run.folder / "model.safetensors")
    assert np.array_equal(ours["0.weight"].numpy(), theirs["0/kernel"].transpose(3, 2, 0, 1))
    assert np.array_equal(ours["1.running_var"].numpy(), theirs["1/moving_variance"])


def test_a_cache_changes_no_bit_of_the_result(job_file):
    """In memory, in a folder, from that folder again, and without a cache: the same weights."""
    settings = (["cache.use=false"], ["cache.use=true"], ["cache.folder='f'"], ["cache.folder='f'"])
    states = []
    for number, extra in enumerate(settings):
        # the same batch size in the trunk and in training: another one may round differently
        run = reuse(Job.from_file(job_file, [*extra, f"out.folder='run{number}'"]))
        states.append(load(run.folder).state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


def test_the_saved_model_predicts_what_it_learned(job_file):
    """Through the input contract, by name."""
    run = reuse(Job.from_file(job_file, ["train.epochs=30"]))
    answers = predict(run.folder, [job_file.parent / "test"])
    assert len(answers) == 16
    assert sum(answer.label in answer.name for answer in answers) >= 15


def test_the_same_job_gives_the_same_weights(job_file):
    """Seeds hold, the fresh layers' initial weights included."""
    first, second = (reuse(Job.from_file(job_file, [f"out.folder='{name}'"])) for name in "ab")
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_user_is_told_what_happens(job_file):
    """The plan, the cut and the cost, as the work goes on."""
    told = []
    reuse(job_file, tell=told.append)
    assert any("6 reused" in line for line in told)
    assert any("bytes per example" in line for line in told)


def test_training_images_can_be_stored_in_several_views(job_file):
    """Mirrored and shifted; validation and test stay as they are."""
    told = []
    run = reuse(Job.from_file(job_file, ["cache.views=3", "data.validation=0.25"]), tell=told.append)
    assert any("in 3 views" in line for line in told)
    assert run.metrics["test"]["count"] == 16


def damage_image(folder):
    (folder / "train/dark/00.png").write_bytes(b"damaged")


def empty_class(folder):
    for path in (folder / "train/dark").iterdir():
        path.unlink()


def one_class(folder):
    shutil.rmtree(folder / "train/dark")


def third_class(folder):
    shutil.copytree(folder / "train/light", folder / "train/lighter")


def truncate(folder):
    path = folder / "theirs.npz"
    path.write_bytes(path.read_bytes()[:200])


def no_checkpoint_inside(folder):
    (folder / "empty").mkdir()


def unknown(folder):
    (folder / "theirs.npz").write_bytes(b"this is no checkpoint" * 9)


def existing_run(folder):
    (folder / "run").mkdir()
    (folder / "run/precious").write_text("x")


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("harm", "settings", "kind", "told"),
    [
        (nothing, ["checkpoint.path='thiers.npz'"], "CheckpointError", "Did you mean 'theirs.npz'"),
        (no_checkpoint_inside, ["checkpoint.path='empty'"], "CheckpointError", "is a folder without a checkpoint"),
        (unknown, [], "CheckpointError", "has no known format"),
        (truncate, [], "CheckpointError", r"theirs.npz"),
        (nothing, ["plan.reuse='9'"], "PatternError", "'9'"),
        (nothing, ["plan.reuse='.*'"], "PlanError", r"5.weight[\s\S]*expected \(2, 4\)[\s\S]*5/kernel"),
        (nothing, ["plan.reuse='.*'", "plan.rename={'5/(.*)'='x/\\\\1'}"], "PlanError", r"5.weight[\s\S]*fresh"),
        (nothing, ["freeze.layers='nine'"], "PatternError", "'nine'"),
        (empty_class, [], "DataError", "no readable image of 1 of 2 classes: dark"),
        (one_class, [], "DataError", "of one class"),
        (damage_image, [], "DataError", r"00.png cannot be read as an image"),
        (third_class, [], "DataError", "has 2 outputs, and the training data have 3 classes: dark, light, lighter"),
        (nothing, ["model.args={classes=5}"], "DataError", "has 5 outputs, and the training data have 2 classes"),
        (nothing, ["data.train='.'"], "DataError", "holds test and train: parts of the data, not classes"),
        (nothing, ["train.lr=1e38", "train.optimizer='sgd'"], "TrainError", r"at step \d+ of epoch|no longer numbers"),
        (existing_run, [], "SaveError", r"exists already; nothing was changed[\s\S]*--overwrite"),
        (existing_run, ["out.overwrite=true"], "SaveError", "what regraft did not write there: precious"),
        (nothing, ["out.folder='.'", "out.overwrite=true"], "SaveError", r"holds the job: "),
        (nothing, ["out.folder='..'", "out.overwrite=true"], "SaveError", r"holds the job: "),
        (nothing, ["out.folder='train'", "out.overwrite=true"], "SaveError", r"holds the training data: .*train"),
        (nothing, ["out.folder='test'", "out.overwrite=true"], "SaveError", r"holds the test data: .*test"),
        (nothing, ["out.folder='/proc/run'"], "SaveError", r"/proc/run cannot be created"),
        (nothing, ["data.validation=99"], "DataError", "first 99 examples, but the training data have only 16"),
        (nothing, ["data.train='nowhere'"], "DataError", "These data do not exist"),
    ],
)
def test_bad_input_is_told_clearly_and_changes_nothing(job_file, harm, settings, kind, told):
    """Each with its own error class and its own words; no run folder, nothing lost."""
    folder = job_file.parent
    harm(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(getattr(errors, kind), match=told):
        reuse(Job.from_file(job_file, settings))
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before


def test_unreadable_images_can_be_skipped_and_are_counted_in_the_report(job_file):
    """Named in metrics and report."""
    damage_image(job_file.parent)
    run = reuse(Job.from_file(job_file, ["data.skip_unreadable=true"]))
    assert any("1 unreadable image skipped" in note and "00.png" in note for note in run.metrics["notes"])
    assert "00.png" in (run.folder / "report.html").read_text()


def test_stopping_in_the_middle_leaves_no_run_folder(job_file, monkeypatch):
    """Ctrl-C while the run folder is written."""
    import regraft.recipe

    def stopped(*arguments, **options):
        raise KeyboardInterrupt("stopped by the user")

    monkeypatch.setattr(regraft.recipe, "write_report", stopped)
    before = {path.name for path in job_file.parent.iterdir()}
    with pytest.raises(KeyboardInterrupt, match="stopped by the user"):
        reuse(job_file)
    assert {path.name for path in job_file.parent.iterdir()} - {"__pycache__"} == {*before, "run.unfinished"}
    monkeypatch.undo()
    assert reuse(job_file, resume=True).metrics["epochs"] == 3
    assert {path.name for path in job_file.parent.iterdir()} - {"__pycache__"} == {*before, "run"}


def test_a_job_unfreezes_by_a_schedule_and_a_cache_changes_no_bit(job_file):
    """Without [freeze] all that the schedule never trains is frozen; the record tells the stages."""
    text = job_file.read_text().replace('[freeze]\nlayers = "[01]"\n', "")
    job_file.write_text(text.replace("epochs = 3", 'epochs = 3\nschedule = {0 = "5", 2 = ["1"]}'))
    told = []
    runs = [
        reuse(Job.from_file(job_file, [f"cache.use={use}", f"out.folder='{use}'"]), tell=told.append)
        for use in ("true", "false")
    ]

    assert same_weights(*(run.model.state_dict() for run in runs))
    assert runs[0].metrics["frozen"] == ["0"]
    stages = runs[0].metrics["history"]["stages"]
    assert [(stage["first_epoch"], tuple(stage["layers"])) for stage in stages] == [(0, ("5",)), (2, ("1",))]
    assert any(line.startswith("epoch 2: 1 trains, ") for line in told)
    assert "Unfrozen step by step" in (runs[0].folder / "report.html").read_text()


def test_a_schedule_is_checked_before_any_feature_is_computed(job_file):
    """The job freezes the layer that its schedule wants to train."""
    job = Job.from_file(job_file, ['train.schedule={0 = "5", 1 = "1"}'])
    told = []
    with pytest.raises(errors.TrainError, match=r"epoch 1 of the schedule: 1 is frozen.*in a job leave out \[freeze\]"):
        reuse(job, tell=told.append)
    assert not any("Caching" in line for line in told)


def test_layers_that_the_model_lacks_are_told_before_anything_is_read(job_file):
    """Of [freeze] and the schedule at once; the checkpoint need not even be there."""
    settings = ["checkpoint.path=none", 'train.schedule={0 = "5", 1 = "fc", 2 = "head"}']
    job_file.write_text(job_file.read_text().replace('[freeze]\nlayers = "[01]"\n', '[freeze]\ntrainable = "9"\n'))
    with pytest.raises(errors.PatternError) as caught:
        reuse(Job.from_file(job_file, settings))
    names = "Names: 0, 1, 2, 3, 4, 5, 0.weight, 0.bias, 1.weight, 1.bias, 5.weight, 5.bias."
    assert str(caught.value).splitlines() == [
        "The job names layers that the model does not have.",
        f"  [freeze] trainable: No layer matches the pattern '9'. {names}",
        f"  [train.steps] schedule, epoch 1: No layer matches the pattern 'fc'. {names}",
        f"  [train.steps] schedule, epoch 2: No layer matches the pattern 'head'. {names}",
        "A pattern must match the whole dotted name of a layer, a parameter or a parent.",
    ]


def test_missing_data_are_told_before_anything_is_read(job_file):
    """All of them; a validation share is no path."""
    job = Job.from_file(job_file, ["data.train=photos", "data.test=none.npz", "checkpoint.path=none"])
    with pytest.raises(
        errors.DataError, match=r"These data do not exist:\n  \[data\] train = \"photos\": /.*/photos\n.*none.npz"
    ):
        reuse(job)


def test_a_jobs_plan_speaks_the_jobs_words(job_file):
    """In the table and in the error, which Python's words would not help."""
    job, told = Job.from_file(job_file, ["plan.reuse=.*"]), []
    with pytest.raises(errors.PlanError, match=r"Set \[plan\] fresh = \[\"5\"\] to keep the initial weights"):
        reuse(job, tell=told.append)
    assert 'Set [plan] fresh = ["5"] to keep the initial weights.' in told[0]


def test_the_cost_says_what_it_does_not_count(job_file):
    """It is of the training data; validation and test data are cached as well."""
    told = []
    run = reuse(Job.from_file(job_file), tell=told.append)
    (at,) = [number for number, line in enumerate(told) if line.startswith("Caching 12 examples")]
    others = "That is the training data alone; 4 examples for validation and 16 examples for test are cached as well."
    assert told[at + 1] == others
    assert run.record.cost == f"{told[at]} {others}"


def test_a_job_that_freezes_all_is_refused_before_any_data_are_read(job_file):
    """Not after hours of features, and in the job's words."""
    with pytest.raises(errors.TrainError, match=r"\[freeze\] leaves nothing to train"):
        reuse(Job.from_file(job_file, ["freeze.layers=.*"]))


def test_a_run_from_which_the_next_one_starts_is_not_replaced(job_file):
    """Its weights would be gone before the new ones are written."""
    run = reuse(job_file)
    settings = ["checkpoint.path='run/model.safetensors'", "plan.layout='torch'", "out.overwrite=true"]
    with pytest.raises(errors.SaveError, match=r"holds the checkpoint: .*model\.safetensors"):
        reuse(Job.from_file(job_file, settings))
    assert (run.folder / "model.safetensors").is_file()


def test_a_job_says_what_it_understood_before_it_trains(job_file):
    """Classes, counts, inputs and every note, on the screen as in the report."""
    folder = job_file.parent
    (folder / "train/dark/photo.HEIC").touch()
    shutil.copy(folder / "train/dark/00.png", folder / "test/dark/00.png")
    lines = []
    run = reuse(Job.from_file(job_file, ["data.validation=0"]), tell=lines.append)
    (index,) = [index for index, line in enumerate(lines) if "\ntrain      16 examples of 2 classes" in line]
    assert "inputs     3 × 8 × 8, values from 0" in lines[index]
    assert "note: train: 1 file left out, not images by their suffix: dark/photo.HEIC" in lines[index]
    assert "note: test: 1 example is byte for byte among the training examples" in lines[index]
    assert any("byte for byte" in note for note in run.metrics["notes"])
    assert index < min(number for number, line in enumerate(lines) if "bytes per example" in line)


def test_images_are_not_prepared_by_a_guess(job_file):
    """Where a file beside the checkpoint records how; the section to add is in the error."""
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 8, 8]}
    (job_file.parent / "config.json").write_text(json.dumps({"pretrained_cfg": config}))
    job_file.write_text(job_file.read_text().replace("[input]\nsize = 8\n", ""))
    with pytest.raises(errors.JobError, match=r"config\.json records how images are prepared[\s\S]*size = \[8, 8\]"):
        reuse(job_file)
    assert not (job_file.parent / "run").exists()


def test_a_model_of_another_loss_is_not_answered_by_a_softmax(tmp_path):
    """Several labels at once: each has a sigmoid of its own; unless the user says that one class applies."""
    model = torch.nn.Linear(3, 2)
    inputs = torch.randn(8, 3)
    np.savez(tmp_path / "rows.npz", x=inputs.numpy())
    loss = torch.nn.BCEWithLogitsLoss()
    train(model, (inputs, (inputs[:, :2] > 0).float()), loss=loss, solver=Steps(epochs=1))
    factory = Factory("torch.nn:Linear", {"in_features": 3, "out_features": 2})
    save(model, tmp_path / "run", classes=["a", "b"], factory=factory)
    with pytest.raises(errors.SaveError, match="trained with the loss binary_cross_entropy"):
        predict(tmp_path / "run", [tmp_path / "rows.npz"])
    save(model, tmp_path / "run", classes=["a", "b"], factory=factory, outputs="classes", overwrite=True)
    assert len(predict(tmp_path / "run", [tmp_path / "rows.npz"])) == 8
    train(model, (inputs, torch.arange(8) % 2), solver=Steps(epochs=1))
    save(model, tmp_path / "run", classes=["a", "b"], factory=factory, overwrite=True)
    assert len(predict(tmp_path / "run", [tmp_path / "rows.npz"])) == 8


def head_job(job_file, layers, *settings):
    """The job with a head on these layers and the default method."""
    text = job_file.read_text().replace('[freeze]\nlayers = "[01]"\n', "")
    job_file.write_text(text.replace("[train.steps]\nepochs = 3\nbatch_size = 4\nlr = 0.05\n", ""))
    return Job.from_file(job_file, [f"head.layers={layers}", *settings])


def test_a_head_on_several_layers_is_advised_trained_saved_and_predicts(job_file):
    """[advise] and [head]: the chart is in the report; the model's own head is no part of the answer."""
    run = reuse(head_job(job_file, "all", "advise.examples=10"))

    record = json.loads((run.folder / "regraft.json").read_text())
    assert [layer["place"] for layer in record["head"]["layers"]] == ["4"]  # the only place behind restored layers
    assert record["provenance"]["arrays"]["trunk.body.0.weight"]["origin"] == "checkpoint"
    assert {"advice", "training"} < set(run.metrics["seconds"])
    assert run.metrics["advice"]["count"] == 10
    page = (run.folder / "report.html").read_text()
    assert '<section id="depth">' in page
    assert "of a linear head against the depth" in page
    assert any("Exact" in note for note in run.record.history.notes)
    answers = predict(run.folder, [job_file.parent / "test"])
    right = np.mean([answer.label == answer.name.split("/")[-2] for answer in answers])
    assert right == run.metrics["test"]["accuracy"]


def test_advice_alone_trains_and_writes_nothing(job_file):
    """Up to the restored model."""
    advice = advise_on(job_file)
    assert [row.name for row in advice.rows][1:-1] == ["4"]
    assert not (job_file.parent / "run").exists()


def test_a_head_on_advised_layers_needs_advice(job_file):
    """Where the input is as good, or nothing is."""
    generator = np.random.default_rng(1)
    for path in (job_file.parent / "train").rglob("*.png"):
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    with pytest.raises(errors.TrainError, match=r'layers is "advised", and no layer is advised'):
        reuse(head_job(job_file, "advised"))
