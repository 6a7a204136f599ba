"""`regraft features`: compute a job's features and write them for other tools."""

from pathlib import Path

from regraft.cli.printing import Commands, add_command, refuse_usage, say


def add_to(commands: Commands) -> None:
    """The command and its arguments."""
    add = add_command(commands, features)
    add("job", type=Path, help="a job.toml")
    add("--out", type=Path, required=True, metavar="PATH", help=".parquet, .arrow, .feather, or a folder")
    add("--part", default="train", help="train, validation or test")
    add("--set", dest="settings", action="append", metavar="SECTION.KEY=VALUE", help="override a key; repeatable")


def features(job: Path, *, out: Path, part: str, settings: list[str] | None) -> None:
    """Compute the frozen layers' outputs for a part of a job's data, and write them with labels and ids.

    Features that [cache] folder has are not computed again. Read them in Python by regraft.Features.read(PATH).
    """
    import torch

    from regraft.caches.features import Features
    from regraft.caches.options import Share
    from regraft.foundation.stopwatch import Stopwatch
    from regraft.foundation.wording import bytes_text, counted
    from regraft.jobs.job import Job
    from regraft.recipe import prepared, with_features

    whole = Job.from_file(job, [*(settings or []), "cache.use=true"])
    torch.manual_seed(whole.train.seed)
    ready = prepared(whole, Stopwatch(), lambda line: None)
    if part not in ready.data:
        refuse_usage("features", f"--part {part!r}: the job has {', '.join(ready.data)}")
    _, made = with_features(ready, whole, Stopwatch(), lambda line: None, Share())
    computed, data = made[part], ready.data[part]
    assert isinstance(computed, Features), "cache.use is true"
    computed.with_labels(computed.labels, classes=data.classes).write(out, ids=data.ids)
    say(f"written: {out}, {counted(len(computed), 'example')}, {bytes_text(computed.bytes)}")
