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
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from regraft.arrays import Checkpoint
from regraft.errors import RegraftError, VerifyError
from regraft.foundation.wording import counted
from regraft.networks.network import Network
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint
from regraft.runtimes.recording import Recording
from regraft.verifying_runtime import relative, verify_with_runtime

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


def run_tfjs(checkpoint: Checkpoint, network: Network, inputs: Mapping[str, np.ndarray]) -> Recording:
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
        done = subprocess.run(
            ["node", str(script), str(checkpoint.path.resolve()), folder], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-200:])
        kinds = {"float32": np.float32, "int32": np.int32, "bool": np.uint8}
        listed = json.loads(done.stdout.splitlines()[-1])
        values = [
            np.frombuffer((Path(folder) / o["file"]).read_bytes(), kinds[o["dtype"]]).reshape(o["shape"])
            for o in listed
        ]
        return Recording("TensorFlow.js", inputs, dict(zip(network.outputs, values, strict=False)))


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
        return name, checkpoint.format, str(len(network.nodes)), compared(checkpoint)
    except RegraftError as error:
        lines = str(error).splitlines()
        return name, path.suffix[1:], "", f"refused: {lines[0][:90]}{f' {lines[1].strip()[:90]}' if lines[1:] else ''}"


def compared(checkpoint: Checkpoint) -> str:
    """How far the module's values are from the runtime's, in words."""
    record = run_tfjs if checkpoint.format == "tfjs" else None
    try:
        result = verify_with_runtime(checkpoint, record=record)
    except VerifyError as error:
        if "rounds" in str(error) or "rounding" in str(error):
            far = verify_with_runtime(checkpoint, record=record, rtol=1e9).outputs
            absolute = max(output.max_error for output in far)
            return f"near ({absolute:.0e} absolute): the runtime rounds activations to integers"
        return f"{'DIFFERENT' if 'differs' in str(error) else 'not compared'}: {' '.join(str(error).split())[:160]}"
    words = f"{max(map(relative, result.outputs)):.0e}"
    words += f", {counted(len(result.steps), 'inner value')}" if result.steps else ""
    return f"equal ({words})" + "".join(f", {note.rpartition(': ')[2]}" for note in result.notes[:1])


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
