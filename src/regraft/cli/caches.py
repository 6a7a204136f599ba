"""`regraft cache`: look at, check and clear stored features."""

import sys

from regraft.cli.printing import Commands, add_command, say

NO_REPORT = (
    "No worker has written its progress: one process alone does so after 10 seconds. "
    "`regraft cache ls` lists the entries that are stored."
)


def add_to(commands: Commands) -> None:
    """The commands and their arguments."""
    summary = "Look at, check and clear stored features."
    cache = commands.add_parser("cache", help=summary, description=summary)
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for function in (cache_ls, cache_verify, cache_tidy):
        add = add_command(inner, function, function.__name__.removeprefix("cache_"))
        add("folder", help="a feature folder, or a URL that fsspec knows")
        if function is not cache_ls:
            add("--key", help="the key of one entry, or its beginning")
    add = add_command(inner, cache_progress, "progress")
    add("folder", help="a feature folder, or a URL that fsspec knows")
    add("--price", type=float, metavar="NUMBER", help="of a worker for an hour: also print the cost so far")
    add = add_command(inner, cache_clear, "clear")
    add("folder", help="a feature folder, or a URL that fsspec knows")
    add("--key", help="the key of one entry, or its beginning")
    add("--older-than-days", type=float, metavar="DAYS", help="entries to which nothing was added for so long")
    add("--keep-gb", type=float, metavar="GB", help="the oldest entries, until the rest is no larger")


def cache_ls(folder: str) -> None:
    """What each entry belongs to, its size, and whether it is whole. Exit 1 when one has changed since."""
    from regraft.caches.maintenance import entries_table, list_entries

    entries = list_entries(folder)
    say(entries_table(entries))
    if any(entry.state == "changed" for entry in entries):
        sys.exit(1)


def cache_progress(folder: str, *, price: float | None) -> None:
    """How far all workers of each build are: rows, throughput, expected end, cost so far, and what has stopped any."""
    from regraft.caches.build_progress import progress_in

    builds = progress_in(folder)
    say("\n".join(line for build in builds for line in build.lines(price)) or NO_REPORT)


def cache_verify(folder: str, *, key: str | None) -> None:
    """Read and hash every stored byte. Exit 1 when something is not what was written."""
    from regraft.caches.maintenance import verify_entries

    problems_of = verify_entries(folder, [key] if key else [])
    for entry, problems in problems_of.items():
        say("\n  ".join([f"{entry}  {'changed' if problems else 'verified'}", *problems]))
    if any(problems_of.values()):
        sys.exit(1)


def cache_tidy(folder: str, *, key: str | None) -> None:
    """Remove what dead builders left: half-written files, leases, shards without a record. Features stay."""
    from regraft.caches.maintenance import tidy_entries

    for entry, files in tidy_entries(folder, key).items():
        say(f"{entry}  {f'{len(files)} removed' if files else 'nothing to remove'}")


def cache_clear(folder: str, *, key: str | None, older_than_days: float | None, keep_gb: float | None) -> None:
    """Remove entries by key, age or size; those that are being built stay."""
    from regraft.caches.maintenance import clear_entries, entries_table

    age = None if older_than_days is None else older_than_days * 86400
    size = None if keep_gb is None else keep_gb * 1e9
    removed = clear_entries(folder, key=key, older_than_s=age, keep_bytes=size)
    say("removed:\n" + entries_table(removed) if removed else "nothing to remove")
