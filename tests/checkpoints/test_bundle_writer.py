"""Writing checkpoints: what comes back, and what is visible at every moment."""

import os
import re
import threading
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bert4keras.checkpoints import (
    CheckpointError,
    CheckpointReader,
    MissingCheckpointError,
    bundle_writer,
    write_checkpoint,
)

pytestmark = pytest.mark.pure

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: name[0] != "\0"
)
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16"]
ARRAYS = hnp.arrays(
    st.sampled_from([*DTYPES, "?", ">f4", ">i8"]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype.newbyteorder("<")
    expected = expected.astype(expected.dtype.newbyteorder("<"))
    assert found.tobytes() == expected.tobytes()  # NaNs and signed zeros too


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=50,
)
@given(st.dictionaries(NAMES, ARRAYS, max_size=8), st.integers(1, 4))
def test_round_trip(tmp_path, tensors, num_shards):
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, tensors, num_shards)
    with CheckpointReader(prefix, verify=True) as reader:
        assert reader.num_shards == num_shards
        assert set(reader) == set(tensors)
        for name, value in tensors.items():
            assert reader.shape(name) == value.shape
            assert reader.dtype(name) == value.dtype.newbyteorder("<")
            assert_same(reader[name], value)


def test_values_that_are_no_plain_arrays(tmp_path):
    values = np.arange(24, dtype="float32").reshape(4, 6)
    tensors = {
        "scalar": 3.5,
        "list": [[1, 2], [3, 4]],
        "transposed": values.T,
        "strided": values[::2, 1::3],
        "strided vector": values[:, 1],
        "reversed": values[0, ::-1],
        "bfloat16": values.astype(ml_dtypes.bfloat16),
        "read_only": np.broadcast_to(values[0], (3, 6)),
    }
    write_checkpoint(tmp_path / "m", tensors.items())
    reader = CheckpointReader(tmp_path)
    for name, value in tensors.items():
        assert_same(reader[name], np.asarray(value))


def test_strings(tmp_path):
    """Bytes as they are, `str` as UTF-8, in any array."""
    objects = np.array([[b"", b"\0\xff", "字"], [b"a" * 300, "b", b"c"]], object)
    tensors = {"objects": objects, "one": "é", "none": np.array([], object)}
    tensors["fixed"] = np.array([b"ab", b"c"])
    write_checkpoint(tmp_path / "m", tensors)
    reader = CheckpointReader(tmp_path, verify=True)
    assert reader["objects"].tolist() == [
        [b"", b"\0\xff", "字".encode()],
        [b"a" * 300, b"b", b"c"],
    ]
    assert reader["one"].item() == "é".encode()
    assert reader["none"].shape == (0,)
    assert reader["fixed"].tolist() == [b"ab", b"c"]


def test_shards_share_the_bytes(tmp_path):
    write_checkpoint(tmp_path / "m", ((f"w{i}", np.ones(100)) for i in range(9)), 3)
    sizes = [path.stat().st_size for path in tmp_path.glob("m.data-*")]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= bundle_writer.ALIGNMENT


def test_an_iterable_is_not_held_in_memory(tmp_path):
    size, count = 1 << 20, 24
    pairs = ((f"w{i}", np.full(size, i, "uint8")) for i in range(count))
    tracemalloc.start()
    write_checkpoint(tmp_path / "m", pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * size
    assert CheckpointReader(tmp_path)["w23"][0] == 23


@pytest.mark.parametrize(
    "tensors",
    [
        {"": np.ones(2)},
        {"\0w": np.ones(2)},
        {"\ud800": np.ones(2)},
        {7: np.ones(2)},
        {"object": np.array([None])},
        {"mixed": np.array([b"a", 1], object)},
        {"time": np.array(["2020-01-01"], "datetime64[D]")},
        [("w", np.ones(2)), ("w", np.ones(2))],
    ],
)
def test_what_cannot_be_written(tmp_path, tensors):
    write_checkpoint(tmp_path / "m", {"old": np.ones(3)})
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CheckpointError):
        write_checkpoint(tmp_path / "m", tensors)
    assert sorted(os.listdir(tmp_path)) == before
    assert CheckpointReader(tmp_path, verify=True).keys() == ["old"]


@pytest.mark.parametrize("num_shards", [0, -1, 100000])
def test_impossible_numbers_of_shards(tmp_path, num_shards):
    with pytest.raises(CheckpointError, match="expected 1 to 99999"):
        write_checkpoint(tmp_path / "m", {"w": np.ones(2)}, num_shards)
    assert os.listdir(tmp_path) == []


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder"):
        write_checkpoint(tmp_path / "none" / "m", {"w": np.ones(2)})


def test_an_error_in_the_iterable(tmp_path):
    def pairs():
        yield "w", np.ones(5)
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        write_checkpoint(tmp_path / "m", pairs(), 2)
    assert os.listdir(tmp_path) == []


OLD = {"w": np.zeros(40, "float32"), "old": np.zeros(3)}
NEW = {"w": np.ones(40, "float32"), "new": np.ones(3)}


