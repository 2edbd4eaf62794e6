import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data import DataGenerator

pytestmark = pytest.mark.pure


class Stream:
    """Re-readable data without a length."""

    def __init__(self, n):
        self.n, self.passes = n, 0

    def __iter__(self):
        self.passes += 1
        return iter(range(self.n))


class Numbers(DataGenerator):
    def __iter__(self, random=False):
        batch = []
        for is_end, n in self.sample(random):
            batch.append(n)
            if len(batch) == self.batch_size or is_end:
                yield np.array(batch), np.array(batch) % 2
                batch = []


def drawn(generator, random):
    return [n for x, _ in generator.__iter__(random) for n in x.tolist()]


@given(
    st.integers(0, 30), st.integers(1, 7), st.integers(1, 12), st.booleans(), st.data()
)
def test_a_pass_has_every_sample_once(n, batch_size, buffer_size, random, data):
    source = data.draw(st.sampled_from([list(range(n)), Stream(n), iter(range(n))]))
    generator = Numbers(source, batch_size, buffer_size, seed=0)
    ends = [is_end for is_end, _ in generator.sample(random)]
    assert ends == [False] * (n - 1) + [True] * (n > 0)
    if source is not iter(source):
        numbers = drawn(generator, random)
        assert sorted(numbers) == list(range(n))
        assert random or numbers == sorted(numbers)
        assert len(generator) == -(-n // batch_size)


def test_passes_are_shuffled_differently_and_reproducibly():
    first, second = Numbers(list(range(50)), seed=1), Numbers(list(range(50)), seed=1)
    passes = [drawn(first, True) for _ in range(2)]
    assert passes == [drawn(second, True) for _ in range(2)]
    assert passes[0] != passes[1]


def test_numpys_seed_makes_a_script_reproducible():
    def run():
        np.random.seed(5)
        return drawn(Numbers(list(range(50))), True)

    assert run() == run()


def test_a_buffer_bounds_how_far_samples_move_forward():
    numbers = drawn(Numbers(Stream(200), buffer_size=10, seed=0), True)
    assert numbers != sorted(numbers)
    assert all(n <= place + 10 for place, n in enumerate(numbers))


def test_an_endless_stream_can_be_sampled():
    def endless():
        n = 0
        while True:
            yield n
            n += 1

    samples = Numbers(endless(), batch_size=2, buffer_size=4).sample(True)
    assert len({next(samples)[1] for _ in range(100)}) == 100


def test_length_of_a_stream_is_counted_once_and_late():
    stream = Stream(10)
    generator = Numbers(stream, batch_size=4)
    assert stream.passes == 0
    assert (len(generator), len(generator)) == (3, 3)
    assert stream.passes == 1


def test_an_iterator_has_no_length():
    generator = Numbers(iter([1, 2]), batch_size=1)
    with pytest.raises(TypeError, match=r"list_iterator.*steps_per_epoch"):
        len(generator)
    assert drawn(generator, False) == [1, 2]


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size is 0"):
        DataGenerator([1], batch_size=0)


def test_a_subclass_must_say_what_a_batch_is():
    with pytest.raises(NotImplementedError, match=r"sample\(random\)"):
        iter(DataGenerator([1]))
