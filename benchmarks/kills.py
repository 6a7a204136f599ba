"""Kill workers that fill one store together, in a folder and on an S3 server, and check what they leave.

    python benchmarks/kills.py                 20 kills in a folder, 20 on an S3 server of this machine (moto)
    python benchmarks/kills.py --kills 3

Three workers (`fill_features`) share a store. One is killed (SIGKILL) at a random moment, and another one takes its
place. Then the parts must be those of one undisturbed worker byte for byte, no lease may be left, and no more rows may
have been computed twice than a killed worker had under way.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch
from faults import BATCH, PART, ROWS, WIDTH, SlowTrunk, data, exit_status

from regraft.caches import building, planning
from regraft.caches.options import CANARIES, Engine, Share
from regraft.caching import cache_features, fill_features
from regraft.stores.folder import FolderStore
from regraft.stores.places import place_of

WORKERS = 3
OF_PARTS = ("parts", "records")
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
               "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


def forked(work) -> int:
    """A process that does the work; fsspec is imported there, so that no thread of it is forked."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        planning.PART_BYTES, planning.LEAST_PARTS, building.WAIT_S = PART * WIDTH * 4, 1, 0.05
        status = work()
    finally:
        os._exit(status)


def worker(url: str, log: Path, number: int) -> int:
    def fill() -> int:
        share = Engine(share=Share(number, WORKERS))
        return int(fill_features(SlowTrunk(log), data(), url, batch_size=BATCH, engine=share).missing > 0)

    return forked(fill)


def is_right(url: str, whole: Path) -> int:
    """0 where the store has the files of the undisturbed one, serves the exact values, and no lease is left."""
    (key,) = FolderStore(url).manifests()
    place, other = place_of(f"{url}/{key}"), place_of(whole / key)
    for folder in OF_PARTS:
        names = place.names(folder)
        if names != other.names(folder):
            return 2
        if any(place.read(f"{folder}/{name}") != other.read(f"{folder}/{name}") for name in names):
            return 3
    if place.names("leases") or place.names("builds"):
        return 4
    inputs, labels = data()
    trunk = SlowTrunk(Path(os.devnull))
    features = cache_features(trunk, (inputs, labels), url, batch_size=BATCH)
    exact = torch.cat([trunk.layer(batch) for batch in inputs.split(BATCH)])
    return 0 if features.computed == 0 and torch.equal(features.inputs["hidden"], exact) else 5


def killed_once(url: str, whole: Path, folder: Path, duration: float, chance: random.Random) -> int:
    """Rows that were computed twice."""
    log = folder / "log"
    log.write_bytes(b"")
    workers = [worker(url, log, number) for number in range(WORKERS)]
    time.sleep(chance.random() * duration)
    victim = chance.randrange(WORKERS)
    os.kill(workers[victim], signal.SIGKILL)
    exit_status(workers[victim])
    workers[victim] = worker(url, log, victim)
    statuses = [exit_status(pid) for pid in workers]
    assert statuses == [0] * WORKERS, statuses
    twice = log.stat().st_size - ROWS
    status = exit_status(forked(lambda: is_right(url, whole)))
    assert status == 0, f"status {status} of is_right"
    assert twice <= PART + (WORKERS + 1) * CANARIES, f"{twice} rows were computed twice"
    return twice


def server(folder: Path) -> tuple[subprocess.Popen, str]:
    """An S3 server of this machine with one bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "server").open("w"))
    url = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/kills", method="PUT")).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, url


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chance, folder = random.Random(options.seed), Path(tempfile.mkdtemp())
    whole, log = folder / "whole", folder / "log"
    process, url = server(folder)
    os.environ |= {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}
    try:
        log.write_bytes(b"")
        assert exit_status(worker(str(whole), log, 0)) == 0
        for name, root in (("a folder", str(folder)), ("an S3 server", "s3://kills")):
            started = time.perf_counter()
            assert exit_status(worker(f"{root}/undisturbed", log, 0)) == 0
            duration = time.perf_counter() - started
            twice = [
                killed_once(f"{root}/{number}", whole, folder, duration, chance) for number in range(options.kills)
            ]
            print(
                f"{name}: {len(twice)} of {WORKERS} workers killed: byte-identical, no lease left, every value exact; "
                f"rows computed twice (canaries included): mean {sum(twice) / len(twice):.1f}, at most {max(twice)} "
                f"(a part has {PART})"
            )
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
