"""The first input of a model as plain features: what a linear model reaches without any layer."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 1024  # values of a picture that is taken as it is
SIDE = 8  # of a larger one after averaging, as in the benchmark (docs/depth.md)
STEPS = 32  # of a sequence after averaging
MOST = 4096  # columns of flat inputs
WORDS = 2048  # columns for counts of tokens: a token counts in the column of its number modulo this


def input_rows(inputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """(rows, columns) float32 of a batch's first input.

    Pictures (rows, channels, height, width) of more than 1,024 values are averaged to 8 × 8, sequences (rows, length,
    channels) to 32 steps; whole numbers (rows, length) are counted, as a bag of words is.

    mask  (rows, length): tokens that count
    """
    inputs = inputs.detach()
    if inputs.ndim == 1:
        inputs = inputs[:, None]
    if inputs.ndim == 2 and not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        return _counts(inputs, mask)
    inputs = inputs.float()
    if inputs.ndim == 4 and inputs[0].numel() > FEW:
        height, width = inputs.shape[2:]
        return F.adaptive_avg_pool2d(inputs, (min(SIDE, height), min(SIDE, width))).flatten(1)
    if inputs.ndim == 3:
        return F.adaptive_avg_pool1d(inputs.transpose(1, 2), STEPS).flatten(1)
    flat = inputs.flatten(1)
    return flat if flat.shape[1] <= MOST else F.adaptive_avg_pool1d(flat[:, None], MOST)[:, 0]


def _counts(tokens: Tensor, mask: Tensor | None) -> Tensor:
    weights = torch.ones_like(tokens, dtype=torch.float32) if mask is None else (mask > 0).float()
    counts = torch.zeros(len(tokens), WORDS, device=tokens.device)
    return counts.scatter_add_(1, tokens.long() % WORDS, weights.expand_as(tokens))
