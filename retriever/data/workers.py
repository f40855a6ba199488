"""Worker processes for text work, set up the same way wherever they are used."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def cores() -> int:
    """Cores this process may use, which a container or a batch system may have limited; a daemon starts no others."""
    if multiprocessing.current_process().daemon:  # such as a worker of a Pool
        return 1
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def worker_pool(
    processes: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of processes: forked on Linux, where a script then needs no main guard, spawned elsewhere."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(processes, context, initializer=initializer, initargs=initargs)
