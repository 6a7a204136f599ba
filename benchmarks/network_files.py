"""Build the network of every file of a folder and compare it with the file's own runtime: a table, dated.

    python benchmarks/network_files.py FOLDER [--write docs/network-files.md] [--node-modules DIR]

Needs onnxruntime, ai-edge-litert, and node with @tensorflow/tfjs (in --node-modules) for models of
TensorFlow.js; files whose runtime is missing are built and not compared. Inputs are random, of the first sizes at which
the runtime works. "equal" is within 1e-5 of the output's largest number.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.arrays import Checkpoint
from regraft.building import planned_network
from regraft.errors import RegraftError
from regraft.loading import apply_plan
from regraft.networks.network import Network
from regraft.networks.reading import network_of
from regraft.networks.samples import sample_shapes
from regraft.reading import open_checkpoint

Inputs = dict[str, np.ndarray]
Run = Callable[[Path, Inputs], list[np.ndarray]]
EQUAL, ROUNDING, SIGMOID = 1e-5, 5.0, 2e-7
RUN_JS = """
const fs=require('fs'),path=require('path'),tf=require('@tensorflow/tfjs');
let backend='cpu';try{const wasm=require('@tensorflow/tfjs-backend-wasm');backend='wasm';
wasm.setWasmPaths(path.join(path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm')),'/'));}catch(e){}
(async()=>{const [file,folder]=process.argv.slice(2);await tf.setBackend(backend);await tf.ready();
const model=JSON.parse(fs.readFileSync(file)),dir=path.dirname(file);let specs=[],parts=[];
for(const g of model.weightsManifest){specs.push(...g.weights);for(const p of g.paths)parts.push(fs.readFileSync(path.join(dir,p)));}
const all=Buffer.concat(parts);const weightData=all.buffer.slice(all.byteOffset,all.byteOffset+all.length);
const m=await tf.loadGraphModel({load:async()=>({...model,weightSpecs:specs,weightData})});
const given=JSON.parse(fs.readFileSync(path.join(folder,'in.json'))),feed={};
for(const [name,t] of Object.entries(given)){const raw=fs.readFileSync(path.join(folder,t.file));
const ab=raw.buffer.slice(raw.byteOffset,raw.byteOffset+raw.length);
feed[name]=tf.tensor(t.dtype==='int32'?new Int32Array(ab):new Float32Array(ab),t.shape,t.dtype);}
let res;try{res=await m.executeAsync(feed,m.outputNodes);}catch(e){if(backend==='cpu')throw e;
await tf.setBackend('cpu');res=await m.executeAsync(feed,m.outputNodes);}res=Array.isArray(res)?res:[res];const out=[];
for(let i=0;i<res.length;i++){const d=await res[i].data();const f=`out${i}`;
fs.writeFileSync(path.join(folder,f),Buffer.from(d.buffer,d.byteOffset,d.byteLength));out.push({file:f,shape:res[i].shape,dtype:res[i].dtype});}
console.log(JSON.stringify(out));})().catch(e=>{console.error(String(e).slice(0,300));process.exit(1);});
"""  # noqa: E501


def run_onnx(path: Path, inputs: Inputs) -> list[np.ndarray]:
    """The outputs of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, inputs)]


def run_tflite(path: Path, inputs: Inputs) -> list[np.ndarray]:
    """The outputs of LiteRT, as real numbers."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=plain)
    details = interpreter.get_input_details()
    for detail, value in zip(details, inputs.values(), strict=False):  # states are no inputs of the file
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    for detail, value in zip(details, inputs.values(), strict=False):
        scale, zero = detail["quantization"]
        stored = np.clip(np.round(value / scale) + zero, *_range(detail["dtype"])) if scale else value
        interpreter.set_tensor(detail["index"], stored.astype(detail["dtype"]))
    interpreter.invoke()
    return [_real(interpreter.get_tensor(detail["index"]), detail) for detail in interpreter.get_output_details()]


def _range(dtype: Any) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _real(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    return (value.astype(np.float64) - zero) * scale if scale else value


def run_tfjs(path: Path, inputs: Inputs) -> list[np.ndarray]:
    """The outputs of TensorFlow.js."""
    with tempfile.TemporaryDirectory() as folder:
        entries = {}
        for place, (name, value) in enumerate(inputs.items()):
            stored = value.astype(np.int32 if value.dtype.kind in "iu" else np.float32)
            (Path(folder) / f"in{place}").write_bytes(stored.tobytes())
            entries[name] = {"file": f"in{place}", "shape": list(value.shape), "dtype": stored.dtype.name}
        (Path(folder) / "in.json").write_text(json.dumps(entries))
        script = Path(folder) / "run.js"
        script.write_text(RUN_JS)
        done = subprocess.run(["node", str(script), str(path.resolve()), folder], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-200:])
        kinds = {"float32": np.float32, "int32": np.int32, "bool": np.uint8}
        listed = json.loads(done.stdout.splitlines()[-1])
        return [
            np.frombuffer((Path(folder) / o["file"]).read_bytes(), kinds[o["dtype"]]).reshape(o["shape"])
            for o in listed
        ]


RUNTIMES: dict[str, Run] = {"onnx": run_onnx, "tflite": run_tflite, "tfjs": run_tfjs}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    parser.add_argument("--node-modules", type=Path, help="the folder that holds @tensorflow/tfjs")
    options = parser.parse_args()
    if options.node_modules:
        os.environ["NODE_PATH"] = str(options.node_modules.resolve())
    torch.set_num_threads(1)
    rows = []
    for path in files_of(options.folder):
        rows.append(row_of(path, options.folder))
        print(" | ".join(rows[-1]), flush=True)
    if options.write:
        write_page(options.write, rows)


def files_of(folder: Path) -> Iterator[Path]:
    """Network files of all formats that are compared, each content once."""
    seen = set()
    for path in sorted([*folder.rglob("*.onnx"), *folder.rglob("*.tflite"), *folder.rglob("*.json")]):
        is_graph = path.suffix != ".json" or b'"modelTopology"' in path.read_bytes()[:4096]
        content = path.read_bytes() if is_graph and path.is_file() else b""
        if content and hash(content) not in seen:
            seen.add(hash(content))
            yield path


def row_of(path: Path, folder: Path) -> tuple[str, str, str, str]:
    """(file, format, nodes, result)."""
    name = str(path.relative_to(folder))
    try:
        checkpoint = open_checkpoint(path)
        network = network_of(checkpoint)
        return name, checkpoint.format, str(len(network.nodes)), compared(checkpoint, network)
    except RegraftError as error:
        lines = str(error).splitlines()
        return name, path.suffix[1:], "", f"refused: {lines[0][:90]}{f' {lines[1].strip()[:90]}' if lines[1:] else ''}"


def compared(checkpoint: Checkpoint, network: Network) -> str:
    """How far the module's outputs are from the runtime's, in words."""
    built = planned_network(checkpoint)
    apply_plan(built.plan, checkpoint, built.model)
    problem = "no runtime"
    for shapes, most in product(sample_shapes(network.entries, {}), (100, 2)):
        inputs = random_inputs(network, shapes, most)
        try:
            wanted = RUNTIMES[checkpoint.format](checkpoint.path, inputs)
        except Exception as error:  # sizes that the network does not take, or a runtime that is not installed
            problem = f"{type(error).__name__}: {error}"
            continue
        try:
            return verdict(built.model, built.notes, inputs, wanted)
        except RuntimeError as error:  # sizes that the runtime takes although nothing is left of the map
            problem = f"the module: {error}"
    return f"built, not compared ({problem[:80]})".replace("\n", " ")


def random_inputs(network: Network, shapes: Any, most: int) -> Inputs:
    """Numbers from 0 to 1, and whole numbers below `most`; states are zeros."""
    rng = np.random.default_rng(0)
    return {
        entry.name: rng.integers(0, most, shapes[entry.name]).astype(entry.dtype)
        if "float" not in entry.dtype
        else rng.random(shapes[entry.name]).astype(np.float32) * ("state" not in entry.name)
        for entry in network.entries
    }


def verdict(model: torch.nn.Module, notes: tuple[str, ...], inputs: Inputs, wanted: list[np.ndarray]) -> str:
    """Equal, or how far, with the reason."""
    turned = [name for name in inputs if any(f"takes {name} with its channels last" in note for note in notes)]
    feed = [torch.from_numpy(x).movedim(-1, 1) if name in turned else torch.from_numpy(x) for name, x in inputs.items()]
    results = outputs_of(model, feed)
    worst = max(distance(result, other) for result, other in zip(results, wanted, strict=False))
    if worst <= EQUAL:
        return f"equal ({worst:.0e})"
    absolute = max(float(np.abs(turned_as(a, b) - b).max()) for a, b in zip(results, wanted, strict=False))
    if any("quantised" in note or "int8" in note for note in notes):
        return f"near ({absolute:.0e} absolute): the runtime rounds activations to integers"
    noise = rounding_of(model, feed, results)
    if worst <= ROUNDING * noise:
        return f"equal within float32 ({worst:.0e}; against float64 {noise:.0e})"
    if absolute <= SIGMOID:
        return f"equal within {SIGMOID:.0e} absolute ({worst:.0e}): the runtime approximates the sigmoid"
    return f"DIFFERENT ({worst:.0e})"


def rounding_of(model: torch.nn.Module, feed: list[torch.Tensor], results: list[np.ndarray]) -> float:
    """How far the module's float32 is from its float64; 0 for one that makes float32 numbers by itself."""
    double = [x.double() if x.is_floating_point() else x for x in feed]
    try:
        return max(distance(a, b) for a, b in zip(results, outputs_of(model.double(), double), strict=True))
    except RuntimeError:
        return 0.0


def outputs_of(model: torch.nn.Module, feed: list[torch.Tensor]) -> list[np.ndarray]:
    """The module's outputs."""
    with torch.no_grad():
        given = model(*feed)
    return [value.numpy() for value in (given if isinstance(given, tuple) else (given,))]


def turned_as(value: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A map with its channels where the file has them."""
    return np.moveaxis(value, 1, -1) if value.shape != wanted.shape and value.ndim > 3 else value


def distance(value: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    value = turned_as(value, wanted)
    if value.shape != wanted.shape:
        return float("inf")
    return float(np.abs(value.astype(np.float64) - wanted).max() / max(np.abs(wanted).max(), 1e-9))


def write_page(page: Path, rows: list[tuple[str, str, str, str]]) -> None:
    """Replace the page's table, with the date and the counts."""
    head = page.read_text().split("<!-- table -->")[0]
    equal = sum(result.startswith("equal") for *_, result in rows)
    near = sum(result.startswith("near") for *_, result in rows)
    refused = sum(result.startswith("refused") for *_, result in rows)
    date = datetime.now(UTC).date()
    lines = [
        f"{date}: {len(rows)} files, {equal} equal, {near} near (quantised), {refused} refused by name, "
        f"{len(rows) - equal - near - refused} different or not compared.", "",
        "| file | format | nodes | result |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {' | '.join(row)} |" for row in rows]
    page.write_text(f"{head}<!-- table -->\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
