"""Reuse pretrained layers: restore them from any framework, freeze them, compute them once, train the rest."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.advising import advise
    from regraft.building import build_model
    from regraft.caches.features import Features
    from regraft.caching import cache_features, fill_features
    from regraft.collecting import predictions
    from regraft.errors import RegraftError
    from regraft.evaluating import Score, evaluate
    from regraft.freezing import freeze, parameter_groups, unfreeze
    from regraft.layer_heads import head_on_layers
    from regraft.learning.history import History
    from regraft.learning.request import WeightedLoss
    from regraft.learning.solvers import Exact, Steps
    from regraft.loading import apply_plan
    from regraft.matching import plan_reuse
    from regraft.plan import Plan
    from regraft.protocols import cross_validate, learning_curve
    from regraft.reading import open_checkpoint
    from regraft.recipe import predict, reuse
    from regraft.reporting import write_report
    from regraft.saving import load, save
    from regraft.splitting import split
    from regraft.training import train
    from regraft.verifying import verify
    from regraft.verifying_runtime import verify_with_runtime

__version__ = "0.2.0.dev0"  # the only place: the package, `regraft --version` and saved records read it here

_HOMES = {
    "open_checkpoint": "reading",
    "plan_reuse": "matching",
    "apply_plan": "loading",
    "build_model": "building",
    "verify": "verifying",
    "verify_with_runtime": "verifying_runtime",
    "advise": "advising",
    "head_on_layers": "layer_heads",
    "freeze": "freezing",
    "unfreeze": "freezing",
    "parameter_groups": "freezing",
    "split": "splitting",
    "cache_features": "caching",
    "fill_features": "caching",
    "train": "training",
    "Steps": "learning.solvers",
    "Exact": "learning.solvers",
    "WeightedLoss": "learning.request",
    "evaluate": "evaluating",
    "predictions": "collecting",
    "cross_validate": "protocols",
    "learning_curve": "protocols",
    "save": "saving",
    "load": "saving",
    "write_report": "reporting",
    "reuse": "recipe",
    "predict": "recipe",
    "Plan": "plan",
    "Features": "caches.features",
    "History": "learning.history",
    "Score": "evaluating",
    "RegraftError": "errors",
}
__all__ = [  # in order of use
    "open_checkpoint",
    "plan_reuse",
    "apply_plan",
    "build_model",
    "verify",
    "verify_with_runtime",
    "advise",
    "head_on_layers",
    "freeze",
    "unfreeze",
    "parameter_groups",
    "split",
    "cache_features",
    "fill_features",
    "train",
    "Steps",
    "Exact",
    "WeightedLoss",
    "evaluate",
    "predictions",
    "cross_validate",
    "learning_curve",
    "save",
    "load",
    "write_report",
    "reuse",
    "predict",
    "Plan",
    "Features",
    "History",
    "Score",
    "RegraftError",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """A public name, from its file: imported when it is first used, so that `regraft show` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"regraft has no {name!r}. Public names: {', '.join(__all__)}.")
    return getattr(import_module(f"regraft.{_HOMES[name]}"), name)
