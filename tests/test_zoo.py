"""A few models of the zoo, cut and compared with the unsplit model; `make zoo` does all of them."""

import copy
import warnings

import pytest
import torch
import zoo
import zoo_models

import regraft

QUICK = [
    ("torchvision:squeezenet1_1", 0.6), ("timm:test_byobnet", 0.6), ("transformers:BertForSequenceClassification", 0.6),
    ("transformers:T5ForConditionalGeneration", 0.25), ("transformers:SegformerForSemanticSegmentation", 0.9),
    ("transformers:Wav2Vec2ForCTC", 0.6), ("plain:Recurrent", 0.6), ("plain:Translator", 0.6),
]  # fmt: skip
TRAJECTORIES = [
    "plain:Recurrent", "plain:Translator", "torchvision:squeezenet1_1", "timm:test_byobnet",
    "transformers:BertForSequenceClassification", "transformers:DistilBertForSequenceClassification",
    "transformers:GPT2ForSequenceClassification", "transformers:T5ForConditionalGeneration",
    "transformers:ViTForImageClassification", "transformers:ConvNextForImageClassification",
]  # fmt: skip


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
    """Three epochs over shuffled batches, dropout on: every loss and the final state are equal in every bit."""
    model, inputs = built(name)
    zoo.freeze_share(model, 0.6)
    other = copy.deepcopy(model)
    batches = [inputs(4, seed) for seed in range(3)]
    trunk, head = regraft.split(model, *batches[0][0], **batches[0][1])
    features = [{leaf: zoo.stored(rows) for leaf, rows in trunk(*args, **kwargs).items()} for args, kwargs in batches]

    cached = losses(model, [lambda kept=kept: head(kept) for kept in features])
    uncached = losses(other, [lambda args=args, kwargs=kwargs: other(*args, **kwargs) for args, kwargs in batches])

    assert cached == uncached
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.state_dict().items())


def losses(model, forwards):
    """The losses of nine steps over the batches, in an order drawn anew in each epoch."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    seen = []
    for epoch in range(3):
        for index in torch.randperm(len(forwards), generator=torch.Generator().manual_seed(epoch)):
            zoo.seed_everything(100 * epoch + int(index))
            outputs = [out for out in zoo.tensors_of(forwards[index]()) if out.requires_grad]
            loss = sum(out.float().square().mean() for out in outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    return seen
