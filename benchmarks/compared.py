"""Run other tools on the same files with the same faults; writes docs/compared.md.

    make compared        installs the tools into separate environments, then runs this

Each tool runs in a separate process (`compared_peers.py` has the calls, each with a link to the tool's guide). A file
counts as read when its arrays have the right values, in any order of axes. A fault counts as reported when the tool
names it in anything that it prints, logs, warns or returns.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from compared_peers import CLASSES, network
from safetensors.torch import save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
GOLDEN, MNIST = ROOT / "tests" / "golden", ROOT.parent / "shared" / "checkpoints" / "mnist"
PAGE = ROOT / "docs" / "compared.md"
TOOLS = ("regraft", "torch", "transformers", "timm", "monai", "onnx2torch", "orbax")

# kind of file → (the file, the key of its true values in TRUTH, prefixes of their names)
TRUTH = {name: str(GOLDEN / f"{name}.npz") for name in ("torch", "flax", "orbax", "mxnet", "caffe")}
TRUTH["mnist"] = str(MNIST / "arrays" / "mnist10_slash_names.npz")
FILES = {
    "TensorFlow 1, Saver V2": (MNIST / "tf1_v2_mnist10_sgd" / "my_model_final.ckpt", "mnist", ""),
    "TensorFlow 1, Saver V1": (MNIST / "tf1_v1format_mnist10_sgd" / "model_v1.ckpt", "mnist", ""),
    "TensorFlow 2 objects (Keras 3)": (MNIST / "tf2_object_checkpoint_keras3" / "ckpt-1", "mnist", ""),
    "TensorFlow 2 objects (tf.Module)": (MNIST / "tf2_object_checkpoint_tfmodule" / "ckpt-1", "mnist", ""),
    "SavedModel": (MNIST / "tf2_savedmodel_tfmodule", "mnist", ""),
    "Keras 3 `.keras`": (MNIST / "keras3" / "mnist10.keras", "mnist", ""),
    "Keras 3 `.weights.h5`": (MNIST / "keras3" / "mnist10.weights.h5", "mnist", ""),
    "Keras `.h5`": (MNIST / "keras3" / "mnist10_legacy.h5", "mnist", ""),
    "ONNX of tf2onnx": (MNIST / "onnx" / "mnist10_tf2onnx.onnx", "mnist", ""),
    "ONNX of torch": (MNIST / "onnx" / "mnist10_torch.onnx", "mnist", ""),
    "NumPy `.npz`": (MNIST / "arrays" / "mnist10_slash_names.npz", "mnist", ""),
    "Theano pickle, Python 2": (MNIST / "arrays" / "mnist10_theano_python2_params_float32.pkl", "mnist", ""),
    "torch state dict": (MNIST / "torch" / "mnist10_state_dict.pt", "mnist", ""),
    "torch, before 1.6": (GOLDEN / "torch_old.pt", "torch", "w/"),
    "Lightning checkpoint": (GOLDEN / "torch_training.ckpt", "torch", "w/"),
    "safetensors": (GOLDEN / "torch.safetensors", "torch", "w/"),
    "safetensors in shards": (GOLDEN / "shards.safetensors.index.json", "torch", "w/"),
    "Flax msgpack": (GOLDEN / "flax_state.msgpack", "flax", "state/"),
    "Orbax, a folder for each array": (GOLDEN / "orbax_folders", "orbax", "w/"),
    "Orbax, one store": (GOLDEN / "orbax_store", "orbax", "w/"),
    "Caffe": (GOLDEN / "caffe.caffemodel", "caffe", "conv_w fc_w fc_b gamma beta"),
    "MXNet": (GOLDEN / "mxnet-0012.params", "mxnet", "fc1 conv0 bn0_beta bn0_moving"),
}  # fmt: skip


def gguf_file(folder):
    """One block of a language model in float32 with llama.cpp's names: (the file, its true values)."""
    import gguf

    random, width = np.random.default_rng(0), 8
    shapes = {"token_embd.weight": (16, width), "output_norm.weight": (width,), "output.weight": (16, width)}
    shapes |= {f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{part}.weight": (12, width) for part in ("up", "gate")}
    shapes |= {
        "blk.0.ffn_down.weight": (width, 12),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
    }
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), "qwen2")
    writer.add_block_count(1), writer.add_context_length(16), writer.add_embedding_length(width)
    writer.add_feed_forward_length(12), writer.add_head_count(2), writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6), writer.add_vocab_size(16)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    np.savez(folder / "gguf.npz", **arrays)
    return folder / "model.gguf", str(folder / "gguf.npz")


# FAULTS ----------------------------------------------------------------------------------------------------------


def without(*names):
    return lambda state: {name: value for name, value in state.items() if name not in names}


def prefixed(prefix):
    return lambda state: {prefix + name: value for name, value in state.items()}


