"""Applying a function to many items in several processes or threads."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from typing import Any

import numpy as np


def parallel_apply_generator(
    func: Callable,
    iterable: Iterable,
    workers: int,
    max_queue_size: int,
    dummy: bool = False,
    random_seeds: bool | Sequence[int] = True,
) -> Iterator[tuple[int, Any]]:
    """Apply a function to every item in parallel; results come as they are ready.

    Args:
        func: a function of one item. Where processes can be forked (Linux) it may be
            any function; elsewhere one that can be pickled.
        iterable: the items; consumed no faster than the results are taken.
        workers: the number of processes.
        max_queue_size: how many items may be in work or waiting at a time.
        dummy: whether to use threads instead of processes.
        random_seeds: seeds of `random` and `np.random` in each process: a sequence with
            one for each, or `True` to draw them from `np.random`. `False` leaves all
            processes with this one's state. Of no effect on threads, which share it.

    Yields:
        `(index, result)` for each item, in any order.

    Raises:
        Exception: what `func` raised, as soon as it did.
    """
    if workers < 1 or max_queue_size < 1:
        raise ValueError(
            f"workers is {workers} and max_queue_size is {max_queue_size}; expected at "
            "least 1"
        )
    if dummy:
        executor, apply = ThreadPoolExecutor(workers), (func,)
    else:
        executor, apply = _processes(func, workers, random_seeds), (_apply,)
    pending = {}
    try:
        for i, item in enumerate(iterable):
            pending[executor.submit(*apply, item)] = i
            if len(pending) >= max_queue_size:
                yield from _take_finished(pending)
        while pending:
            yield from _take_finished(pending)
    finally:
        executor.shutdown(cancel_futures=True)


def parallel_apply(
    func: Callable,
    iterable: Iterable,
    workers: int,
    max_queue_size: int,
    callback: Callable | None = None,
    dummy: bool = False,
    random_seeds: bool | Sequence[int] = True,
    unordered: bool = True,
) -> list | None:
    """Apply a function to every item in parallel.

    Args:
        callback: called in this process with each result as it is ready; nothing is
            collected then.
        unordered: whether results may be listed in any order instead of the items'.

    The other arguments are those of `parallel_apply_generator`.

    Returns:
        The list of results, or `None` if there is a callback.
    """
    results = parallel_apply_generator(
        func, iterable, workers, max_queue_size, dummy, random_seeds
    )
    if callback is not None:
        for _, result in results:
            callback(result)
        return None
    if not unordered:
        results = sorted(results, key=lambda pair: pair[0])
    return [result for _, result in results]


def _take_finished(pending: dict) -> Iterator[tuple[int, Any]]:
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _processes(
    func: Callable, workers: int, random_seeds: bool | Sequence[int]
) -> ProcessPoolExecutor:
    if random_seeds is True:
        random_seeds = np.random.randint(2**31, size=workers).tolist()
    if random_seeds and len(random_seeds) != workers:
        raise ValueError(
            f"random_seeds has {len(random_seeds)} entries for {workers} workers; give "
            "one for each"
        )
    # A forked process inherits the function, which then need not be pickled.
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else None)
    seeds = context.SimpleQueue()
    for seed in random_seeds or [None] * workers:
        seeds.put(seed)
    return ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(func, seeds)
    )


def _start_worker(func: Callable, seeds) -> None:
    """Set up a worker process: its function and its randomness."""
    global _worker_func  # exists in worker processes only
    _worker_func = func
    seed = seeds.get()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)


def _apply(item):
    return _worker_func(item)
