"""Values that a converter changed are asked for, and the advised word gives the original's values."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import arrays_of, checkpoint_of
from regraft.arrays import Requirement
from regraft.loading import apply_plan
from regraft.matching import plan_reuse

HEADS, SIZE = 2, 8


class Attention(nn.Module):
    """Queries turned by a rotary embedding, in pairs of rows (Meta) or in two halves (transformers)."""

    def __init__(self, name, *, interleaved):
        super().__init__()
        self.name, self.interleaved = name, interleaved
        setattr(self, name, nn.Linear(4, HEADS * SIZE, bias=True))

    def forward(self, x):
        rows = getattr(self, self.name)(x).view(len(x), HEADS, SIZE)
        a, b = (rows[..., ::2], rows[..., 1::2]) if self.interleaved else rows.chunk(2, -1)
        angle = torch.linspace(0.1, 1, SIZE // 2)
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def nested(*path, module):
    for name in reversed(path):
        module = nn.ModuleDict({name: module})
    return module


def meta(module):
    return nested("layers", "0", module=nn.ModuleDict({"attention": module}))


@pytest.mark.parametrize(("interleaved", "word"), [(True, "rotary"), (False, "interleaved")])
def test_rows_of_another_rotary_order_are_a_problem_with_the_word_that_mends_them(interleaved, word):
    """By Meta's names on one side, transformers' on the other; both directions, kernels and biases."""
    theirs = Attention("wq" if interleaved else "q_proj", interleaved=interleaved)
    ours = Attention("q_proj" if interleaved else "wq", interleaved=not interleaved)
    their_model, our_model = (meta(theirs), ours) if interleaved else (theirs, meta(ours))
    checkpoint = checkpoint_of(arrays_of(their_model), layout="torch")
    rule = r"layers\.\d+\.attention\.wq\.(.*)" if interleaved else r"q_proj\.(.*)"
    rename = {rule: r"q_proj.\1" if interleaved else r"layers.0.attention.wq.\1"}

    plan = plan_reuse(checkpoint, our_model, rename=rename)
    adapt = {".*": f"{word} {HEADS} heads"}
    apply_plan(plan_reuse(checkpoint, our_model, rename=rename, adapt=adapt), checkpoint, our_model)
    x = torch.randn(3, 4)

    assert [row.status for row in plan.problems] == ["undecidable_orientation"] * 2
    assert set(plan.problems[0].advice[0].value.values()) == {f"{word} HEADS heads"}
    assert not plan_reuse(checkpoint, our_model, rename=rename, adapt={".*": "as stored"}).problems
    assert torch.equal(ours(x), theirs(x))


def test_the_same_names_on_both_sides_have_the_same_order():
    model = meta(Attention("wq", interleaved=True))

    assert not plan_reuse(checkpoint_of(arrays_of(model), layout="torch"), model).problems


def test_a_file_that_knows_its_heads_advises_the_whole_word():
    facts = (Requirement("q", "row_order", "rotary"), Requirement("q", "num_heads", 2))
    checkpoint = checkpoint_of({"q.weight": np.ones((8, 3), "float32")}, layout="torch", requirements=facts)

    plan = plan_reuse(checkpoint, nn.ModuleDict({"q": nn.Linear(3, 8, bias=False)}))

    assert plan.problems[0].advice[0].value == {"q.weight": "rotary 2 heads"}


def test_heads_that_do_not_divide_the_rows_are_a_problem():
    checkpoint = checkpoint_of({"q.weight": np.ones((8, 3), "float32")}, layout="torch")

    plan = plan_reuse(checkpoint, nn.ModuleDict({"q": nn.Linear(3, 8, bias=False)}), adapt={"q": "rotary 3 heads"})

    assert "8 rows are not 3 heads of an even size" in plan.problems[0].note


@pytest.mark.parametrize(("word", "expected"), [("minus 1", [0.0, 1.0]), ("as stored", [1.0, 2.0])])
def test_a_norm_that_holds_one_more_is_a_problem(word, expected):
    """Gemma's norms compute with 1 + w; llama.cpp's converter stores the sum."""
    arrays = {"output_norm.weight": np.array([1.0, 2.0], "float32")}
    facts = (Requirement("output_norm", "norm_offset", 1), Requirement("output_norm", "eps", 1e-5))
    checkpoint = checkpoint_of(arrays, layout="torch", requirements=facts)
    model = nn.ModuleDict({"output_norm": nn.RMSNorm(2, eps=1e-5)})

    plan = plan_reuse(checkpoint, model)
    apply_plan(plan_reuse(checkpoint, model, adapt={"output_norm": word}), checkpoint, model)

    assert plan.problems[0].advice[0].value == {"output_norm.weight": "minus 1"}
    assert model.output_norm.weight.tolist() == expected


class Joined(nn.Module):
    """Queries, keys and values of one projection, by heads or by parts."""

    def __init__(self, name, *, by_heads):
        super().__init__()
        self.name, self.by_heads = name, by_heads
        setattr(self, name, nn.Linear(4, 3 * HEADS * SIZE))

    def forward(self, x):
        rows = getattr(self, self.name)(x)
        return rows.view(len(x), HEADS, 3, SIZE).transpose(1, 2) if self.by_heads else rows.view(len(x), 3, HEADS, SIZE)


@pytest.mark.parametrize(("by_heads", "word"), [(True, "parts first"), (False, "heads first")])
def test_a_projection_joined_in_another_order_is_a_problem_with_the_word_that_mends_it(by_heads, word):
    names = ("query_key_value", "qkv") if by_heads else ("qkv", "query_key_value")
    theirs, ours = Joined(names[0], by_heads=by_heads), Joined(names[1], by_heads=not by_heads)
    checkpoint = checkpoint_of(arrays_of(theirs), layout="torch")
    rename = {rf"{names[0]}\.(.*)": rf"{names[1]}.\1"}

    asked = plan_reuse(checkpoint, ours, rename=rename)
    plan = plan_reuse(checkpoint, ours, rename=rename, adapt={".*": f"{word} of 3 in {HEADS} heads"})
    apply_plan(plan, checkpoint, ours)

    x = torch.randn(3, 4)
    assert [row.advice[0].value for row in asked.problems] == [
        {f"{names[1]}.{leaf}": f"{word} of 3 in HEADS heads"} for leaf in ("weight", "bias")
    ]
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)  # other rows, other order of sums


def test_a_weight_without_an_average_is_not_filled_raw_in_silence():
    """Statistics have no averages of their own: they are taken."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    arrays = arrays_of(model) | {f"ema.{name}": array for name, array in arrays_of(model).items() if name == "0.weight"}
    checkpoint = checkpoint_of(arrays, layout="torch", roles={"ema.0.weight": "ema"})

    plan = plan_reuse(checkpoint, model, ema=True)
    answered = plan_reuse(checkpoint, model, ema=True, adapt={r"0\.bias|1\..*": "as stored"})

    assert {row.name for row in plan.problems} == {"0.bias", "1.weight", "1.bias"}
    assert "none of this weight" in plan.problems[0].note
    assert not answered.problems


@pytest.mark.parametrize("best", ["best_model", "best_state_dict", "model_best"])
def test_two_copies_of_a_network_are_asked_for(best):
    """A trainer's last weights, and its best ones beside them."""
    model = nn.Sequential(nn.Linear(2, 3))
    arrays = {f"{root}.{name}": array for root in ("model", best) for name, array in arrays_of(model).items()}

    plan = plan_reuse(checkpoint_of(arrays, layout="torch"), model)
    alone = plan_reuse(checkpoint_of({name: arrays[name] for name in arrays if name.startswith(best)}), model)

    assert {row.status for row in plan.problems} == {"ambiguous"}
    assert {row.sources[0] for row in alone.rows if row.sources} == {f"{best}.0.weight", f"{best}.0.bias"}
