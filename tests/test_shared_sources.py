"""One array of a checkpoint fills several layers, and several arrays one layer, as real models join and part them."""

import pytest
import torch
from torch import nn

import vision_stub  # noqa: F401  # timm imports torchvision
from in_memory import arrays_of, checkpoint_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan

WIDTH, HEADS, CLASSES = 12, 2, 3
IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
# timm's names → transformers', but for queries, keys and values.
TO_TRANSFORMERS = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    r"patch_embed\.proj\.(.*)": r"vit.embeddings.patch_embeddings.projection.\1",
    r"blocks\.(\d+)\.norm1\.(.*)": r"vit.layers.\1.layernorm_before.\2",
    r"blocks\.(\d+)\.norm2\.(.*)": r"vit.layers.\1.layernorm_after.\2",
    r"blocks\.(\d+)\.attn\.proj\.(.*)": r"vit.layers.\1.attention.o_proj.\2",
    r"blocks\.(\d+)\.mlp\.fc(\d)\.(.*)": r"vit.layers.\1.mlp.fc\2.\3",
    r"norm\.(.*)": r"vit.layernorm.\1",
    r"head\.(.*)": r"classifier.\1",
}
APART = {r"blocks\.(\d+)\.attn\.qkv\.(.*)": [rf"vit.layers.\1.attention.{part}_proj.\2" for part in "qkv"]}
PARTS = {rf".*\.{part}_proj": f"part {number} of 3" for number, part in enumerate("qkv", start=1)}


def randomised(model):
    """The model for inference, with no array at the value that a new one has."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    return model.eval()


def timm_vit():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=CLASSES
    ).eval()


def transformers_vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=16,
        patch_size=8,
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
    )
    return ViTForImageClassification(config).eval()


def plan_for(model, source, **wishes):
    """(the plan, after it went through JSON, its checkpoint)."""
    checkpoint = checkpoint_of(arrays_of(source), layout="torch")
    return Plan.from_json(plan_reuse(checkpoint, model, **wishes).to_json()), checkpoint


def filled(model, source, **wishes):
    """The model, with the weights of the source."""
    plan, checkpoint = plan_for(model, source, **wishes)
    apply_plan(plan, checkpoint, model)
    return model


def test_one_plan_takes_a_joined_projection_apart_between_two_libraries():
    """timm's ViT in transformers' gives timm's own numbers."""
    source = randomised(timm_vit())

    model = filled(transformers_vit(), source, rename={**TO_TRANSFORMERS, **APART}, adapt=PARTS)

    torch.testing.assert_close(model(IMAGES).logits, source(IMAGES), atol=1e-5, rtol=0)  # float32, other kernels


def test_which_rows_belong_to_which_layer_is_asked():
    """Thirds one after the other, or thirds in each head: the shapes are the same."""
    plan, _ = plan_for(transformers_vit(), timm_vit(), rename={**TO_TRANSFORMERS, **APART})

    open_rows = {row.target: row for row in plan.problems}
    assert len(open_rows) == 2 * 2 * 3
    advice = [item.value for item in open_rows["vit.layers.0.attention.v_proj.bias"].advice]
    name = "vit.layers.0.attention.v_proj.bias"
    assert advice == [{name: "part 3 of 3"}, {name: "part 3 of 3 in HEADS heads"}]


def test_a_joined_projection_without_a_rule_is_named_with_the_rule():
    plan, _ = plan_for(transformers_vit(), timm_vit(), rename=TO_TRANSFORMERS)

    (advice,) = {str(item) for row in plan.problems for item in row.advice if item.argument == "rename"}
    assert r'r"(.*)\.qkv\.(weight|bias)": [r"\1.q_proj.\2", r"\1.k_proj.\2", r"\1.v_proj.\2"]' in advice


def test_the_plan_prints_the_rule_for_many_layers():
    """What solves many rows is printed once, lists too."""
    plan, _ = plan_for(transformers_vit(), timm_vit(), rename=TO_TRANSFORMERS)

    assert r'r"(.*)\.qkv\.(weight|bias)": [r"\1.q_proj.\2"' in str(plan)