def changed(name, change):
    return lambda state: {**state, name: change(state[name].clone())}


def with_value(value, dtype=torch.float32):
    def change(weight):
        weight = weight.to(dtype)
        weight[0, 0] = value
        return weight

    return change


def with_adapter(state):
    """LoRA beside the square layer, not merged: the weight alone is another function."""
    down, up = torch.full((1, 4), 0.5), torch.tensor([[1.0], [-1.0], [0.5], [2.0]])
    adapter = {"square.lora_A.weight": down, "square.lora_B.weight": up}
    return {**state, "square.weight": state["square.weight"] - 2.0 * up @ down, **adapter}


def with_codes(state):
    """The square layer in int8, its scales beside it."""
    scale = state["square.weight"].abs().amax(1, keepdim=True) / 127
    codes = (state["square.weight"] / scale).round().to(torch.int8)
    return {**state, "square.weight": codes, "square.weight_scale": scale}


def with_parts(state):
    """weight_norm's length and direction in place of the weight."""
    weight = state["square.weight"]
    rest = {name: value for name, value in state.items() if name != "square.weight"}
    return {**rest, "square.weight_g": weight.norm(dim=1, keepdim=True), "square.weight_v": 3 * weight}


# fault → (change of the state dict, patterns of which one must appear in a report)
FAULTS = {
    "no fault": (dict, ()),
    "names begin with `module.`": (prefixed("module."), ("square.weight",)),
    "names begin with `net.`": (prefixed("net."), ("square.weight",)),
    "a tensor is missing": (without("square.weight"), ("square.weight",)),
    "batch-norm statistics are missing": (without("bn.running_mean", "bn.running_var"), ("running_mean",)),
    "a kernel has another shape": (changed("conv.weight", lambda w: w[:, :, :2].contiguous()), ("conv.weight",)),
    "a square kernel is transposed": (
        changed("square.weight", lambda w: w.T.contiguous()),
        ("transpos", "orientation"),
    ),
    "one value is NaN": (changed("square.weight", with_value(float("nan"))), ("nan", "finite")),
    "a float64 value is too large": (changed("square.weight", with_value(1e39, torch.float64)), ("finite", "overflow")),
    "the network was trained with eps 1e-3": (dict, (r"\beps",)),
    "an adapter (LoRA) is not merged": (with_adapter, ("lora",)),
    "int8 codes with their scales": (with_codes, ("int8", "scale")),
    "weight_norm's two parts in place of a weight": (with_parts, ("weight_g", "square.weight")),
    "MLX in safetensors: kernels (out, h, w, in)": (
        changed("conv.weight", lambda w: w.permute(0, 2, 3, 1).contiguous()),
        ("layout", "mlx", "axes"),
    ),
    "PaddlePaddle in safetensors: dense kernels (in, out)": (
        changed("square.weight", lambda w: w.T.contiguous()),
        ("layout", "paddle", "axes"),
    ),
}
# faults of a safetensors file → what its header says of the writer
HEADERS = {
    "MLX in safetensors: kernels (out, h, w, in)": {"format": "mlx"},
    "PaddlePaddle in safetensors: dense kernels (in, out)": {"format": "pd"},
}
TORCH_ONLY = (  # an ONNX graph of these would be invalid, or does not exist
    "a kernel has another shape", "a float64 value is too large", "an adapter (LoRA) is not merged",
    "int8 codes with their scales", "weight_norm's two parts in place of a weight", *HEADERS,
)  # fmt: skip


def trained(eps=1e-5):
    """The source network, with batch-norm statistics in which every fault is visible."""
    torch.manual_seed(0)
    model = network(CLASSES, eps=eps)
    nn.init.uniform_(model.bn.running_var, 0.001, 0.01), nn.init.normal_(model.bn.running_mean)
    return model


