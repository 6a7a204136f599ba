"""Call one tool as its guide recommends; `compared.py` runs this file for each tool.

    python benchmarks/compared_peers.py TOOL JOB.json      prints one JSON line for each file

Each tool has two functions: READ returns the arrays of a file by name; FILL fills a network, except its new last layer,
from a file. The docstring of each links the page of the documentation that it follows.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import numpy as np

CLASSES, NEW_CLASSES = 5, 3


def network(classes, *, eps=1e-5):
    """A convolution, its norm, a square dense layer and a classifier: the network of the faults."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=eps)
            self.square, self.head = nn.Linear(4, 4), nn.Linear(4, classes)

        def reused(self, x):
            return self.square(self.bn(self.conv(x)).relu().mean((2, 3)))

        def forward(self, x):
            return self.head(self.reused(x))

    return Net().eval()


# READ ------------------------------------------------------------------------------------------------------------


def flat(value, name=""):
    """(name, array) of all arrays in nested dictionaries and lists."""
    if hasattr(value, "items"):
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return [(name, as_numpy(value))] if hasattr(value, "shape") else []
    return [leaf for key, inner in pairs for leaf in flat(inner, f"{name}.{key}" if name else str(key))]


def as_numpy(value):
    """bfloat16 as float32: NumPy has no such dtype."""
    if "bfloat16" not in str(value.dtype):
        return np.asarray(value)
    return value.float().numpy() if hasattr(value, "untyped_storage") else np.asarray(value).astype(np.float32)


def read_torch(path):
    """https://docs.pytorch.org/docs/stable/generated/torch.load.html, https://huggingface.co/docs/safetensors"""
    import torch
    from safetensors.torch import load_file

    return load_file(path) if str(path).endswith(".safetensors") else torch.load(path, weights_only=True)


def read_transformers(path):
    """https://huggingface.co/docs/transformers/gguf"""
    if str(path).endswith(".gguf"):
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(Path(path).parent, gguf_file=Path(path).name).state_dict()
    from transformers.modeling_utils import load_state_dict

    if str(path).endswith(".index.json"):
        shards = set(json.loads(Path(path).read_text())["weight_map"].values())
        return [load_state_dict(Path(path).with_name(shard)) for shard in shards]
    return load_state_dict(path)


def read_timm(path):
    """https://huggingface.co/docs/timm/training_script (--resume, --initial-checkpoint)"""
    from timm.models import load_state_dict

    return load_state_dict(path, use_ema=False)  # its default reads the moving average, without a report


def read_onnx2torch(path):
    """https://github.com/ENOT-AutoDL/onnx2torch#usage"""
    from onnx2torch import convert

    return convert(path).state_dict()


def read_orbax(path):
    """https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpointing_pytrees.html"""
    import orbax.checkpoint as ocp

    return ocp.PyTreeCheckpointer().restore(Path(path).resolve())


def read_regraft(path):
    from regraft import open_checkpoint

    checkpoint = open_checkpoint(path)
    return {name: checkpoint.read(name) for name in checkpoint}


# FILL ------------------------------------------------------------------------------------------------------------


def fill_torch(model, path):
    """https://docs.pytorch.org/tutorials/recipes/recipes/warmstarting_model_using_parameters_from_a_different_model.html"""
    state = {name: value for name, value in read_torch(path).items() if not name.startswith("head")}
    return model.load_state_dict(state, strict=False)


def fill_timm(model, path):
    """https://huggingface.co/docs/timm/training_script (--initial-checkpoint)"""
    from timm.models import load_checkpoint

    def without_head(state, _):
        return {name: value for name, value in state.items() if not name.startswith("head")}

    return load_checkpoint(model, path, strict=False, filter_fn=without_head)


def fill_monai(model, path):
    """https://docs.monai.io/en/stable/networks.html#monai.networks.utils.copy_model_state"""
    from monai.networks.utils import copy_model_state

    _, changed, unchanged = copy_model_state(model, read_torch(path), exclude_vars="head")
    return {"changed": changed, "unchanged": unchanged}


def fill_transformers(model, path):
    """https://huggingface.co/docs/transformers/custom_models"""
    from safetensors.torch import save_file
    from transformers import PretrainedConfig, PreTrainedModel

    class NetModel(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            for name, child in network(NEW_CLASSES).named_children():
                self.add_module(name, child)
            self.post_init()

        def _init_weights(self, module):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    folder = Path(path).with_suffix(".transformers")
    folder.mkdir()
    if str(path).endswith(".safetensors"):
        shutil.copy(path, folder / "model.safetensors")
    else:
        state = {name: value.contiguous() for name, value in read_torch(path).items()}
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    PretrainedConfig(architectures=["NetModel"]).save_pretrained(folder)
    loaded, report = NetModel.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True)
    model.load_state_dict(loaded.state_dict())
    return report