class Attention(nn.Module):
    """Queries, keys and values apart, as rows of one matrix, or as rows within each head (Megatron, GPT-NeoX)."""

    def __init__(self, joined):
        super().__init__()
        self.joined = joined
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH) if joined else None
        self.q, self.k, self.v = (None if joined else nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        if self.joined:
            q, k, v = self.query_key_value(x).reshape(*x.shape[:-1], HEADS, 3, WIDTH // HEADS).unbind(-2)
        else:
            q, k, v = (part(x).reshape(*x.shape[:-1], HEADS, WIDTH // HEADS) for part in (self.q, self.k, self.v))
        return torch.nn.functional.scaled_dot_product_attention(*(part.transpose(-2, -3) for part in (q, k, v)))


def test_parts_within_each_head_are_taken_apart():
    source, x = randomised(Attention(joined=True)), torch.randn(1, 5, WIDTH)

    rename = {r"query_key_value\.(.*)": [r"q.\1", r"k.\1", r"v.\1"]}
    adapt = {part: f"part {number} of 3 in {HEADS} heads" for number, part in enumerate("qkv", start=1)}
    model = filled(Attention(joined=False), source, rename=rename, adapt=adapt)

    torch.testing.assert_close(model(x), source(x), atol=1e-6, rtol=0)  # float32, other kernels


def test_conv1d_of_gpt2_is_transposed_and_taken_apart_in_one_word():
    """transformers' Conv1D is (in, out): its kernel turns first, and its bias needs no turn."""
    from transformers.pytorch_utils import Conv1D

    source = nn.ModuleDict({"c_attn": Conv1D(3 * WIDTH, WIDTH)})
    randomised(source)
    model = nn.ModuleDict({part: nn.Linear(WIDTH, WIDTH) for part in "qkv"})

    rename = {r"c_attn\.(.*)": [rf"{part}.\1" for part in "qkv"]}
    adapt = {part: f"transposed then part {number} of 3" for number, part in enumerate("qkv", start=1)}
    filled(model, source, rename=rename, adapt=adapt)

    x = torch.randn(4, WIDTH)
    torch.testing.assert_close(
        torch.cat([model[part](x) for part in "qkv"], 1), source["c_attn"](x), atol=1e-6, rtol=0
    )  # float32, other kernels


class Gated(nn.Module):
    """SiLU(gate) · up, as two layers or as rows of one (Phi-3, DINOv2's SwiGLU)."""

    def __init__(self, joined):
        super().__init__()
        self.gate_up = nn.Linear(4, 10) if joined else None
        self.gate, self.up = (None if joined else nn.Linear(4, 5) for _ in range(2))

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1) if self.gate_up is not None else (self.gate(x), self.up(x))
        return torch.nn.functional.silu(gate) * up


@pytest.mark.parametrize("joined", [True, False])
def test_gates_are_joined_and_taken_apart(joined):
    source, x = randomised(Gated(joined)), torch.randn(3, 4)

    wishes = (
        {"rename": {r"gate_up\.(.*)": [r"gate.\1", r"up.\1"]}, "adapt": {"gate": "part 1 of 2", "up": "part 2 of 2"}}
        if joined
        else {"rename": {r"gate\.(.*)": r"gate_up.part1.\1", r"up\.(.*)": r"gate_up.part2.\1"}}
    )
    model = filled(Gated(not joined), source, **wishes)

    torch.testing.assert_close(model(x), source(x), atol=1e-6, rtol=0)  # float32, other kernels


class Language(nn.Module):
    """An embedding and a layer of logits, tied or not."""

    def __init__(self, tied):
        super().__init__()
        self.embed, self.logits = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        if tied:
            self.logits.weight = self.embed.weight

    def forward(self, ids):
        return self.logits(self.embed(ids))


@pytest.mark.parametrize("tied", [True, False])
def test_one_table_fills_embedding_and_logits(tied):
    """transformers saves tied weights once; the model that takes them may keep two arrays."""
    source = Language(tied=True)
    once = nn.ModuleDict({"shared": source.embed})

    model = filled(Language(tied), once, rename={r"shared\.(.*)": [r"embed.\1", r"logits.\1"]})

    assert torch.equal(model(torch.arange(7)), source(torch.arange(7)))
    assert (model.embed.weight is model.logits.weight) == tied


def test_a_network_fills_both_branches_of_another():
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    model = nn.ModuleDict({name: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)) for name in "ab"})

    filled(model, source, rename={"(.*)": [r"a.\1", r"b.\1"]})

    for name in "ab":
        assert all(map(torch.equal, model[name].state_dict().values(), source.state_dict().values()))
