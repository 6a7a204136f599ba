"""Every model of the zoo: families of torchvision, one for each of timm's architecture files, transformers, and others.

All weights are random; sizes are the smallest that the architecture allows.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import contextlib

import zoo_transformers

import vision_stub  # before torchvision and timm

# (batch size, seed) → positional and keyword arguments
Inputs = Callable[[int, int], tuple[tuple, dict[str, Any]]]

# The smallest model of each family → side of its images in pixels.
TORCHVISION = {
    "alexnet": 64, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "googlenet": 64, "inception_v3": 96, "maxvit_t": 224, "mnasnet0_5": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "regnet_x_400mf": 64, "regnet_y_400mf": 64, "resnet18": 64, "resnet50": 64,
    "resnext50_32x4d": 64, "wide_resnet50_2": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_1": 64, "swin_t": 64,
    "swin_v2_t": 64, "vgg11_bn": 64, "vit_b_16": 64,
}  # fmt: skip
SEGMENTATION = ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "fcn_resnet50")
DETECTION = (
    "fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "ssd300_vgg16",
    "fcos_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn",
)  # fmt: skip
VIDEO = {"r3d_18": 32, "mc3_18": 32, "r2plus1d_18": 32, "s3d": 224, "mvit_v1_b": 224, "swin3d_t": 64}

# timm's architecture file → its smallest variant.
TIMM = {
    "beit": "beit_base_patch16_224", "byoanet": "halonet_h1", "byobnet": "test_byobnet", "cait": "cait_xxs24_224",
    "coat": "coat_tiny", "convit": "convit_tiny", "convmixer": "convmixer_768_32", "convnext": "test_convnext",
    "cpubone": "cpubone_nano", "crossvit": "crossvit_tiny_240", "csatv2": "csatv2", "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224", "densenet": "densenet121", "dla": "dla46_c", "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1", "efficientvit_mit": "efficientvit_b0", "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb", "fasternet": "fasternet_t0", "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf", "gcvit": "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050", "hardcorenas": "hardcorenas_b", "hgnet": "hgnetv2_b0", "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny", "hrnet": "hrnet_w18_small", "iformer": "iformer_t",
    "inception_next": "inception_next_atto", "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3", "inception_v4": "inception_v4", "lcnetv2": "lcnetv2_small", "levit": "levit_128",
    "lowformer": "lowformer_b0", "mambaout": "test_mambaout", "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12", "mlp_mixer": "gmlp_ti16_224", "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base", "mobilevit": "mobilevit_xxs", "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap", "nasnet": "nasnetalarge", "nest": "nest_tiny",
    "nextvit": "nextvit_small", "nfnet": "test_nfnet", "pit": "pit_ti_224", "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0", "qwen3_vit": "qwen3_vit_88m", "rdnet": "rdnet_tiny", "regnet": "regnetx_002",
    "repghost": "repghostnet_050", "repvit": "repvit_m1", "res2net": "res2next50", "resnest": "resnest14d",
    "resnet": "test_resnet", "resnetv2": "resnetv2_18", "rexnet": "rexnet_100", "selecsls": "selecsls42",
    "senet": "legacy_seresnet18", "sequencer": "sequencer2d_s", "shvit": "shvit_s1", "sknet": "skresnet18",
    "starnet": "starnet_s050", "swiftformer": "swiftformer_xs", "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256", "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224", "tnt": "tnt_s_legacy_patch16_224", "tresnet": "tresnet_m",
    "twins": "twins_svt_small", "vgg": "vgg11", "visformer": "visformer_tiny", "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224", "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224", "vitamin": "vitamin_small_224", "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim", "xception": "xception", "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}  # fmt: skip


def names() -> list[str]:
    """All models, as `library:model`."""
    listed = {
        "torchvision": [*TORCHVISION, *SEGMENTATION, *DETECTION, *VIDEO],
        "timm": list(TIMM.values()),
        "transformers": list(zoo_transformers.MODELS),
        "geometric": list(GRAPHS),
        "plain": list(PLAIN),
    }
    return [f"{library}:{model}" for library, models in listed.items() for model in models]


def build(name: str) -> tuple[nn.Module, Inputs]:
    """A model by its name in the zoo, and the function that makes its inputs."""
    library, _, model = name.partition(":")
    torch.manual_seed(0)
    if library == "torchvision":
        return _torchvision(model)
    if library == "timm":
        return _timm(model)
    if library == "transformers":
        return zoo_transformers.build(model)
    return (GRAPHS if library == "geometric" else PLAIN)[model]()


def images(*shape: int) -> Inputs:
    """The function that makes batches of random tensors of this shape."""
    return lambda batch, seed: ((torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed)),), {})


def _torchvision(name: str) -> tuple[nn.Module, Inputs]:
    import torchvision

    models = torchvision.models
    if name in SEGMENTATION:
        options = {"weights": None, "weights_backbone": None, "num_classes": 4}
        return getattr(models.segmentation, name)(**options), images(3, 64, 64)
    if name in VIDEO:
        frames = 16 if name in ("s3d", "mvit_v1_b") else 8
        return getattr(models.video, name)(weights=None), images(3, frames, VIDEO[name], VIDEO[name])
    if name in DETECTION:
        return _detection(getattr(models.detection, name)), _images_with_boxes
    options = {"image_size": 64} if name == "vit_b_16" else {}
    options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"aux_logits": False} if name == "inception_v3" else {}  # its auxiliary head needs 299 pixels
    return getattr(models, name)(weights=None, num_classes=10, **options), images(3, *2 * [TORCHVISION[name]])


def _detection(make: Callable[..., nn.Module]) -> nn.Module:
    """Small images and few boxes, because the Python substitute of roi_align takes a second for fifty boxes."""
    vision_stub.let_detection_run()
    sizes = {} if "ssd" in make.__name__ else {"min_size": 64, "max_size": 64}
    few = {"rpn_post_nms_top_n_train": 8, "rpn_post_nms_top_n_test": 8, "box_detections_per_img": 4}
    if "rcnn" not in make.__name__:
        few = {"topk_candidates": 40, "detections_per_img": 10}
    return make(weights=None, weights_backbone=None, num_classes=4, **sizes, **few)


def _images_with_boxes(batch: int, seed: int) -> tuple[tuple, dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    batch_images = [torch.rand(3, 64, 64, generator=generator) for _ in range(batch)]
    target = {
        "boxes": torch.tensor([[4.0, 4, 30, 30], [10, 20, 60, 60]]),
        "labels": torch.tensor([1, 2]),
        "masks": torch.ones(2, 64, 64, dtype=torch.uint8),
        "keypoints": torch.tensor([[[10.0, 10, 1]] * 17] * 2),
    }
    return (batch_images, [dict(target) for _ in range(batch)]), {}


def _timm(name: str) -> tuple[nn.Module, Inputs]:
    """A model of timm with the smallest images that it accepts."""
    import timm

    model = timm.create_model(name, num_classes=10)
    channels, *full = model.default_cfg.get("input_size", (3, 224, 224))
    for side in (64, 96, 128, 112):  # the last for patches of 14
        inputs = images(channels, side, side)
        with contextlib.suppress(TypeError, AssertionError, ValueError, RuntimeError):
            model = timm.create_model(name, num_classes=10, img_size=side)
        try:
            with torch.no_grad():
                model.eval()(*inputs(1, 0)[0])
        except Exception:  # models raise different errors for an image that is too small
            model = timm.create_model(name, num_classes=10)
        else:
            return model, inputs
    return model, images(channels, *full)


class Recurrent(nn.Module):
    """Embedding, two LSTM layers, a GRU, a GRU cell in a loop, a classifier; sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(50, 16), nn.LSTM(16, 16, num_layers=2, dropout=0.2)
        self.bidirectional = nn.GRU(16, 8, bidirectional=True)
        self.cell, self.out = nn.GRUCell(16, 16), nn.Linear(16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        sequence, _ = self.lstm(self.embedding(tokens).transpose(0, 1))
        sequence, _ = self.bidirectional(sequence)
        state = torch.zeros_like(sequence[0])
        for step in sequence:
            state = self.cell(step, state)
        return self.out(state)


def _tokens(batch: int, seed: int) -> tuple[tuple, dict[str, Any]]:
    return (torch.randint(0, 50, (batch, 9), generator=torch.Generator().manual_seed(seed)),), {}


class Translator(nn.Module):
    """torch.nn.Transformer with masks."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.core = nn.Transformer(16, 2, 2, 2, 24, batch_first=True)
        self.out = nn.Linear(16, 50)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.core(self.embedding(source), self.embedding(target), tgt_mask=mask, tgt_is_causal=True)
        return self.out(hidden)


class Graphs(nn.Module):
    """Four graph layers and the mean over the nodes of each graph."""

    def __init__(self, layer: str, **options: Any) -> None:
        super().__init__()
        import torch_geometric.nn

        make = getattr(torch_geometric.nn, layer)
        self.layers = nn.ModuleList([make(8, 8, **options) for _ in range(4)])
        self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        from torch_geometric.nn import global_mean_pool

        for layer in self.layers:
            x = layer(x, edge_index).relu()
        return self.out(global_mean_pool(self.norm(x), batch))


def _graph(batch: int, seed: int) -> tuple[tuple, dict[str, Any]]:
    """`batch` rings of five nodes each."""
    generator = torch.Generator().manual_seed(seed)
    ring = torch.stack([torch.arange(5), (torch.arange(5) + 1) % 5])
    edges = torch.cat([ring + 5 * index for index in range(batch)], 1)
    return (torch.randn(5 * batch, 8, generator=generator), edges, torch.arange(batch).repeat_interleave(5)), {}


GRAPHS: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    layer: lambda layer=layer: (Graphs(layer), _graph) for layer in ("GCNConv", "SAGEConv", "GATConv", "GraphConv")
}
PLAIN: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    "Recurrent": lambda: (Recurrent(), _tokens),
    "Translator": lambda: (
        Translator(),
        lambda batch, seed: ((_tokens(batch, seed)[0][0], _tokens(batch, seed + 9)[0][0][:, :6]), {}),
    ),
}
