"""Trunk and head together are the model."""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from regraft.errors import FreezeError, SplitError
from regraft.freezing import freeze
from regraft.splitting import split
from regraft.tensors.trees import map_tree


class Skip(nn.Module):
    """A skip from the first layer to the last, dropout between, and a dictionary out."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 3)

    def forward(self, x, *, scale=None):
        first = self.first(x).relu_()
        second = self.drop(self.norm(self.second(first)))
        if scale is not None:
            second = second * scale
        return {"logits": self.last(second + first), "first": first}


def same_step(model, head, trunk, *args, **kwargs):
    """Whether model and head give the same outputs from the same random state."""
    torch.manual_seed(1)
    expected = model(*args, **kwargs)
    features = trunk(*args, **kwargs)
    torch.manual_seed(1)
    got = head(features)
    return all(torch.equal(got[key], expected[key]) for key in expected)


def test_a_skip_crosses_as_a_second_leaf():
    """Both tensors are found, named by their layers."""
    model = Skip()
    freeze(model, "first|second")

    trunk, _ = split(model, torch.randn(4, 6))

    assert [leaf.name for leaf in trunk.cut.leaves] == ["first", "second"]
    assert trunk.cut.bytes_per_example == 2 * 8 * 4


def test_the_head_gives_what_the_model_gives_for_other_batch_sizes():
    """Keyword arguments, dropout and a dictionary of outputs included; the frozen ones too."""
    model = Skip().train()
    freeze(model, "first")
    trunk, head = split(model, torch.randn(4, 6), scale=torch.ones(4, 1))

    assert same_step(model, head, trunk, torch.randn(7, 6), scale=torch.rand(7, 1))


def test_splitting_leaves_no_trace():
    """Buffers, gradients, random state and modes are as before."""
    model = Skip().train()
    freeze(model, "first")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)

    torch.manual_seed(3)
    trunk, _ = split(model, torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    trunk(torch.zeros(4, 6))

    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_training_the_head_trains_the_model():
    """The head's parameters are the model's trainable ones."""
    model = Skip()
    freeze(model, "first|second")
    trunk, head = split(model, torch.randn(4, 6))

    head(trunk(torch.randn(4, 6)))["logits"].sum().backward()

    assert {id(p) for p in head.parameters()} == {id(p) for p in model.parameters() if p.requires_grad}
    assert model.last.weight.grad is not None
    assert model.first.weight.grad is None


def test_head_modes_are_the_models():
    """Evaluation switches the dropout off; the frozen layers stay in evaluation."""
    model = Skip()
    freeze(model, "first")
    _, head = split(model, torch.randn(4, 6))

    head.train()
    assert model.drop.training
    assert not model.first.training
    head.eval()
    assert not model.drop.training


def test_pooling_goes_to_the_frozen_side():
    """A function without a layer as well: the features are 16 times smaller."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 2)

        def forward(self, x):
            return self.out(torch.flatten(nn.functional.adaptive_avg_pool2d(self.conv(x).relu(), 1), 1))

    model = Pooled()
    freeze(model, "conv")

    trunk, _ = split(model, torch.randn(2, 3, 4, 4))

    assert trunk.cut.bytes_per_example == 5 * 4


def test_no_data_reaches_a_skipped_layer():
    """A frozen layer does not run in the head."""
    model = Skip()
    freeze(model, "first|second")
    trunk, head = split(model, torch.randn(4, 6))
    features = trunk(torch.randn(4, 6))
    calls = []
    model.second.register_forward_pre_hook(lambda module, args: calls.append(args[0]))

    with torch.no_grad():
        model.second.weight.fill_(float("nan"))
    out = head(features)["logits"]

    assert torch.isfinite(out).all()


def test_nothing_frozen_cuts_at_the_inputs():
    """The same training loop works."""
    trunk, head = split(Skip(), torch.randn(4, 6))
    assert [leaf.name for leaf in trunk.cut.leaves] == ["input:x"]
    assert "the inputs themselves" in str(trunk.cut)
    assert len(list(head.parameters())) == 8


def test_everything_frozen_cuts_at_the_output():
    """The head has nothing to train, and says so."""
    model = Skip()
    freeze(model, ".*")

    trunk, head = split(model, torch.randn(4, 6))

    assert list(head.parameters()) == []
    assert "nothing to train" in str(trunk.cut)
    assert same_step(model, head, trunk, torch.randn(5, 6))


