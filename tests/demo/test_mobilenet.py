"""The demo's network gives TensorFlow's outputs."""

import numpy as np
import pytest
import torch

from regraft import apply_plan, freeze, open_checkpoint, plan_reuse, split, verify
from regraft.demo.mobilenet import mobilenet_v1_025
from shared import CHECKPOINTS, needs_shared

# The two files of the published network → arguments of plan_reuse; the tflite file records the padding, which the
# convolutions of the demo implement themselves.
IMAGE_NETWORK = {
    "ckpt": {
        "rename": {r"MobilenetV1/Logits/Conv2d_1c_1x1/(.*)": r"Logits/\1", r"MobilenetV1/(Conv2d_.*)": r"\1"},
    },
    "tflite": {
        "rename": {
            r"MobilenetV1/Logits/Conv2d_1c_1x1/(?:Conv2D_)?(.*)": r"Logits/\1",
            r"(?:MobilenetV1/)+(Conv2d_[^/]*)/(?:Conv2D_|depthwise_)?(.*)": r"\1/\2",
        },
        "accept": r".*\.padding",
    },
}


@needs_shared
@pytest.mark.parametrize("form", IMAGE_NETWORK)
def test_the_image_network_gives_tensorflows_logits(form):
    """From the TF1 checkpoint and from TFLite; 5e-5 for logits up to 23, measured 2.9e-5."""
    model, folder = mobilenet_v1_025(), CHECKPOINTS / "mobilenet_v1_025"
    checkpoint = open_checkpoint(folder / f"mobilenet_v1_0.25_224.{form}")
    apply_plan(plan_reuse(checkpoint, model, **IMAGE_NETWORK[form]), checkpoint, model)
    golden = np.load(folder / "golden.npz")
    images = torch.from_numpy(golden["images_uint8"].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    verify(model.eval(), images, golden["logits"], atol=5e-5)


def test_only_the_pooled_map_crosses_to_the_new_output():
    """1,024 bytes per image instead of the 150,528 bytes of its pixels."""
    model = mobilenet_v1_025(num_classes=6)
    freeze(model, trainable="Logits")
    trunk, _ = split(model, torch.zeros(2, 3, 224, 224))
    assert [(leaf.shape, leaf.bytes_per_example) for leaf in trunk.cut.leaves] == [((256,), 1024)]
