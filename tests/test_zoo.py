"""A few models of the zoo, cut and compared with the unsplit model; `make zoo` does all of them."""

import copy
import warnings

import pytest
import torch
import zoo
import zoo_models

import regraft
from regraft.tensors.trees import map_tree

QUICK = [
    ("torchvision:squeezenet1_1", 0.6), ("timm:test_byobnet", 0.6), ("transformers:BertForSequenceClassification", 0.6),
    ("transformers:T5ForConditionalGeneration", 0.25), ("transformers:SegformerForSemanticSegmentation", 0.9),
    ("transformers:Wav2Vec2ForCTC", 0.6), ("plain:Recurrent", 0.6), ("plain:Translator", 0.6),
]  # fmt: skip
TRAJECTORIES = [
    "plain:Recurrent",
    "plain:Translator",  # two inputs; encoder and decoder
    "torchvision:squeezenet1_1",
    "timm:test_byobnet",  # BatchNorm
    "transformers:BertForSequenceClassification",  # padding masks; outputs that are a dictionary, from here on
    "transformers:DistilBertForSequenceClassification",
    "transformers:GPT2ForSequenceClassification",
    "transformers:T5ForConditionalGeneration",  # three inputs; encoder and decoder
    "transformers:ViTForImageClassification",
    "transformers:ConvNextForImageClassification",
    "transformers:CLIPModel",  # pictures and text
    "transformers:Wav2Vec2ForCTC",
]


def built(name):
    """A model of the zoo; what libraries warn of while they build is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zoo_models.build(name)


@pytest.mark.parametrize(("name", "share"), QUICK)
def test_trunk_and_head_are_the_model(name, share):
    """Outputs, gradients and buffers, in training and evaluation, for another number of rows."""
    model, inputs = built(name)
    result = zoo.judge(model, inputs, share)
    assert result["verdict"] == "equal", result["why"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_training_on_cached_features_is_training_the_model(name):
    """Three epochs in another order each, dropout on: every loss and the final state are equal in every bit.

    Each batch keeps its examples: matrix products may round a row by its index in the batch (those of ViT and CLIP do
    on an AMD EPYC with two threads), so only batches of the same composition have the same bits.
    """
    torch.manual_seed(0)
    model, inputs = built(name)
    zoo.freeze_share(model, 0.6)
    other = copy.deepcopy(model)
    args, kwargs = inputs(12, 1)
    data = (kwargs or args, torch.arange(12) % 2)
    example = map_tree(lambda tensor: tensor[:4], data[0])
    trunk, head = regraft.split(model, **example) if kwargs else regraft.split(model, *example)
    features = regraft.cache_features(trunk, data, batch_size=4)
    batches = torch.arange(12).split(4)
    solver = regraft.Steps(epochs=3, order=lambda epoch: [batches[(epoch + i) % 3] for i in range(3)], lr=1e-4)

    cached = regraft.train(head, features, loss=waves, solver=solver)
    uncached = regraft.train(other, data, loss=waves, solver=solver)

    assert cached.train_loss == uncached.train_loss
    assert len(set(cached.train_loss)) == 3
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.state_dict().items())


def waves(outputs, labels):
    """A loss for outputs of any kind; every value counts."""
    return sum(torch.sin(out.float()).mean() for out in zoo.tensors_of(outputs) if out.is_floating_point())
