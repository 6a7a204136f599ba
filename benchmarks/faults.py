"""Inflict faults on a feature cache, and check that it never returns a wrong value.

    python benchmarks/faults.py                       200 kills, 200 flipped bits and so on; writes docs/faults.md
    python benchmarks/faults.py --kills 5 --flips 10 --no-page

Every builder is a forked process; a kill is SIGKILL at a random moment between its start and its end.
"""

import argparse
import datetime
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from regraft.caches import building, planning
from regraft.caches.options import CANARIES
from regraft.caching import cache_features
from regraft.cuts.cut import Cut, Leaf
from regraft.errors import CacheError
from regraft.splitting import FeatureComputer
from regraft.stores.folder import FolderStore

ROWS, WIDTH, BATCH, PART = 640, 64, 8, 64
PAGE = Path(__file__).parents[1] / "docs" / "faults.md"


class SlowTrunk(FeatureComputer):
    """A frozen layer that takes 2 ms per batch and appends a byte to a file for each row that it computes.

    Weights and inputs are whole numbers: every sum is exact, so a row has the same bits at every place of a batch.
    """

    def __init__(self, log: Path) -> None:
        self.layer, self.log = nn.Linear(6, WIDTH).requires_grad_(False), log
        for parameter in self.layer.parameters():
            parameter.copy_(whole_numbers(*parameter.shape))
        self.cut = Cut((Leaf("hidden", (WIDTH,), torch.float32, 4 * WIDTH),), work_saved=1.0)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(0.002)
        with self.log.open("ab", buffering=0) as file:
            file.write(b"x" * len(x))
        return {"hidden": self.layer(x)}

    def describe(self) -> dict:
        return {"module": "slow"}

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.layer.state_dict())


def data() -> tuple[torch.Tensor, torch.Tensor]:
    return whole_numbers(ROWS, 6), torch.arange(ROWS) % 3


def whole_numbers(*shape: int) -> torch.Tensor:
    """Always the same float32 numbers from -999 to 999."""
    return torch.randint(-999, 1000, shape, generator=torch.Generator().manual_seed(1)).float()