def test_data_classes_are_rebuilt():
    """A model may give any structure."""

    @dataclass
    class Result:
        score: torch.Tensor
        name: str

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return Result(self.b(self.a(x)), "fine")

    model = Model()
    freeze(model, "a")
    trunk, head = split(model, torch.randn(2, 3))
    x = torch.randn(5, 3)
    assert torch.equal(head(trunk(x)).score, model(x).score)


def test_a_random_frozen_layer_is_refused_by_name():
    """One draw for all epochs is not what the model does."""

    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x + torch.randn_like(x) * self.weight

    model = nn.Sequential(nn.Linear(3, 3), Noise(), nn.Linear(3, 3))
    freeze(model, "[01]")
    with pytest.raises(FreezeError, match="1 is frozen, but its forward draws random numbers"):
        split(model, torch.randn(2, 3))


def test_features_of_another_cut_are_refused():
    """The message names the leaves."""
    model = Skip()
    freeze(model, "first|second")
    _, head = split(model, torch.randn(4, 6))
    with pytest.raises(SplitError, match="The features lack second; they hold first"):
        head({"first": torch.randn(4, 8)})


def test_deeper_features_come_from_the_cached_ones():
    """After freezing more, no input is needed."""
    model = Skip()
    example, x = torch.randn(4, 6), torch.randn(5, 6)
    freeze(model, "first")
    shallow, _ = split(model, example)
    cached = shallow(x)
    freeze(model, "second|norm")

    deep, head = split(model, example)
    deeper = deep.step_from(shallow)(cached)

    expected = deep(x)
    assert deeper.keys() == expected.keys()
    assert all(torch.equal(deeper[name], expected[name]) for name in expected)
    model.eval()
    assert torch.equal(head(deeper)["logits"], model(x)["logits"])


def test_the_description_is_stable_and_names_what_the_features_depend_on():
    """Two splits of equal models are described alike."""
    torch.manual_seed(0)
    model = Skip()
    freeze(model, "first|second")
    one, _ = split(model, torch.randn(4, 6))
    two, _ = split(model, torch.randn(4, 6))
    assert one.describe() == two.describe()
    assert sorted(one.frozen_tensors()) == ["first.bias", "first.weight", "second.bias", "second.weight"]


def test_a_training_step_of_the_head_can_be_traced():
    """make_fx gives a flat list of operators in which no frozen layer runs."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    freeze(model, "[01]")
    trunk, head = split(model, torch.randn(4, 6))
    features = trunk(torch.randn(4, 6))
    parameters = dict(head.named_parameters())

    def step(parameters, features):
        loss = functional_call(head, parameters, (features,)).square().mean()
        return loss, torch.autograd.grad(loss, list(parameters.values()))

    graph = make_fx(step)(parameters, features)
    loss, gradients = graph(parameters, features)

    expected_loss, expected = step(parameters, features)
    assert torch.equal(loss, expected_loss)
    assert all(torch.equal(got, want) for got, want in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("is_training", [True, False])
def test_both_modes_are_fed_by_the_same_leaves(is_training):
    """A dropout layer hands its input on in evaluation: the leaf keeps the name of the layer that made it."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).train(is_training)
    freeze(model, "0")

    trunk, head = split(model, torch.randn(4, 6))

    features = trunk(torch.randn(5, 6))
    assert set(features) == {leaf.name for leaf in trunk.cut.leaves}
    assert len(trunk.cut.leaves) == 1
    assert head.train(not is_training)(features).shape == (5, 3)


BATCH_WIDE = {
    "largest": lambda x: x / x.abs().max(),
    "highest": lambda x: x / x.max(),
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "from lowest to highest": lambda x: (x - x.min()) / (x.max() - x.min()),
    "middle": lambda x: x - x.median(),
    "a Python number": lambda x: x / x.abs().max().item(),
    "the first row": lambda x: x - x[:1],
}


@pytest.mark.parametrize("rows", [2, 8])
@pytest.mark.parametrize("name", BATCH_WIDE)
def test_what_depends_on_the_whole_batch_never_crosses_as_a_row(name, rows):
    """Cached with other batch-mates such features would be wrong, and nothing would tell."""

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.outputs = nn.Linear(10, 10), nn.Linear(10, 3)

        def forward(self, x):
            return self.outputs(self.frozen(BATCH_WIDE[name](x)))

    torch.manual_seed(0)
    model = Mixing()
    freeze(model, "frozen")
    trunk, _ = split(model, torch.randn(rows, 10))
    assert [leaf.name for leaf in trunk.cut.leaves] == ["input:x"] or not trunk.cut.by_row


