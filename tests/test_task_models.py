"""Everyday tasks on models as people have them: the head on cached features, the whole model and a plain loop agree."""

import copy
import math
import os
from functools import partial
from operator import mul

import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics
from torch import nn

from regraft.caching import cache_features
from regraft.collecting import predictions
from regraft.errors import DataError
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
        values, counts = [], []
        for indices in batches:
            inputs, labels = examples.gather(indices)
            value = loss(call(model, inputs), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
            counts.append(float(known(labels).sum()) if torch.is_tensor(labels) else len(indices))
        losses.append(sum(map(mul, values, counts)) / sum(counts))
    return losses


def known(labels):
    """Where there is a label."""
    return (labels != -100) & (labels != 255)


def metrics_by_hand(name, outputs, labels):
    """The metrics of each task, by scikit-learn."""
    if name == "two_targets":
        ages = labels["age"].float(), outputs["age"][:, 0]
        return {
            "kind.accuracy": metrics.accuracy_score(labels["kind"], outputs["kind"].argmax(1)),
            "age.mean_absolute_error": metrics.mean_absolute_error(*ages),
            "age.r2": metrics.r2_score(*ages),
        }
    logits = outputs if torch.is_tensor(outputs) else outputs.logits
    if name == "several_labels":
        return {
            "accuracy": float(((logits > 0) == (labels == 1)).float().mean()),
            "f1": metrics.f1_score(labels, logits > 0, average="macro", zero_division=0),
        }
    if name == "gpt2":
        logits, labels = logits[:, :-1], labels[:, 1:]
    rows = (logits.movedim(1, -1) if name == "unet" else logits)[known(labels)]
    true, predicted = labels[known(labels)], rows.argmax(1)
    by_hand = {"accuracy": metrics.accuracy_score(true, predicted)}
    if name == "unet":
        by_hand["mean_iou"] = metrics.jaccard_score(true, predicted, average="macro", zero_division=0)
    if name in ("gpt2", "t5"):
        by_hand["perplexity"] = math.exp(metrics.log_loss(true, rows.double().softmax(1), labels=range(20)))
    return by_hand


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
        outputs = call(reference, every)
        assert score.loss == pytest.approx(float(loss(outputs, labels)), rel=1e-4)
        assert score.metrics == pytest.approx(metrics_by_hand(name, outputs, labels), rel=1e-3)


def segformer():
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_labels=3, hidden_sizes=[8, 8], num_encoder_blocks=2, depths=[1, 1], sr_ratios=[1, 1], decoder_hidden_size=8,
        num_attention_heads=[1, 1], strides=[4, 2], patch_sizes=[7, 3], mlp_ratios=[1, 1], classifier_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def test_masks_of_more_pixels_than_outputs_are_learned_as_by_the_models_own_loss():
    """SegFormer gives a quarter of the height and width."""
    model, reference = segformer(), segformer()
    images, masks = torch.randn(4, 3, 16, 24), torch.randint(3, (4, 16, 24))
    masks[:, 0] = 255
    for each in (model, reference):
        freeze(each, "segformer")
    trunk, head = split(model, images[:2])
    features = cache_features(trunk, (images, masks))
    ignoring = nn.CrossEntropyLoss(ignore_index=255)
    solver = Steps(optimizer=sgd, epochs=2, order=lambda _: [torch.arange(4)])
    history = train(head, features, loss=ignoring, solver=solver)
    optimizer, losses = sgd([p for p in reference.parameters() if p.requires_grad]), []
    reference.train()
    reference.segformer.eval()
    for _ in range(2):
        optimizer.zero_grad()
        value = reference(images, labels=masks).loss
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))

    assert history.train_loss == pytest.approx(losses, rel=1e-5)
    assert "the outputs of 4 × 6 are enlarged to the 16 × 24 of the masks" in history.notes[0]
    answers = predictions(head, features)
    assert answers.outputs.shape == (4, 3, 4, 6)
    assert answers.probabilities.shape == (4, 3, 16, 24)
    expected = answers.probabilities.argmax(1)[masks != 255] == masks[masks != 255]
    assert evaluate(head, features).accuracy == pytest.approx(float(expected.float().mean()))


def test_masks_of_another_size_are_refused():
    """No whole number of pixels for each output: a mask that was resized otherwise than its image."""
    with pytest.raises(DataError, match="takes whole numbers of the shape"):
        evaluate(nn.Conv2d(1, 3, 1), (torch.randn(2, 1, 14, 14), torch.zeros(2, 16, 16).long()), task="segmentation")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_mask_is_made_of_texts_that_are_padded(name):
    """The whole model on padded batches gives what each text alone gives; so do features of a trunk with a mask."""
    torch.manual_seed(0)
    settings = {"vocab_size": 20, "num_labels": 2, "pad_token_id": 1}
    if name == "bert":
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**settings, **SMALL))
    else:
        config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, **settings)
        model = transformers.GPT2ForSequenceClassification(config)
    model.eval()
    rows = [({"input_ids": torch.randint(2, 20, (3 + index % 3,))}, index % 2) for index in range(6)]
    with torch.no_grad():
        alone = torch.cat([model(input_ids=inputs["input_ids"][None]).logits for inputs, _ in rows])

    by_model = predictions(model, rows)
    freeze(model, "bert|transformer")
    ids = torch.randint(2, 20, (2, 7))
    trunk, head = split(model, input_ids=ids, attention_mask=torch.ones_like(ids))
    by_head = predictions(head, cache_features(trunk, rows))

    assert torch.allclose(by_model.outputs, alone, atol=1e-6)  # other lengths, other order of sums
    assert torch.allclose(by_head.outputs, alone, atol=1e-6)