def record(model, path):
    x = torch.randn(4, 3, 9, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        np.savez(path, x=x.numpy(), reused=model.reused(x).numpy(), y=model(x).numpy())
    return str(path)


def fault_tasks(folder):
    """A task for each fault in a torch file, and a task for each fault that an ONNX file can have."""
    tasks, onnx_tasks = [], []
    for index, (fault, (spoil, _)) in enumerate(FAULTS.items()):
        model = trained(1e-3 if "eps" in fault else 1e-5)
        truth = record(model, folder / f"{index}.npz")
        path = folder / f"{index}.{'safetensors' if fault in HEADERS else 'pt'}"
        if fault in HEADERS:
            save_file(spoil(model.state_dict()), path, HEADERS[fault])
        else:
            torch.save(spoil(model.state_dict()), path)
        tasks.append({"do": "fill", "name": fault, "path": str(path), "truth": truth})
        if fault not in TORCH_ONLY:
            export(model, spoil(model.state_dict()), folder / f"{index}.onnx")
            onnx_tasks.append({"do": "fill", "name": fault, "path": str(folder / f"{index}.onnx"), "truth": truth})
    return tasks, onnx_tasks


def export(model, state, path):
    """Write the network as ONNX with the initialisers of `state`."""
    import onnx
    from onnx import numpy_helper

    torch.onnx.export(
        model, (torch.zeros(4, 3, 9, 8),), path, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False, input_names=["x"], opset_version=13,  # the newest that onnx2torch knows completely
    )  # fmt: skip
    proto = onnx.load(path)
    values = {name.removeprefix("module.").removeprefix("net."): (name, value) for name, value in state.items()}
    kept = [one for one in proto.graph.initializer if one.name in values or one.name not in model.state_dict()]
    del proto.graph.initializer[:]
    for one in kept:
        name, value = values.get(one.name, (one.name, None))
        for node in proto.graph.node:
            node.input[:] = [name if wanted == one.name else wanted for wanted in node.input]
        made = one if value is None else numpy_helper.from_array(value.detach().numpy(), name)
        proto.graph.initializer.append(made)
    path.write_bytes(proto.SerializeToString())


# TABLES ----------------------------------------------------------------------------------------------------------


def run(tool, python, tasks, folder):
    """Task name → result of the tool."""
    job = folder / f"{tool}.json"
    job.write_text(json.dumps(tasks))
    done = subprocess.run(
        [python, Path(__file__).with_name("compared_peers.py"), tool, job], capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}


def version(tool, python):
    """The tool and its version, as installed for this Python."""
    package = "orbax-checkpoint" if tool == "orbax" else tool
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return f"{tool} {subprocess.run([python, '-c', code], capture_output=True, text=True).stdout.strip()}"


def reading(result):
    if result is None or "raised" in result:
        return "–"
    return "yes" if result["right"] == result["of"] else f"{result['right']} of {result['of']}"


def answer(result, words):
    """The result in words."""
    if result is None:
        return ""
    if result["raised"]:
        return "refuses after changing the model" if result["touched"] else "refuses"
    if result["right"]:
        return "right"
    return "continues, reports" if any(re.search(word, result["said"].lower()) for word in words) else "**silent**"


def table(rows, heads):
    lines = [["", *heads], ["---"] * (len(heads) + 1), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default=sys.executable, help="Python with transformers, timm, monai and onnx2torch")
    parser.add_argument("--jax", default=sys.executable, help="Python with orbax-checkpoint and torch")
    options = parser.parse_args()
    pythons = {"regraft": sys.executable, "orbax": options.jax}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gguf, gguf_truth = gguf_file(folder)
        reads = [
            {
                "do": "read",
                "name": what,
                "path": str(path),
                "truth": {"path": TRUTH[truth], "prefixes": names.split() or [""]},
            }
            for what, (path, truth, names) in FILES.items()
        ]
        reads.append({"do": "read", "name": "GGUF", "path": str(gguf), "truth": {"path": gguf_truth, "prefixes": [""]}})
        fills, onnx_fills = fault_tasks(folder)
        found = {}
        for tool in TOOLS:
            faults = onnx_fills if tool == "onnx2torch" else fills
            tasks = faults if tool == "monai" else [*reads, *faults]  # MONAI reads with torch.load
            found[tool] = run(tool, pythons.get(tool, options.peers), tasks, folder)
            print(tool, len(found[tool]), "of", len(tasks))
        on_onnx = run("regraft", sys.executable, onnx_fills, folder)
    readers = [tool for tool in TOOLS if tool != "monai"]
    read = {what: [reading(found[tool].get(what)) for tool in readers] for what in [*FILES, "GGUF"]}
    fault = {
        what: [answer(found[tool].get(what), words) for tool in TOOLS if tool != "onnx2torch"]
        for what, (_, words) in FAULTS.items()
    }
    onnx = {
        what: [answer(side.get(what), words) for side in (on_onnx, found["onnx2torch"])]
        for what, (_, words) in FAULTS.items()
        if what not in TORCH_ONLY
    }
    versions = ", ".join(version(tool, pythons.get(tool, options.peers)) for tool in TOOLS)
    before, _, rest = PAGE.read_text().partition("<!-- tables -->")
    _, _, after = rest.partition("<!-- end -->")
    tables = [
        f"\nRun on {date.today()}: {versions}.\n", "### Which arrays are read correctly\n", table(read, readers),
        "\n### A torch file with a fault, reused without its last layer\n",
        table(fault, [tool for tool in TOOLS if tool != "onnx2torch"]),
        "\n### The same faults in an ONNX file\n", table(onnx, ["regraft", "onnx2torch"]), "",
    ]  # fmt: skip
    PAGE.write_text("".join([before, "<!-- tables -->\n", "\n".join(tables), "<!-- end -->", after]))
    print("\n".join(tables))


if __name__ == "__main__":
    main()
