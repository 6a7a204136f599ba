"""Everyday tasks on models as people have them: the head on cached features, the whole model and a plain loop agree."""

import copy
import os
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.caching import cache_features
from regraft.evaluating import evaluate
from regraft.examples import as_examples, call
from regraft.freezing import freeze
from regraft.learning.solvers import Steps
from regraft.splitting import split
from regraft.training import train

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BATCH, EPOCHS, LR = 4, 2, 0.1


class UNet(nn.Module):
    """An encoder, a decoder that takes both of its maps, and scores (batch, classes, height, width)."""

    def __init__(self, classes=3):
        super().__init__()
        self.encoder = nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)])
        mixed = nn.Conv2d(12, 6, 3, padding=1)
        self.decoder = nn.Sequential(mixed, nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, classes, 1))

    def forward(self, x):
        fine = self.encoder[0](x).relu()
        coarse = F.interpolate(self.encoder[1](fine).relu(), scale_factor=2)
        return self.decoder(torch.cat([fine, coarse], 1))


class TwoInputs(nn.Module):
    """A picture and a row of numbers; a class and an age."""

    def __init__(self):
        super().__init__()
        self.picture, self.numbers = nn.Linear(6, 8), nn.Linear(3, 4)
        self.kind, self.age = nn.Linear(12, 3), nn.Linear(12, 1)

    def forward(self, picture, numbers):
        both = torch.cat([self.picture(picture).relu(), self.numbers(numbers).relu()], 1)
        return {"kind": self.kind(both), "age": self.age(both)}


class Scored(nn.Module):
    """The logits of a model of transformers, called by position."""

    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x):
        return self.model(**{self.name: x}).logits


def texts(count=8, *, tags=3):
    """Token ids of different lengths with their mask, and a tag for each but the first."""
    rows = []
    for index in range(count):
        length = 3 + index % 4
        ids = torch.randint(2, 20, (length,))
        rows.append(({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [-100, *(ids[1:] % tags).tolist()]))
    return rows


def bert():
    config = transformers.BertConfig(vocab_size=20, num_labels=3, classifier_dropout=0.0, **SMALL)
    return transformers.BertForTokenClassification(config), "bert", texts(), None, by_last_axis


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0
    )
    rows = [({"input_ids": ids}, ids) for ids in torch.randint(20, (8, 7))]
    return transformers.GPT2LMHeadModel(config), "transformer", rows, "language-model", next_token


def t5():
    config = transformers.T5Config(
        vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )  # fmt: skip
    rows = []
    for ids in torch.randint(2, 20, (8, 6)):
        rows.append(({"input_ids": ids, "decoder_input_ids": torch.cat([torch.zeros(1).long(), ids[:-1]])}, ids))
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())  # not tied to the embeddings
    return model, "shared|encoder|decoder", rows, "masked-language-model", by_last_axis


def vit():
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **SMALL)
    model = Scored(transformers.ViTForImageClassification(config), "pixel_values")
    rows = [(torch.randn(3, 8, 8), index % 3) for index in range(8)]
    return model, "model.vit", rows, None, F.cross_entropy


def several_labels():
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **SMALL)
    model = Scored(transformers.ViTForImageClassification(config), "pixel_values")
    rows = [(torch.randn(3, 8, 8), torch.tensor([1.0, index % 2, 0.0])) for index in range(8)]
    return model, "model.vit", rows, "multilabel", F.binary_cross_entropy_with_logits


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2, num_labels=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8, mask_time_prob=0.0, **SMALL,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForSequenceClassification(config)
    rows = [({"input_values": torch.randn(200)}, index % 2) for index in range(8)]
    return model, "wav2vec2", rows, None, by_last_axis


def unet():
    rows = []
    for index in range(8):
        mask = torch.randint(3, (6, 6))
        mask[0] = 255
        rows.append((torch.randn(1, 6, 6) + index, mask))
    ignoring = nn.CrossEntropyLoss(ignore_index=255)
    return UNet(), "encoder", rows, ignoring, ignoring


def two_targets():
    rows = [((torch.randn(6), torch.randn(3)), {"kind": index % 3, "age": 20.0 + index}) for index in range(8)]

    def loss(outputs, labels):
        return F.cross_entropy(outputs["kind"], labels["kind"]) + F.mse_loss(
            outputs["age"][:, 0], labels["age"].float()
        )

    return TwoInputs(), "picture|numbers", rows, None, loss


def by_last_axis(outputs, labels):
    return F.cross_entropy(outputs.logits.reshape(-1, outputs.logits.shape[-1]), labels.reshape(-1))


def next_token(outputs, labels):
    logits = outputs.logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


MODELS = {made.__name__: made for made in (bert, gpt2, t5, vit, several_labels, wav2vec2, unet, two_targets)}


def prepared(name):
    """Three equal models with a frozen trunk, their data, the task or loss to pass, and the loss of a plain loop."""
    torch.manual_seed(0)
    model, frozen, rows, asked, loss = MODELS[name]()
    freeze(model, frozen)
    return model, copy.deepcopy(model), copy.deepcopy(model), rows, asked, loss


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=LR)


def plain_loop(model, rows, batches, loss):
    """SGD as anybody writes it; returns the mean loss of each epoch."""
    optimizer = sgd([p for p in model.parameters() if p.requires_grad])
    examples, losses = as_examples(rows), []
    model.train()
    for _ in range(EPOCHS):
        values = []
        for indices in batches:
            inputs, labels = examples.gather(indices)
            value = loss(call(model, inputs), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        losses.append(sum(values) / len(values))
    return losses


@pytest.mark.parametrize("name", MODELS)
def test_head_whole_model_and_plain_loop_agree(name):
    """Batches of the composition of the cache: head and model have the same bits; the loop, too, where it runs them."""
    model, whole, reference, rows, asked, loss = prepared(name)
    batches = list(torch.arange(len(rows)).split(BATCH))
    solver = Steps(optimizer=sgd, epochs=EPOCHS, batch_size=BATCH, order=lambda _: batches)
    given = {"task": asked} if isinstance(asked, str) else {"loss": asked}
    inputs, _ = as_examples(rows).gather(torch.arange(2))
    trunk, head = call(partial(split, model), inputs)
    features = cache_features(trunk, rows, batch_size=BATCH)

    by_head = train(head, features, solver=solver, **given)
    by_model = train(whole, rows, solver=solver, **given)
    by_loop = plain_loop(reference, rows, batches, loss)

    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(map(torch.equal, trained, [p for p in whole.parameters() if p.requires_grad]))
    # The loop sums a large loss or another form of a small model in another order.
    expected = [p for p in reference.parameters() if p.requires_grad]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(trained, expected, strict=True))
    assert by_head.train_loss == by_model.train_loss == pytest.approx(by_loop, rel=1e-5)

    score = evaluate(head, features, batch_size=BATCH)
    assert score == evaluate(whole, rows, batch_size=BATCH)
    reference.eval()
    every, labels = as_examples(rows).gather(torch.arange(len(rows)))
    with torch.no_grad():
        assert score.loss == pytest.approx(float(loss(call(reference, every), labels)), rel=1e-4)
