"""Whole jobs on other inputs than images: job, saved model, prediction."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from contracts.test_sound import write_wave
from regraft.errors import JobError, RegraftError, SaveError
from regraft.learning.loggers import CsvLogger
from regraft.recipe import predict, reuse
from regraft.saving import load
from texts_on_disk import WORDS, write_tokenizer

NETS = """
import torch
from torch import nn


class Texts(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.embed, self.trunk, self.head = nn.Embedding(18, 8), nn.Linear(8, 8), nn.Linear(8, outputs)

    def forward(self, input_ids, attention_mask):
        states = self.trunk(self.embed(input_ids)).tanh() * attention_mask[..., None]
        return {"logits": self.head(states.sum(1) / attention_mask.sum(1, keepdim=True))}


class Sounds(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.trunk, self.head = nn.Conv1d(1, 4, 9, 4), nn.Linear(4, outputs)

    def forward(self, waves):
        return self.head(self.trunk(waves[:, None]).relu().mean(2))


class Mixed(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 4, 3), nn.Linear(5, outputs)

    def forward(self, image, numbers):
        return self.head(torch.cat([self.trunk(image).mean((2, 3)), numbers], 1))


class Rows(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.trunk, self.head = nn.Linear(2, 8), nn.Linear(8, outputs)

    def forward(self, numbers):
        return self.head(self.trunk(numbers).relu())


class Tagger(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.embed, self.trunk, self.head = nn.Embedding(18, 8), nn.Linear(8, 8), nn.Linear(8, outputs)

    def forward(self, input_ids, attention_mask):
        return {"logits": self.head(self.trunk(self.embed(input_ids)).tanh() * attention_mask[..., None])}


class Segmenter(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, outputs, 1)

    def forward(self, images):
        return self.head(self.trunk(images).tanh())
"""
JOB = """
[checkpoint]
path = "theirs.safetensors"
[model]
factory = "net.py:{net}"
[plan]
fresh = "head"
[freeze]
trainable = "head"
[cache]
use = true
[train.steps]
epochs = 30
lr = 0.1
batch_size = 8
"""


def write_job(folder, net, sections):
    """A job for one of the nets, whose trunk is in a checkpoint."""
    (folder / "net.py").write_text(NETS)
    names = {}
    exec(NETS, names)
    torch.manual_seed(0)
    save_file(names[net]().state_dict(), folder / "theirs.safetensors")
    (folder / "job.toml").write_text(JOB.format(net=net) + sections)
    return folder / "job.toml"


def answers_of(run, *paths):
    """Class by name."""
    return [answer.label for answer in predict(run.folder, list(paths))]


def test_a_job_of_texts_is_predicted_from_tables_and_lines(tmp_path):
    """The tokenizer travels; a text of another length is never padded, so its answer is its own."""
    write_tokenizer(tmp_path / "tokenizer")
    random = np.random.default_rng(0)
    rows = []
    for number in range(40):
        words = [*random.choice(WORDS[:4], 1 + number % 3), *[("good", "bad")[number % 2]] * 2]
        rows.append(json.dumps({"text": " ".join(words), "label": ("yes", "no")[number % 2]}))
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    job = write_job(tmp_path, "Texts", '[data]\ntrain = "train.jsonl"\n[text]\ntokenizer = "tokenizer"\n')
    run = reuse(job)
    assert run.metrics["validation"]["accuracy"] == 1
    shutil.rmtree(tmp_path / "tokenizer")
    (tmp_path / "new.csv").write_text("text\na very good film\nthe bad bad cat\n")
    (tmp_path / "new.txt").write_text("a very good film\nthe bad bad cat\n")
    assert answers_of(run, tmp_path / "new.csv") == answers_of(run, tmp_path / "new.txt") == ["yes", "no"]


def test_a_job_of_sounds_is_predicted_from_files(tmp_path):
    """In folders by class, as images are."""
    for name, step in (("high", 1.0), ("low", 0.1)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(8):
            wave = np.sin(np.arange(200) * step * (1 + number / 50)).astype(np.float32) / 2
            write_wave(tmp_path / "train" / name / f"{number}.wav", 2, samples=wave)
    run = reuse(write_job(tmp_path, "Sounds", '[data]\ntrain = "train"\n[sound]\nrate = 8000\n'))
    assert run.metrics["validation"]["accuracy"] == 1
    files = [tmp_path / "train/low/3.wav", tmp_path / "train/high/3.wav"]
    assert answers_of(run, *files) == ["low", "high"]


def test_a_job_of_images_with_a_table_is_predicted_from_a_table(tmp_path):
    """The scale of the numbers travels: the same person in another table has the same answer."""
    rows = []
    for number in range(24):
        Image.new("RGB", (6, 6), "gray").save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{20 + number + 30 * (number > 11)},{'old' if number > 11 else 'young'}")
    (tmp_path / "train.csv").write_text("\n".join(["path,age,label", *rows]))
    sections = '[data]\ntrain = "train.csv"\n[input]\nsize = 6\n[numbers]\ncolumns = ["age"]\nstandardize = true\n'
    run = reuse(write_job(tmp_path, "Mixed", sections))
    assert run.metrics["validation"]["accuracy"] == 1
    (tmp_path / "new.csv").write_text("path,age\n0.png,61\n0.png,22\n")
    assert answers_of(run, tmp_path / "new.csv") == ["old", "young"]


def test_a_job_predicts_numbers_in_the_unit_of_the_table(tmp_path):
    """Several columns; MAE and R² in the metrics, and no class anywhere."""
    rows = [f"{a},{b},{3 * a - b},{a + b + 10}" for a in range(-4, 5) for b in range(-4, 5)]
    (tmp_path / "train.csv").write_text("\n".join(["a,b,price,weight", *rows]))
    sections = '[data]\ntrain = "train.csv"\nlabels = ["price", "weight"]\n[numbers]\ncolumns = ["a", "b"]\n'
    job = write_job(tmp_path, "Rows", sections + '[train]\ntask = "regression"\n')
    job.write_text(
        job.read_text().replace("[plan]", "args = {outputs = 2}\n[plan]").replace("epochs = 30", "epochs = 200")
    )
    run = reuse(job)
    score = run.record.scores["validation"]
    assert (score.accuracy, run.metrics["validation"]["accuracy"]) == (None, None)
    assert score.metrics["r2"] > 0.95
    assert "mean_absolute_error" in run.summary()
    (tmp_path / "new.csv").write_text("a,b\n2,1\n")
    (answer,) = predict(run.folder, [tmp_path / "new.csv"])
    with torch.no_grad():
        price, weight = load(run.folder)(torch.tensor([[2.0, 1.0]]))[0].tolist()
    assert answer.values == {"price": price, "weight": weight}


def test_a_job_learns_several_labels(tmp_path):
    """Columns of 0 and 1; each label by itself."""
    random = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{int(a > 0)},{int(b > 0)}" for a, b in random.normal(size=(60, 2))]
    (tmp_path / "train.csv").write_text("\n".join(["a,b,right,up", *rows]))
    sections = '[data]\ntrain = "train.csv"\nlabels = ["right", "up"]\n[numbers]\ncolumns = ["a", "b"]\n'
    job = write_job(tmp_path, "Rows", sections)
    job.write_text(job.read_text().replace("[plan]", "args = {outputs = 2}\n[plan]"))
    run = reuse(job)
    assert run.record.scores["validation"].metrics["f1"] > 0.9
    (tmp_path / "new.csv").write_text("a,b\n2,2\n-2,-2\n2,-2\n")
    assert [answer.labels for answer in predict(run.folder, [tmp_path / "new.csv"])] == [
        ("right", "up"),
        (),
        ("right",),
    ]


def test_a_job_tags_words(tmp_path):
    """Lists of other lengths, padded for training with the tokenizer's own token."""
    write_tokenizer(tmp_path / "tokenizer")
    random = np.random.default_rng(0)
    rows = []
    for number in range(40):
        words = [str(word) for word in random.choice(WORDS, 2 + number % 5)]
        rows.append(
            json.dumps({"text": words, "tags": ["animal" if word in ("cat", "dog") else "O" for word in words]})
        )
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    run = reuse(write_job(tmp_path, "Tagger", '[data]\ntrain = "train.jsonl"\n[text]\ntokenizer = "tokenizer"\n'))
    assert run.record.scores["validation"].metrics["accuracy"] > 0.9
    assert "Always “O”" in (run.folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "new.jsonl").write_text(json.dumps({"text": ["a", "dog", "mat", "cat"]}))
    (answer,) = predict(run.folder, [tmp_path / "new.jsonl"])
    assert (answer.words, answer.tags[:3]) == (("a", "dog", "mat", "cat"), ("O", "animal", "O"))


def test_a_job_segments_images(tmp_path):
    """Masks beside images; the answers are masks of the images' size."""
    for part in ("images", "masks"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for number in range(12):
        is_bright = np.arange(6) > np.full((4, 1), number % 5)
        pixels = np.where(is_bright[..., None], 220, 30).astype(np.uint8).repeat(3, 2)
        Image.fromarray(pixels).save(tmp_path / f"train/images/{number}.png")
        Image.fromarray(is_bright.astype(np.uint8)).save(tmp_path / f"train/masks/{number}.png")
    job = write_job(tmp_path, "Segmenter", '[data]\ntrain = "train"\n[input]\nsize = [4, 6]\n')
    job.write_text(job.read_text().replace("epochs = 30", "epochs = 150"))
    run = reuse(job)
    assert run.record.scores["validation"].metrics["mean_iou"] > 0.8
    (answer,) = predict(run.folder, [tmp_path / "train/images/0.png"], masks=tmp_path / "out")
    theirs = np.asarray(Image.open(tmp_path / "train/masks/0.png"))
    assert (np.asarray(Image.open(answer.mask)) == theirs).mean() > 0.9


def test_a_job_trains_a_language_model_on_texts(tmp_path):
    """Each token is predicted from those before it."""
    write_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "book.txt").write_text("the cat sat on a dog . " * 60)
    sections = '[data]\ntrain = "book.txt"\n[text]\ntokenizer = "tokenizer"\nmax_length = 8\n'
    job = write_job(tmp_path, "Tagger", sections)
    job.write_text(job.read_text().replace("[plan]", "args = {outputs = 18}\n[plan]"))
    run = reuse(job)
    assert run.record.scores["validation"].metrics["perplexity"] < 1.5
    (tmp_path / "new.txt").write_text("the cat sat\n")
    (answer,) = predict(run.folder, [tmp_path / "new.txt"])
    assert (answer.token.strip(), answer.probability > 0.5) in (("on", True), ("[SEP]", True), ("the", True))


def test_an_interrupted_job_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    """The finished epochs are beside the run; nobody loses them by mistake."""
    rows = [f"{a},{b},{a - b}" for a in range(-4, 5) for b in range(-4, 5)]
    (tmp_path / "train.csv").write_text("\n".join(["a,b,price", *rows]))
    sections = '[data]\ntrain = "train.csv"\nlabels = "price"\n[numbers]\ncolumns = ["a", "b"]\n'
    job = write_job(tmp_path, "Rows", sections + '[train]\ntask = "regression"\n')
    weights = load_file(reuse(job).folder / "model.safetensors")
    rows_of_run = (tmp_path / "run/epochs.csv").read_text().splitlines()
    assert len(rows_of_run) == 31
    shutil.rmtree(tmp_path / "run")

    epoch_end = CsvLogger.epoch_end

    def stop(self, end):
        epoch_end(self, end)
        if end.epoch == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(CsvLogger, "epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        reuse(job)
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    with pytest.raises(SaveError, match=r"(?s)run\.unfinished has the finished epochs.*Pass --resume to go on with it"):
        reuse(job)
    run = reuse(job, resume=True)

    again = load_file(run.folder / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    ours = [line.split(",")[2:] for line in (tmp_path / "run/epochs.csv").read_text().splitlines()]
    assert ours == [line.split(",")[2:] for line in rows_of_run]  # but for the seconds
    assert not (tmp_path / "run.unfinished").exists()


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ('metrics = ["f2"]', "f2"),
        ("class_weights = [1.0]", "class_weights|weights"),
        ('task = "multilabel"\nloss = "huber"', 'expected "binary_cross_entropy"'),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_computed(tmp_path, train, words):
    """Not after hours."""
    (tmp_path / "train.csv").write_text("a,b,label\n" + "".join(f"{n},{n},{'xy'[n % 2]}\n" for n in range(8)))
    sections = '[data]\ntrain = "train.csv"\n[numbers]\ncolumns = ["a", "b"]\n[train]\n'
    job = write_job(tmp_path, "Rows", sections + train + "\n")
    job.write_text(job.read_text().replace("[plan]", "args = {outputs = 2}\n[plan]"))
    lines = []
    with pytest.raises(RegraftError, match=words):
        reuse(job, tell=lines.append)
    assert not any("bytes per example" in line for line in lines)


def test_arguments_that_forward_does_not_have_are_named(tmp_path):
    """With those that it has."""
    rows = "\n".join(f"{number}.png,{number},{'ab'[number % 2]}" for number in range(6))
    for number in range(6):
        Image.new("RGB", (6, 6)).save(tmp_path / f"{number}.png")
    (tmp_path / "train.csv").write_text(f"path,age,label\n{rows}")
    sections = '[data]\ntrain = "train.csv"\n[input]\nsize = 6\n[numbers]\ncolumns = ["age"]\n'
    job = write_job(tmp_path, "Mixed", sections)
    job.write_text(job.read_text().replace("[plan]", 'inputs = {image = "pixels"}\n[plan]'))
    with pytest.raises(Exception, match="They are passed as pixels, numbers; forward takes image, numbers"):
        reuse(job)


def test_mistakes_in_the_new_sections_are_named(tmp_path):
    """With what each key takes."""
    job = write_job(tmp_path, "Texts", '[data]\ntrain = "a.csv"\n[text]\nmax_length = "long"\n[sound]\nrat = 1\n')
    with pytest.raises(JobError) as caught:
        reuse(job)
    for line in ("[text] tokenizer is missing: expected a text", '[text] max_length is "long": expected a whole number',
                 "[sound] rate is missing", "[sound] has no key 'rat'. Did you mean 'rate'?"):  # fmt: skip
        assert line in str(caught.value)
