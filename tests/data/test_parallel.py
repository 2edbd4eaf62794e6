import multiprocessing
import os
import random
import threading

import numpy as np
import pytest

from bert4keras.data.parallel import parallel_apply, parallel_apply_generator

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("dummy", [False, True])
def test_every_item_once_in_order(dummy):
    factor = 3  # a closure, which cannot be pickled

    results = parallel_apply(
        lambda x: x * factor, iter(range(20)), 2, 5, dummy=dummy, unordered=False
    )
    assert results == [3 * x for x in range(20)]


def test_unordered_and_callback():
    assert sorted(parallel_apply(abs, [-1, -2, -3], 2, 2)) == [1, 2, 3]
    taken = []
    assert parallel_apply(abs, [-1, -2], 2, 2, callback=taken.append) is None
    assert sorted(taken) == [1, 2]


def test_indices_belong_to_results():
    pairs = parallel_apply_generator(lambda x: x * x, [5, 6, 7], 2, 2, dummy=True)
    assert dict(pairs) == {0: 25, 1: 36, 2: 49}


def test_work_is_done_in_other_processes():
    assert os.getpid() not in parallel_apply(lambda _: os.getpid(), range(3), 2, 3)


def test_threads_share_this_process():
    def where(_):
        return os.getpid(), threading.get_ident()

    places = parallel_apply(where, range(3), 2, 3, dummy=True)
    assert {pid for pid, _ in places} == {os.getpid()}
    assert threading.get_ident() not in {thread for _, thread in places}


def test_seeds_differ_and_can_be_given():
    both = multiprocessing.get_context("fork").Barrier(2)

    def draw(_):
        both.wait(timeout=60)  # each worker has one of the two items
        return random.random(), np.random.random()

    def draws(seeds):
        return sorted(parallel_apply(draw, range(2), 2, 2, random_seeds=seeds))

    assert draws([1, 2]) == draws([1, 2])
    (first, first_of_numpy), (second, second_of_numpy) = draws(True)
    assert first != second
    assert first_of_numpy != second_of_numpy


def test_a_failure_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        parallel_apply(lambda x: 1 // x, [1, 0, 1], 2, 2)


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = parallel_apply_generator(abs, items(), 2, 4, dummy=True)
    next(results)
    results.close()
    assert len(taken) <= 4


@pytest.mark.parametrize(
    ("workers", "size", "seeds", "message"),
    [
        (0, 1, True, "workers is 0"),
        (1, 0, True, "max_queue_size is 0"),
        (2, 2, [1], "1 entries for 2 workers"),
    ],
)
def test_errors(workers, size, seeds, message):
    with pytest.raises(ValueError, match=message):
        parallel_apply(abs, [1], workers, size, random_seeds=seeds)
