"""W9: `regraft predict` of one image, against a bare script that imports torch, loads the same model and runs it.

    python benchmarks/w9_predict.py

The model is the MobileNetV1-0.25 of the demo, saved with its factory, and the image a photograph of the demo. Times are
processor seconds of a new process, from its start to its end, on one thread.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Contender, Goal, report, take_turns

import regraft
from regraft.demo.mobilenet import mobilenet_v1_025
from regraft.demo.shipped import copy_photos
from regraft.inputs import InputContract
from regraft.saving import Factory

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = InputContract(size=(224, 224), mean=(0.5,), std=(0.5,))
BARE = """
import sys
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from network import mobilenet_v1_025

model = mobilenet_v1_025(6).eval()
model.load_state_dict(load_file(sys.argv[1]))
image = Image.open(sys.argv[2]).convert("RGB").resize((224, 224))
pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
with torch.inference_mode():
    print(model(pixels).softmax(1).max().item())
"""
LIMIT = "list the imports with `python -X importtime -m regraft predict RUN IMAGE`."


def processor_s(command: list[str], bytecode: Path) -> float:
    """Processor seconds of a command, with the bytecode that an earlier run has compiled."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{bytecode.parent}", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPYCACHEPREFIX": str(bytecode)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_photos(folder)
        image = str(min(folder.rglob("*.jpg")))
        source = ROOT / "src" / "regraft" / "demo" / "mobilenet.py"
        (folder / "network.py").write_text(source.read_text())
        (folder / "bare.py").write_text(BARE)
        run, factory = folder / "run", Factory("regraft.demo.mobilenet:mobilenet_v1_025", {"num_classes": 6})
        regraft.save(mobilenet_v1_025(6), run, inputs=CONTRACT, classes=list("abcdef"), factory=factory)
        commands = {
            "bare script": [sys.executable, str(folder / "bare.py"), str(run / "model.safetensors"), image],
            "regraft predict": [sys.executable, "-m", "regraft", "predict", str(run), image],
        }
        contenders = [
            Contender(name, lambda command=command: processor_s(command, folder / "bytecode"))
            for name, command in commands.items()
        ]
        goals = [Goal("at most 1.5× a bare script", *reversed(commands), most=1.5, limit=LIMIT)]
        report([take_turns("W9: predict one image", "CPU s", contenders, rounds=7, goals=goals)])


if __name__ == "__main__":
    main()
