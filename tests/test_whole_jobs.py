"""Whole jobs on other inputs than images: job, saved model, prediction."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from contracts.test_sound import write_wave
from regraft.errors import JobError
from regraft.recipe import predict, reuse
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