class Yields(nn.Linear):
    """A forward that is a generator: its work is done later."""

    def forward(self, x):
        yield super().forward(x)


@pytest.mark.parametrize(
    ("make", "x", "told"),
    [
        (torch.jit.script, torch.zeros(2, 6), "The model is TorchScript"),
        (lambda model: nn.Sequential(torch.compile(model)), torch.zeros(2, 6), "0 is compiled, so its layers"),
        (nn.Sequential, (torch.zeros(2, 6),), "The example holds a nested tensor"),
        (lambda _: Yields(6, 2), torch.zeros(2, 6), "its output holds no tensor"),
        (nn.Sequential, torch.zeros(2, 5), "The model cannot run the example: mat1 and mat2"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # TorchScript, nested tensors
def test_what_cannot_be_watched_is_refused_in_a_sentence(make, x, told):
    """With a way out."""
    x = torch.nested.nested_tensor(list(x)) if isinstance(x, tuple) else x
    with pytest.raises(SplitError, match=told):
        split(make(nn.Linear(6, 2)), x)


def test_a_layers_own_dice_are_thrown_as_in_the_model():
    """A generator of random numbers that the model holds goes back to where it stood."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)
            self.dice = torch.Generator().manual_seed(3)

        def forward(self, x):
            return self.last(self.first(x) + torch.randn(x.shape, generator=self.dice))

    model = Noisy()
    freeze(model, "first")
    before = model.dice.get_state()
    trunk, head = split(model, torch.randn(4, 6))
    assert torch.equal(model.dice.get_state(), before)
    x = torch.randn(4, 6)
    expected = model(x)
    model.dice.set_state(before)
    assert torch.equal(head(trunk(x)), expected)


class Pictures(nn.Module):
    """Pictures of several sizes in a list, each through the trunk by itself."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, pictures):
        return self.last(torch.stack([self.first(picture[None]).relu().mean((0, 2, 3)) for picture in pictures]))


def test_features_of_a_whole_batch_are_refused_for_another_number_of_pictures():
    """By name, with the way out; other pictures of the same number are served, and nothing else is among the leaves."""
    model = Pictures().train()
    freeze(model, "first")

    def pictures(count):
        return [torch.rand(3, 6 + index, 7) for index in range(count)]

    trunk, head = split(model, pictures(2))
    batch = pictures(2)
    features = trunk(batch)

    assert not trunk.cut.by_row
    assert set(features) == {leaf.name for leaf in trunk.cut.leaves}
    assert torch.equal(head(features), model(batch))
    for count in (1, 3):
        with pytest.raises(SplitError, match=rf"(?s)is a list of {count}; on the example .* 2.*Split again on such a"):
            trunk(pictures(count))
    again, head = split(model, pictures(3))
    batch = pictures(3)
    assert torch.equal(head(again(batch)), model(batch))


def test_features_of_one_row_need_no_mode_that_one_row_cannot_run():
    """BatchNorm does not train on one row; in evaluation the trunk does not try."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.norm(self.first(x))) + self.last(self.norm(self.first(2 * x)))

    model = Twice()
    freeze(model, "first")
    trunk, head = split(model, torch.randn(4, 6))
    x = torch.randn(1, 6)
    model.eval()
    assert torch.equal(head(trunk(x)), model(x))


def test_a_head_is_cut_again_after_more_layers_were_frozen():
    """By the example of its split; the way from its features to the deeper ones is a trunk for the cache."""
    model, x = Skip(), torch.randn(4, 6)
    freeze(model, "first")
    trunk, head = split(model, x)
    rows = trunk(x)
    freeze(model, "second|norm")

    part, deeper_head = head.recut()

    assert [leaf.name for leaf in part.cut.leaves] != [leaf.name for leaf in trunk.cut.leaves]
    model.eval()
    assert torch.equal(deeper_head(part(rows))["logits"], model(x)["logits"])
    assert part(**rows).keys() == part(rows).keys()
    assert part.describe()["from"] == ["first"]
    assert "second.weight" in part.frozen_tensors()


def test_a_way_that_gives_other_features_than_the_inputs_is_refused():
    """The features of the example that the head was split on are not those of the model any more."""
    model = Skip()
    freeze(model, "first")
    _, head = split(model, torch.randn(4, 6))
    with torch.no_grad():
        model.first.weight += 1
    freeze(model, "second")

    with pytest.raises(SplitError, match=r"second.* cannot be computed from the features of the shallower cut"):
        head.recut()


def test_only_trunks_of_one_model_follow_each_other():
    """Another model's features are not these."""
    trunks = []
    for _ in range(2):
        model = Skip()
        freeze(model, "first")
        trunks.append(split(model, torch.randn(4, 6))[0])
    with pytest.raises(SplitError, match="only be carried on from a trunk of the same model"):
        trunks[0].step_from(trunks[1])


class Remembers(nn.Module):
    """Two layers, each of which leaves its output in a cache that is part of the outputs, as decoders do."""

    class Cache:
        def __init__(self):
            self.layers = []

    class Layer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.linear = nn.Linear(width, 6)

        def forward(self, x, cache):
            out = self.linear(x)
            cache.layers.append([Box(out)])
            return out[:, :3]

    def __init__(self):
        super().__init__()
        self.first, self.second = Remembers.Layer(6), Remembers.Layer(3)

    def forward(self, x):
        cache = Remembers.Cache()
        out = self.second(self.first(x, cache), cache)
        return {"out": out, "cache": cache}


class Box:
    """Hides a tensor from a look into containers."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_a_cache_that_frozen_layers_fill_is_not_handed_out_with_holes():
    """The rest of the outputs is the model's; whoever asks for the cache is told where to get it."""
    model, x = Remembers(), torch.randn(4, 6)
    freeze(model, "first")
    trunk, head = split(model, x)

    outputs = head(trunk(x))

    assert torch.equal(outputs["out"], model(x)["out"])
    assert repr(outputs["cache"]) == "<Cache without the part of the frozen layers>"
    for ask in (lambda c: c.layers, lambda c: c[0], len, list):
        with pytest.raises(SplitError, match="The Cache of the outputs lacks what the frozen layers put into it"):
            ask(outputs["cache"])
    assert len(copy.deepcopy(outputs["cache"]).__dict__) == 1


def test_a_cache_that_only_trained_layers_fill_is_the_models():
    """Nothing is missing in it."""
    model, x = Remembers(), torch.randn(4, 6)
    trunk, head = split(model, x)
    assert len(head(trunk(x))["cache"].layers) == 2


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_decoders_split_with_the_cache_that_they_keep_by_default(family):
    """`use_cache` is True in transformers' configurations: logits and gradients are the model's."""
    import transformers

    options = {
        "GPT2": {"n_layer": 3, "n_embd": 16, "n_head": 2, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0},
        "Llama": {"num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    }[family]
    config = getattr(transformers, f"{family}Config")(vocab_size=30, pad_token_id=0, **options)
    model = getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM"))(config)
    freeze(model, {"GPT2": r"transformer\.(wte|wpe|h\.[01])", "Llama": r"model\.(embed_tokens|layers\.[01])"}[family])
    ids = torch.randint(1, 30, (3, 7))
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    assert config.use_cache

    trunk, head = split(model, **arguments)
    model.eval()
    outputs, expected = head(trunk(**arguments)), model(**arguments)

    assert not [leaf.name for leaf in trunk.cut.leaves if "attn" in leaf.name]  # no keys and values of frozen layers

    assert torch.equal(outputs.logits, expected.logits)
    assert torch.equal(outputs.loss, expected.loss)
    assert len(expected.past_key_values) == 3
    with pytest.raises(SplitError, match=r"(?s)The DynamicCache of the outputs lacks.*Call the model itself"):
        outputs.past_key_values.get_seq_length()


def test_a_decoder_of_many_layers_keeps_the_last_ones_output_alone():
    """OPT, whose attention has functions that give back their argument; each asked for data once."""
    import transformers

    config = transformers.OPTConfig(
        vocab_size=30, hidden_size=16, ffn_dim=24, num_hidden_layers=9, num_attention_heads=2, num_labels=2,
        max_position_embeddings=16, word_embed_proj_dim=16,
    )  # fmt: skip
    model = transformers.OPTForSequenceClassification(config)
    freeze(model, trainable="score")
    ids = torch.randint(2, 30, (2, 7))

    trunk, head = split(model, input_ids=ids)

    assert "model.decoder.final_layer_norm" in [leaf.name for leaf in trunk.cut.leaves]
    assert trunk.cut.bytes_per_example < 2 * 7 * 16 * 4
    model.eval()
    assert torch.equal(head(trunk(input_ids=ids)).logits, model(input_ids=ids).logits)


def test_pictures_that_lie_channels_last_have_rows():
    """As most people make an example of images that NumPy reads."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 3)
    )
    freeze(model, "0|2")
    pictures = torch.randn(4, 12, 12, 3).permute(0, 3, 1, 2)

    trunk, head = split(model, pictures, at="2")

    assert trunk.cut.by_row
    assert [leaf.name for leaf in trunk.cut.leaves] == ["2"]
    model.eval()
    assert torch.equal(head(trunk(pictures)), model(pictures))


SETTINGS = {
    "eps": (lambda model: setattr(model[1], "eps", 0.1), r"1\.eps was 1e-05 and is 0\.1"),
    "flag": (lambda model: setattr(model[0].config, "fast", True), r"config\.fast was False and is True"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_changed_after_the_split_is_noticed(name):
    """By the trunk, and by the head when training or evaluation begins; put back, both go on."""
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Dropout(0.5), nn.Linear(6, 6), nn.Linear(6, 2))
    model[0].config, model.steps = SimpleNamespace(fast=False), 0
    freeze(model, "[0123]")
    trunk, head = split(model, torch.randn(4, 6))
    model.steps, before = 7, model[1].eps
    head.train()

    change, message = SETTINGS[name]
    change(model)

    for use in (head.train, head.eval, lambda: trunk(torch.randn(4, 6))):
        with pytest.raises(SplitError, match=f"(?s){message}.*Call `split` again"):
            use()
    model[0].config.fast, model[1].eps = False, before
    head.eval()(trunk(torch.randn(4, 6)))


def test_a_frozen_layer_that_counts_its_runs_is_no_change():
    """The counter moves while it is split."""

    class Counts(nn.Linear):
        runs = 0

        def forward(self, x):
            self.runs = self.runs + 1
            return super().forward(x)

    model = nn.Sequential(Counts(6, 6), nn.Linear(6, 2))
    freeze(model, "0")
    trunk, head = split(model, torch.randn(4, 6))
    x = torch.randn(4, 6)
    assert torch.equal(head(trunk(x)), model(x))
    trunk(x)


def test_a_tied_parameter_that_trains_is_named():
    """`lm_head` trainable makes the embedding trainable: nothing is saved, and the note says why."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.inner, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.inner(self.table(ids)))

    model = Tied()
    freeze(model, trainable="head")
    trunk, _ = split(model, torch.randint(0, 9, (4, 3)))
    assert "table.weight and head.weight are one tied parameter, and it is trainable" in trunk.cut.note
    model.head.weight = nn.Parameter(model.table.weight.detach().clone())
    freeze(model, trainable="head")
    assert "tied" not in split(model, torch.randint(0, 9, (4, 3)))[0].cut.note


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_parameters_without_a_gradient_are_named():
    """Reentrant checkpointing behind frozen layers trains nothing, split or not."""

    class Checkpointed(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.reentrant = reentrant

        def forward(self, x):
            return self.last(checkpoint(self.second, self.first(x), use_reentrant=self.reentrant))

    for reentrant in (True, False):
        model = Checkpointed(reentrant)
        freeze(model, "first")
        note = split(model, torch.randn(4, 6))[0].cut.note
        assert ("gives no gradient to second.weight, second.bias" in note) is reentrant


@pytest.mark.parametrize(
    ("whole", "advice"), [({"x": 1}, r"split\(model, \*\*batch\)"), ([1], r"split\(model, \*batch\)")]
)
def test_a_batch_in_one_piece_is_answered_with_how_to_unpack_it(whole, advice):
    """As data loaders give it: a dictionary, or a list."""
    batch = map_tree(lambda _: torch.randn(2, 4), whole, kind=int)

    with pytest.raises(SplitError, match=rf"cannot run the example: .*\n.*pass them so: {advice}\."):
        split(nn.Sequential(nn.Linear(4, 3)), batch)
