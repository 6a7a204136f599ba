"""Blocks fetched ahead, in threads or processes."""

import os
import threading

import pytest
import torch

from regraft.sources.fetching import fetched_ahead, in_processes

BLOCKS = list(torch.arange(12).split(3))


def whose(block):
    """The block with the process that fetched it."""
    return block.tolist(), os.getpid()


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_give_the_blocks_in_order(workers):
    """Of other processes where there are any."""
    fetched = list(in_processes(whose, BLOCKS, workers))
    assert [rows for rows, _ in fetched] == [block.tolist() for block in BLOCKS]
    assert all((process == os.getpid()) == (workers == 0) for _, process in fetched)


@pytest.mark.parametrize("workers", [0, 2])
def test_threads_give_the_blocks_in_order(workers):
    """Named, so that a stack trace says what they do."""
    names = []

    def gather(block):
        names.append(threading.current_thread().name)
        return block * 2, block

    fetched = list(fetched_ahead(gather, BLOCKS, workers))
    assert [labels.tolist() for _, _, labels in fetched] == [block.tolist() for block in BLOCKS]
    assert all(name.startswith("regraft-examples") == (workers > 0) for name in names)
