"""Arrays that do not fit are made to fit as asked, in a row that says how; never without a word."""

import numpy as np
import pytest
import torch
from torch import nn

import vision_stub  # noqa: F401  # timm imports torchvision
from in_memory import arrays_of, checkpoint_of
from regraft.errors import PlanError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan
from regraft.verifying import verify


def vit(size, **settings):
    """A vision transformer of timm with random values, for images of this size and patches of 8."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(img_size=size, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=3, **settings)


def filled(model, source, **wishes):
    """The plan, after it went through JSON and was applied."""
    checkpoint = checkpoint_of(arrays_of(source), layout="torch")
    plan = Plan.from_json(plan_reuse(checkpoint, model, **wishes).to_json())
    apply_plan(plan, checkpoint, model)
    return plan


@pytest.mark.parametrize("settings", [{}, {"class_token": False, "global_pool": "avg"}, {"no_embed_class": True}])
def test_a_vision_transformer_takes_the_weights_of_another_image_size_as_timm_would(settings):
    from timm.models.vision_transformer import checkpoint_filter_fn

    source, model, reference = vit(32, **settings), vit(56, **settings), vit(56, **settings)
    reference.load_state_dict(checkpoint_filter_fn(dict(source.state_dict()), reference, antialias=True))

    plan = filled(model, source, adapt={"pos_embed": "bicubic"})

    (row,) = [row for row in plan.rows if row.status == "adapted"]
    assert (row.target, "4×4" in row.work(), "-> 7×7" in row.work()) == ("pos_embed", True, True)
    images = torch.randn(2, 3, 56, 56)
    verify(model, images, reference.eval()(images).detach(), atol=1e-6)


def test_a_table_of_another_size_is_a_problem_that_names_the_way():
    plan = plan_reuse(checkpoint_of(arrays_of(vit(32)), layout="torch"), vit(56))

    assert [row.name for row in plan.problems] == ["pos_embed"]
    with pytest.raises(PlanError, match=r'(?s)\(1, 17, 12\) .*the model takes \(1, 50, 12\).*"pos_embed": "bicubic"'):
        plan.check()


def test_a_grid_that_is_no_square_needs_a_word():
    model, source = vit((32, 64)), vit((24, 40))

    with pytest.raises(PlanError, match=r"16 and 33 positions are not both square.*bicubic HxW to HxW"):
        filled(model, source, adapt={"pos_embed": "bicubic"})

    plan = filled(model, source, adapt={"pos_embed": "bicubic 3x5 to 4x8"})
    (row,) = [row for row in plan.rows if row.status == "adapted"]
    assert row.work() == "positions 3×5 (behind 1 token) -> 4×8 (behind 1 token), bicubic"


def test_text_positions_of_transformers_are_resized_by_interpolation():
    """A table of 6 becomes one of 12; the embedding of tokens keeps its size."""

    class Text(nn.Module):
        def __init__(self, length):
            super().__init__()
            self.position_embeddings = nn.Embedding(length, 4)
            self.words = nn.Embedding(9, 4)

    source, model = Text(6), Text(12)

    filled(model, source, adapt={"position_embeddings": "linear"})

    old, new = source.position_embeddings.weight, model.position_embeddings.weight
    assert torch.allclose(new[1::2][:-1], 0.75 * old[:-1] + 0.25 * old[1:], atol=1e-6)  # float32
    assert torch.equal(source.words.weight, model.words.weight)


@pytest.mark.parametrize(("channels", "way"), [(1, "sum"), (2, "repeat"), (4, "repeat"), (7, "repeat")])
def test_a_first_convolution_takes_other_channels_as_timm_would(channels, way):
    from timm.models._manipulate import adapt_input_conv

    source, model = nn.Conv2d(3, 5, 3), nn.Conv2d(channels, 5, 3)

    filled(model, source, adapt={"weight": way})

    theirs = adapt_input_conv(channels, source.weight.detach())
    torch.testing.assert_close(model.weight.detach(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("channels", "ways"), [(1, ["sum"]), (2, ["repeat"]), (4, ["repeat", "first channels"])])
def test_all_ways_to_fit_the_channels_are_offered(channels, ways):
    (problem,) = plan_reuse(
        checkpoint_of(arrays_of(nn.Conv2d(3, 5, 3)), layout="torch"), nn.Conv2d(channels, 5, 3)
    ).problems

    offered = [value for advice in problem.advice if advice.argument == "adapt" for value in advice.value.values()]

    assert offered == ways


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_more_classes_than_the_source_has_stay_as_initialised(dtype):
    source, model = nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 5)).to(dtype)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    plan = filled(model, source, adapt={"0": "first rows"})

    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor[:3], source.state_dict()[name].to(dtype))
        assert torch.equal(tensor[3:], fresh[name][3:])
    assert {row.status for row in plan.rows} == {"adapted"}
    assert "the first of 5 rows, the others stay as initialised" in plan.table(all=True)


def test_more_classes_are_a_problem_that_names_the_way():
    plan = plan_reuse(checkpoint_of(arrays_of(nn.Linear(4, 3)), layout="torch"), nn.Linear(4, 5))

    with pytest.raises(PlanError, match=r'adapt=\{"weight": "first rows", "bias": "first rows"\}'):
        plan.check()


def test_fewer_classes_are_not_the_first_rows_of_more():
    checkpoint = checkpoint_of(arrays_of(nn.Linear(4, 5)), layout="torch")

    with pytest.raises(PlanError, match="it takes one array of at most 3 rows"):
        plan_reuse(checkpoint, nn.Linear(4, 3), adapt={".*": "first rows"}).check()


def test_tables_from_another_framework_are_resized_after_their_conversion():
    """A Flax table is (1, 1 + h·w, d) as ours."""
    model = vit(56)
    source = {name: np.asarray(values) for name, values in arrays_of(vit(32)).items() if name == "pos_embed"}

    plan = plan_reuse(checkpoint_of(source, layout="flax"), model, reuse="pos_embed", adapt={"pos_embed": "bicubic"})

    assert [row.status for row in plan.rows if row.target == "pos_embed"] == ["adapted"]
