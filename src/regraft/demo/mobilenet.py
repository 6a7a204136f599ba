"""MobileNetV1 as a plain torch module, with batch-norms folded into convolutions with bias.

Source: Howard et al., MobileNets, 2017, table 1. Layer names follow the TensorFlow checkpoint:
`MobilenetV1/Conv2d_3_depthwise/…` is `Conv2d_3_depthwise` here. The 1×1 convolution `Logits/Conv2d_1c_1x1` on the
pooled map is the linear layer `Logits` here.
"""

from torch import Tensor, nn
from torch.nn import functional as F

# (stride, output channels at width 1) of the 13 depthwise separable blocks
BLOCKS = [(1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024)]


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: for even sizes and stride 2 the extra row and column are last."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) → the same, height and width divided by the stride, rounded up."""
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(images.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        images = F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(images, self.weight, self.bias, self.stride, groups=self.groups)


class MobileNetV1(nn.Module):
    """Images (batch, 3, 224, 224), scaled to [-1, 1] → logits (batch, num_classes)."""

    def __init__(self, width: float = 0.25, num_classes: int = 1001) -> None:
        super().__init__()
        channels = int(32 * width)
        self.Conv2d_0 = SameConv2d(3, channels, 3, stride=2)
        for index, (stride, full_width) in enumerate(BLOCKS, start=1):
            wider = int(full_width * width)
            depthwise = SameConv2d(channels, channels, 3, stride=stride, groups=channels)
            self.add_module(f"Conv2d_{index}_depthwise", depthwise)
            self.add_module(f"Conv2d_{index}_pointwise", SameConv2d(channels, wider, 1))
            channels = wider
        self.Logits = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """All convolutions, each followed by ReLU6; the mean of each map; one linear layer."""
        *convolutions, logits = self.children()
        for convolution in convolutions:
            images = F.relu6(convolution(images))
        outputs: Tensor = logits(images.mean((2, 3)))
        return outputs


def mobilenet_v1_025(num_classes: int = 1001) -> nn.Module:
    """The network of the published mobilenet_v1_0.25_224 checkpoint."""
    return MobileNetV1(0.25, num_classes)