def visible(prefix):
    """Which checkpoint a reader finds: all values of it are compared."""
    try:
        with CheckpointReader(prefix, verify=True) as reader:
            found = {name: reader[name] for name in reader}
    except FileNotFoundError as error:
        assert "there is no" in str(error)  # the index, not a data file
        return "none"
    for title, tensors in [("old", OLD), ("new", NEW)]:
        if found.keys() == tensors.keys():
            for name, value in tensors.items():
                np.testing.assert_array_equal(found[name], value)
            return title
    raise AssertionError(f"neither the old nor the new variables: {set(found)}")


@pytest.mark.parametrize("old_shards", [0, 1, 2, 3])
@pytest.mark.parametrize("new_shards", [1, 3])
def test_every_moment_shows_one_checkpoint_or_none(
    tmp_path, monkeypatch, old_shards, new_shards
):
    prefix = tmp_path / "m.ckpt"
    if old_shards:
        write_checkpoint(prefix, OLD, old_shards)
    seen = []

    def watch(call):
        def watched(*args, **kwargs):
            seen.append(visible(prefix))  # what a kill before this call leaves
            result = call(*args, **kwargs)
            seen.append(visible(prefix))
            return result

        return watched

    monkeypatch.setattr(os, "replace", watch(os.replace))
    monkeypatch.setattr(type(prefix), "unlink", watch(type(prefix).unlink))
    monkeypatch.setattr(os, "fsync", watch(os.fsync))
    write_checkpoint(prefix, NEW, new_shards)
    assert seen[0] == ("old" if old_shards else "none")
    assert seen[-1] == "new"
    order = [state for i, state in enumerate(seen) if i == 0 or state != seen[i - 1]]
    assert order == (["old"] if old_shards else []) + ["none", "new"]
    expected = [f"m.ckpt.data-{i:05d}-of-{new_shards:05d}" for i in range(new_shards)]
    assert sorted(os.listdir(tmp_path)) == [*expected, "m.ckpt.index"]


@pytest.mark.parametrize("moves", range(1, 6))
def test_what_a_killed_write_leaves_can_be_restored(tmp_path, monkeypatch, moves):
    prefix = tmp_path / "m.ckpt"
    write_checkpoint(prefix, OLD, 2)
    replace, left = os.replace, []

    def killed(source, target):
        if len(left) < moves:
            left.append(target)
            replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(type(prefix), "unlink", lambda *args, **kwargs: None)
        patch.setattr(bundle_writer, "_remove_leftovers", lambda prefix: None)
        write_checkpoint(prefix, NEW, 2)
    with pytest.raises(MissingCheckpointError) as caught:
        CheckpointReader(prefix)
    ending = re.search(r"\.old-[0-9a-f]{8}", str(caught.value))[0]
    for path in tmp_path.glob("*" + ending):
        path.rename(path.with_name(path.name.removesuffix(ending)))
    assert visible(prefix) == "old"
    write_checkpoint(prefix, NEW, 2)
    assert visible(prefix) == "new"
    assert len(os.listdir(tmp_path)) == 3


def test_readers_during_writes_see_one_checkpoint_or_an_error(tmp_path):
    prefix = tmp_path / "m.ckpt"
    write_checkpoint(prefix, OLD, 2)
    done = threading.Event()

    def write():
        try:
            for number in range(60):
                write_checkpoint(prefix, [NEW, OLD][number % 2], 2 - number % 3 % 2)
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        try:
            seen.add(visible(prefix))
        except CheckpointError as error:
            assert "changed since it was opened" in str(error)
    writer.join()
    assert visible(prefix) == "old"
    assert seen <= {"old", "new", "none"}
    assert seen


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(6))
def test_an_error_between_the_moves_is_undone(
    tmp_path, monkeypatch, step, after, error
):
    prefix = tmp_path / "m.ckpt"
    write_checkpoint(prefix, OLD, 2)
    before = sorted(os.listdir(tmp_path))
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(source)
        fails = len(calls) == step + 1
        if fails and not after:
            raise error("no")
        replace(source, target)
        if fails:
            raise error("no")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(error):  # 3 old files aside, then 3 new ones in
        write_checkpoint(prefix, NEW, 2)
    assert len(calls) > step
    assert sorted(os.listdir(tmp_path)) == before
    assert visible(prefix) == "old"


def test_leftovers_of_killed_writes_go(tmp_path):
    prefix = tmp_path / "m.ckpt"
    leftovers = ["m.ckpt.index.new-0123abcd", "m.ckpt.data-00000-of-00002.old-0123abcd"]
    others = ["m.ckpt.index.bak", "n.ckpt.index.new-0123abcd", "m.ckpt.index.new-12"]
    for name in leftovers + others:
        (tmp_path / name).write_text("")
    write_checkpoint(prefix, NEW)
    assert set(others) < set(os.listdir(tmp_path))
    assert not set(leftovers) & set(os.listdir(tmp_path))