def build(root: Path, log: Path, *, file_bytes: int = 0, as_nobody: bool = False) -> int:
    """Fork a builder and return its process id. It exits with 0, or with 3 after a CacheError, whose text it writes."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        planning.PART_BYTES, planning.LEAST_PARTS, building.WAIT_S = PART * WIDTH * 4, 1, 0.02
        if file_bytes:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        if as_nobody and os.geteuid() == 0:
            os.setuid(65534)
        inputs, labels = data()
        features = cache_features(SlowTrunk(log), (inputs, labels), FolderStore(root), batch_size=BATCH)
        exact = torch.cat([SlowTrunk(Path(os.devnull)).layer(batch) for batch in inputs.split(BATCH)])
        status = 0 if torch.equal(features.gather(torch.arange(ROWS))[0]["hidden"], exact) else 2
    except CacheError as error:
        log.with_suffix(".error").write_text(str(error))
        status = 3
    finally:
        os._exit(status)


def exit_status(pid: int) -> int:
    """The exit status of a builder; -9 when it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def files_of(root: Path) -> dict[str, bytes]:
    """The files of parts: no leases, marks, incomplete files, nor catalogues, which join what one builder commits."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.parent.name not in ("leases", "builds", "catalog")
    }


class Bench:
    """A new folder for each fault, and the files that one undisturbed builder writes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.count = folder, random.Random(seed), 0
        root, log = self.fresh()
        started = time.perf_counter()
        assert exit_status(build(root, log)) == 0
        self.duration, self.files = time.perf_counter() - started, files_of(root)
        self.whole = root

    def fresh(self) -> tuple[Path, Path]:
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        folder.chmod(0o777)
        log = folder / "log"
        log.touch()
        log.chmod(0o666)
        return folder / "features", log

    def kill(self) -> int:
        """Kill one builder and resume the build; return the number of rows that were computed twice."""
        root, log = self.fresh()
        pid = build(root, log)
        time.sleep(self.chance.random() * self.duration)
        os.kill(pid, signal.SIGKILL)
        exit_status(pid)
        seen = {name: content for name, content in files_of(root).items() if name.endswith((".json", ".record"))}
        assert seen.items() <= self.files.items(), "a record that no undisturbed builder writes"
        assert exit_status(build(root, log)) == 0, "the resumed build failed"
        assert files_of(root) == self.files, "the resumed cache differs from an undisturbed one"
        twice = log.stat().st_size - ROWS
        assert twice <= PART + CANARIES, (
            f"{twice} rows were computed twice, more than the part under way and the canary"
        )
        shutil.rmtree(root.parent)
        return twice

    def many(self, *, kill: bool) -> int:
        """Run four builders at once and kill one if `kill`; return the number of rows that were computed twice."""
        root, log = self.fresh()
        builders = [build(root, log) for _ in range(4)]
        if kill:
            time.sleep(self.chance.random() * self.duration / 3)
            os.kill(builders[0], signal.SIGKILL)
        statuses = [exit_status(pid) for pid in builders]
        assert statuses[1:] == [0, 0, 0], statuses
        left = files_of(root)
        assert left == self.files, "four builders wrote other files than one"
        return log.stat().st_size - ROWS

    def flip(self) -> str:
        """Flip a random bit of a random file, or truncate it; return what the next build does."""
        root, log = self.fresh()
        shutil.copytree(self.whole, root)
        path = self.chance.choice([path for path in sorted(root.rglob("*")) if path.is_file()])
        content = bytearray(path.read_bytes())
        offset = self.chance.randrange(len(content))
        if self.chance.random() < 0.3:
            content = content[:offset]
        else:
            content[offset] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)
        status = exit_status(build(root, log))
        error = log.with_suffix(".error")
        if status == 3:
            assert path.name in error.read_text() or path.stem in error.read_text(), error.read_text()
            assert any(word in error.read_text() for word in ("Remove", "clear"))
        assert status in (0, 3), f"status {status} after damage to {path.name}"
        shutil.rmtree(root.parent)
        return "refused" if status == 3 else "harmless"

    def full(self) -> int:
        """Limit the size of files as on a full disk, then lift the limit."""
        root, log = self.fresh()
        assert exit_status(build(root, log, file_bytes=self.chance.randrange(700, 16_000))) == 3
        assert "There is no room for" in log.with_suffix(".error").read_text()
        assert exit_status(build(root, log)) == 0
        assert files_of(root) == self.files
        return log.stat().st_size - ROWS

    def small_disk(self) -> str:
        """Use a disk of 64 KiB, if one can be mounted."""
        root, log = self.fresh()
        root.mkdir()
        if os.system(f"mount -t tmpfs -o size=64k regraft-faults {root} 2>/dev/null"):
            return "not tried: no disk can be mounted here"
        try:
            assert exit_status(build(root, log)) == 3
            assert "There is no room for" in log.with_suffix(".error").read_text()
            os.system(f"mount -o remount,size=8m {root}")
            assert exit_status(build(root, log)) == 0
            assert files_of(root) == self.files
            return "refused; the build finished after the disk had grown"
        finally:
            os.system(f"umount {root}")

    def read_only(self) -> str:
        """Make a folder read-only: a complete cache can be read, an empty one is refused."""
        root, log = self.fresh()
        shutil.copytree(self.whole, root)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert exit_status(build(root, log, as_nobody=True)) == 0
        empty, log = self.fresh()
        empty.mkdir(mode=0o555)
        assert exit_status(build(empty, log, as_nobody=True)) == 3
        assert "Make it writable" in log.with_suffix(".error").read_text()
        return "a complete cache is read; an empty one is refused with the name of the folder"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--others", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        bench = Bench(folder, options.seed)
        twice = [bench.kill() for _ in range(options.kills)]
        flips = [bench.flip() for _ in range(options.flips)]
        shared = [bench.many(kill=False) for _ in range(options.others)]
        taken = [bench.many(kill=True) for _ in range(options.others)]
        full = [bench.full() for _ in range(options.others)]
        lines = [
            ("one builder is killed (SIGKILL), then the build is resumed", len(twice),
             f"byte-identical to an undisturbed build; rows computed twice: mean {sum(twice) / len(twice):.1f}, "
             f"at most {max(twice)} (a part has {PART} rows, the canary {CANARIES})"),
            ("a random bit is flipped, or a file is truncated", len(flips),
             f"{flips.count('refused')} refused with the name of the file and what to do, "
             f"{flips.count('harmless')} harmless, 0 wrong values"),
            ("four builders run at once", len(shared),
             f"byte-identical to the files of one builder; rows computed twice: at most {max(shared)}"),
            ("four builders run at once, one is killed", len(taken),
             f"byte-identical to the files of one builder; rows computed twice: at most {max(taken)}"),
            ("the disk is full (RLIMIT_FSIZE), then has space again", len(full),
             f"refused with the name of the file, then finished; rows computed twice: at most {max(full)}"),
            ("the disk has 64 KiB", 1, bench.small_disk()),
            ("the folder is read-only", 1, bench.read_only()),
        ]  # fmt: skip
    finally:
        shutil.rmtree(folder)
    table = "\n".join(f"| {what} | {count} | {result} |" for what, count, result in lines)
    page = (
        "# Cache faults\n\n"
        "This page lists faults that were inflicted on a feature cache, and the results. To repeat them:\n"
        f"`python {' '.join(['benchmarks/faults.py', *sys.argv[1:]])}` (measured {datetime.date.today()}, "
        f"{ROWS} rows in parts of {PART}, seed {options.seed}).\n\n"
        f"| Fault | Trials | Result |\n|---|---|---|\n{table}\n\n"
        "When the owner of a lease dies, another builder takes the lease over: at once on the same machine, after 30 s "
        "without\na sign of life on another. No clocks are compared (`tests/stores/test_leases.py` changes them).\n"
    )
    print(page)
    if not options.no_page:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
