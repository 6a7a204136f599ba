"""Saved models whose layers came from a file, trained a little: for the exports back to that file's framework."""

import numpy as np
import torch
from torch import nn

import regraft
from regraft.exports.exported import Exported
from regraft.model_record import read_record
from regraft.plan import Plan


def net(classes=3):
    """Two convolutions, a norm, a dense head on pooled maps."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def arrays(classes=7):
    """Variables for it as TensorFlow names them, with state of an optimizer."""
    random = np.random.default_rng(0)
    return {
        name: random.uniform(0.5, 1.5, shape).astype(np.float32)
        for name, shape in {
            "0/kernel": (3, 3, 2, 4), "0/bias": (4,), "1/gamma": (4,), "1/beta": (4,), "1/moving_mean": (4,),
            "1/moving_variance": (4,), "5/kernel": (4, classes), "5/bias": (classes,),
        }.items()
    }  # fmt: skip


def trained(model, names):
    """The parameters of these names moved a little, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in names:
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def exported_of(model, plan, folder, example):
    """The model saved with its plan, about to be exported."""
    regraft.save(model, folder, plan=plan)
    return Exported(folder, model, read_record(folder), example), Plan.from_json((folder / "plan.json").read_text())


def tensorflow_run(folder, *, classes=3, source_classes=7, train=("0.weight", "5.weight", "5.bias")):
    """A network restored from a .npz in TensorFlow's layout, with a fresh head, trained."""
    np.savez(folder / "theirs.npz", **arrays(source_classes))
    torch.manual_seed(0)
    checkpoint, model = regraft.open_checkpoint(folder / "theirs.npz"), net(classes)
    plan = regraft.plan_reuse(checkpoint, model, fresh=["5"], layout="tensorflow")
    regraft.apply_plan(plan, checkpoint, model)
    return exported_of(trained(model, train), plan, folder / "run", torch.zeros(2, 2, 8, 8))