def fill_orbax(model, path):
    """https://orbax.readthedocs.io/en/stable/guides/checkpoint/v1/model_surgery.html

    The same arrays in an Orbax checkpoint; the target contains the names and shapes to restore.
    """
    import jax.numpy as jnp
    import orbax.checkpoint as ocp
    import torch

    stored, wanted = {}, {}
    for tree, state in ((stored, read_torch(path)), (wanted, model.state_dict())):
        for name, value in state.items():
            if tree is stored or not name.startswith("head"):
                layer, _, leaf = name.rpartition(".")
                tree.setdefault(layer, {})[leaf] = jnp.asarray(value.detach().numpy())
    folder = Path(path).with_suffix(".orbax")
    ocp.PyTreeCheckpointer().save(folder, stored)
    restore = ocp.args.PyTreeRestore(
        wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    restored = ocp.PyTreeCheckpointer().restore(folder, args=restore)
    state = {f"{layer}.{leaf}": value for layer, leaves in restored.items() for leaf, value in leaves.items()}
    model.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in state.items()}, strict=False)


def fill_onnx2torch(model, path):
    from onnx2torch import convert

    return convert(path).eval()  # a new network, with the old classes


def fill_regraft(model, path):
    from regraft import apply_plan, open_checkpoint, plan_reuse

    checkpoint = open_checkpoint(path)
    plan = plan_reuse(checkpoint, model, fresh="head")
    print(plan)
    apply_plan(plan, checkpoint, model)


READ = {name[5:]: function for name, function in globals().items() if name.startswith("read_")}
FILL = {name[5:]: function for name, function in globals().items() if name.startswith("fill_")}


# JUDGE -----------------------------------------------------------------------------------------------------------


@contextmanager
def captured_output():
    """A list that holds everything printed, warned and logged, after the block has ended."""
    texts, old = [], [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        try:
            yield texts
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(old[0], 1), os.dup2(old[1], 2)
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))


def is_there(array, found):
    """Whether one of the arrays in `found` has these values in some order of its axes."""
    return any(
        sorted(other.shape) == sorted(array.shape) and np.allclose(other.transpose(axes), array, atol=1e-6)
        for other in found
        for axes in permutations(range(other.ndim))
        if other.transpose(axes).shape == array.shape
    )


def judge_reading(tool, path, truth):
    """{"right": arrays with the right values, "of": arrays} or {"raised": …}."""
    with captured_output():
        try:
            found = [array for _, array in flat(READ[tool](path)) if array.dtype.kind in "fiub"]
        except Exception as error:
            return {"raised": f"{type(error).__name__}: {error}"}
    with np.load(truth["path"]) as archive:
        wanted = [archive[name] for name in archive.files if name.startswith(tuple(truth["prefixes"]))]
    return {"right": sum(is_there(array, found) for array in wanted), "of": len(wanted)}


def judge_filling(tool, path, expected):
    """Whether the reused layers give the expected outputs, the error, the report, and whether the model was changed."""
    import torch

    torch.manual_seed(1)
    model = network(NEW_CLASSES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    raised, returned = "", None
    with captured_output() as texts:
        try:
            returned = FILL[tool](model, path)
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
    touched = any(not torch.equal(before[name], value) for name, value in model.state_dict().items() if name in before)
    right = False
    if not raised:
        made, answer = (returned, "y") if isinstance(returned, torch.nn.Module) else (model.reused, "reused")
        with np.load(expected) as golden, torch.no_grad():
            right = np.allclose(made(torch.tensor(golden["x"])).numpy(), golden[answer], atol=1e-5)
    said = texts[0] if isinstance(returned, torch.nn.Module) else texts[0] + repr(returned)
    return {"raised": raised, "said": said, "touched": touched, "right": bool(right)}


def main(tool, job):
    if tool not in ("orbax", "regraft"):
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
        import vision_stub  # noqa: F401  # some tools import torchvision; this is its Python part
    for task in json.loads(Path(job).read_text()):
        judge = judge_reading if task["do"] == "read" else judge_filling
        try:
            importlib.import_module("orbax.checkpoint" if tool == "orbax" else tool)
            result = judge(tool, task["path"], task["truth"])
        except ImportError as error:
            result = {"raised": f"{type(error).__name__}: {error}", "said": "", "touched": False, "right": False}
        print(json.dumps({"name": task["name"], **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
