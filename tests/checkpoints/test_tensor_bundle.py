"""Reading checkpoints: the official ones, the interface, and hostile files."""

import doctest
import re
import struct
import sys

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert4keras.checkpoints import (
    CheckpointError,
    CheckpointReader,
    CorruptCheckpointError,
    MissingCheckpointError,
    MissingVariableError,
    UnsupportedCheckpointError,
    bundle_writer,
    tensor_bundle,
    write_checkpoint,
)
from bert4keras.checkpoints.bundle_fields import (
    Entry,
    encode_entry,
    encode_header,
    slice_key,
)
from bert4keras.checkpoints.table import (
    FOOTER_SIZE,
    encode_varint,
    mask_crc,
    write_table,
)

pytestmark = pytest.mark.pure

TENSORS = {
    "bert/embeddings/word_embeddings": np.arange(12, dtype="float32").reshape(4, 3),
    "bert/pooler/dense/bias": np.array([1.5, -2.0], "float64"),
    "global_step": np.int64(7),
}


@pytest.fixture
def prefix(tmp_path):
    write_checkpoint(tmp_path / "m.ckpt", TENSORS)
    return tmp_path / "m.ckpt"


def file_of(prefix, ending):
    return prefix.with_name(prefix.name + ending)


DATA = ".data-00000-of-00001"


def read_all(prefix):
    reader = CheckpointReader(prefix)
    return {name: reader[name] for name in reader}


# What it is for


def test_official_index_without_its_data(reference):
    reader = CheckpointReader(reference / "google-bert" / "chinese_L-12_H-768_A-12")
    assert len(reader) == len(reader.keys()) == 206
    name = "bert/embeddings/word_embeddings"
    assert name in reader
    assert reader.shape(name) == (21128, 768)
    assert {reader.dtype(name) for name in reader} == {np.dtype("float32")}
    assert reader.shape("cls/seq_relationship/output_bias") == (2,)
    data = re.escape("bert_model.ckpt.data-00000-of-00001")
    for ask in (reader.check_complete, reader.verify, lambda: reader[name]):
        with pytest.raises(MissingCheckpointError, match=data):
            ask()


def test_recorded_checkpoints_have_their_checksums(reference):
    indexes = sorted(reference.glob("*/*/*.index"))
    complete = [path for path in indexes if list(path.parent.glob("*.data-*"))]
    assert len(complete) > 20
    for path in complete:
        with CheckpointReader(path, verify=True) as reader:
            assert all(reader[name].shape == reader.shape(name) for name in reader)


@pytest.mark.parametrize("module", [tensor_bundle, bundle_writer])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 5
    assert result.failed == 0


def test_interface(prefix):
    reader = CheckpointReader(str(prefix))
    assert reader.keys() == list(reader) == sorted(TENSORS)
    assert len(reader) == 3
    assert "global_step" in reader
    assert "step" not in reader
    assert 7 not in reader
    assert reader.num_shards == 1
    assert reader.prefix == prefix
    for name, value in TENSORS.items():
        assert reader.shape(name) == value.shape
        assert reader.dtype(name) == value.dtype
        np.testing.assert_array_equal(reader.get_tensor(name), value)
        assert reader[name].dtype == value.dtype
    reader.check_complete()
    reader.verify(["global_step"])


def test_tensors_are_read_only_views_of_one_map(prefix):
    reader = CheckpointReader(prefix)
    name = "bert/embeddings/word_embeddings"
    assert np.shares_memory(reader[name], reader[name])
    with pytest.raises(ValueError, match="read-only"):
        reader[name][0, 0] = 1
    with pytest.raises(ValueError):
        reader[name].flags.writeable = True


def test_views_outlive_the_reader(prefix):
    with CheckpointReader(prefix) as reader:
        value = reader["bert/pooler/dense/bias"]
    with pytest.raises(CheckpointError, match="closed"):
        reader["bert/pooler/dense/bias"]
    reader.release()
    np.testing.assert_array_equal(value, [1.5, -2.0])
    assert "global_step" in reader


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_release_gives_memory_back(tmp_path):
    def mapped():
        with open("/proc/self/status") as status:
            return int(re.search(r"RssFile:\s*(\d+) kB", status.read())[1]) << 10

    size = 1 << 25
    write_checkpoint(tmp_path / "m", {"w": np.ones(size, "uint8")})
    reader = CheckpointReader(tmp_path)
    before = mapped()
    value = reader["w"]
    assert value.sum(dtype="int64") == size
    read = mapped()
    assert read - before > 0.9 * size
    reader.release()
    assert read - mapped() > 0.9 * size
    assert value.sum(dtype="int64") == size


def test_unknown_names(prefix):
    reader = CheckpointReader(prefix)
    for ask in (reader.get_tensor, reader.shape, reader.dtype):
        with pytest.raises(MissingVariableError, match="similar names: global_step"):
            ask("global_steps")
    with pytest.raises(KeyError):
        reader["x"]
    with pytest.raises(MissingVariableError):
        reader.verify(["x"])


def test_a_checkpoint_written_anew_is_noticed(prefix):
    early, late = CheckpointReader(prefix), CheckpointReader(prefix)
    value = early["bert/pooler/dense/bias"]
    write_checkpoint(prefix, {"bert/pooler/dense/bias": np.array([3.0, 4.0])})
    np.testing.assert_array_equal(value, [1.5, -2.0])
    assert early["global_step"] == 7  # still of the old file
    with pytest.raises(CheckpointError, match="changed since"):
        late["bert/pooler/dense/bias"]


# Damage


def test_missing_and_short_shards(tmp_path):
    tensors = {f"w{i}": np.arange(50 + i, dtype="int32") for i in range(3)}
    write_checkpoint(tmp_path / "m", tensors, num_shards=3)
    shard = tmp_path / "m.data-00001-of-00003"
    content = shard.read_bytes()
    for length in (len(content) - 1, 7, 0):
        shard.write_bytes(content[:length])
        reader = CheckpointReader(tmp_path)
        for ask in (reader.check_complete, reader.verify, lambda r=reader: r["w1"]):
            with pytest.raises(CorruptCheckpointError, match=f"{length} bytes"):
                ask()
        np.testing.assert_array_equal(reader["w0"], tensors["w0"])
    shard.unlink()
    reader = CheckpointReader(tmp_path)
    for ask in (reader.check_complete, reader.verify, lambda: reader["w1"]):
        with pytest.raises(MissingCheckpointError, match="data-00001-of-00003"):
            ask()
    with pytest.raises(MissingCheckpointError):
        CheckpointReader(tmp_path, verify=True)
    np.testing.assert_array_equal(reader["w2"], tensors["w2"])


def test_every_flipped_bit_of_the_data_is_found(tmp_path):
    tensors = {"a": np.arange(5, dtype="float32"), "b": np.array([[True, False]])}
    write_checkpoint(tmp_path / "m", tensors)
    data = tmp_path / "m.data-00000-of-00001"
    content = data.read_bytes()
    used = [*range(20), 64, 65]  # "b" is aligned
    assert len(content) == 66
    for position in used:
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        data.write_bytes(damaged)
        name = "a" if position < 20 else "b"
        with pytest.raises(CorruptCheckpointError, match=f"'{name}'.*damaged"):
            CheckpointReader(tmp_path, verify=True)
        CheckpointReader(tmp_path).verify({"a", "b"} - {name})


def test_every_flipped_byte_of_the_index_is_found_or_harmless(prefix):
    path = file_of(prefix, ".index")
    content = path.read_bytes()
    harmless = set()
    for position in range(len(content)):
        for flip in (1 << position % 8, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            try:
                found = read_all(prefix)
            except CheckpointError:
                continue
            harmless.add(position)
            assert found.keys() == TENSORS.keys()
            for name, value in TENSORS.items():
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value)
    # varints can be written longer than needed: the footer's last may be followed by 0
    assert len(harmless) <= 1
    assert all(position >= len(content) - FOOTER_SIZE for position in harmless)


def test_every_cut_of_the_index_is_found(prefix):
    path = file_of(prefix, ".index")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptCheckpointError, match=re.escape(str(path))):
            CheckpointReader(prefix)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 48, "这不是索引。\n".encode() * 20, bytes(range(256))],
    ids=["empty", "zeros", "text", "bytes"],
)
def test_an_index_that_is_none(prefix, content):
    file_of(prefix, ".index").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match="checkpoint index"):
        CheckpointReader(prefix)


# An index with valid checksums that states what cannot be


def write_index(prefix, records, header=None):
    records = {b"": encode_header(1) if header is None else header, **records}
    file_of(prefix, ".index").write_bytes(write_table(sorted(records.items())))


FLOAT = Entry(dtype=1, shape=(2, 3), offset=0, size=24)


@pytest.mark.parametrize(
    "entry",
    [
        FLOAT._replace(size=20),
        FLOAT._replace(size=28),
        FLOAT._replace(size=0),
        FLOAT._replace(shape=(2, 3, 2)),
        FLOAT._replace(shape=(2**40, 2**40)),
        FLOAT._replace(shape=(2**64 - 1, 2**64 - 6)),  # (-1, -6)
        FLOAT._replace(shape=(1,) * 65, size=4),
        FLOAT._replace(offset=2**64 - 8),
        FLOAT._replace(size=2**64 - 24),
        FLOAT._replace(shard=1),
        FLOAT._replace(shard=2**31),
        FLOAT._replace(shard=2**64 - 1),
        FLOAT._replace(dtype=9),
        FLOAT._replace(dtype=7, shape=(21,)),  # 21 strings need 25 bytes
        FLOAT._replace(shape=(0, 2**62, 2**62), size=0),  # no array has this shape
    ],
    ids=repr,
)
def test_impossible_entries(prefix, entry):
    write_index(prefix, {b"w": encode_entry(entry)})
    with pytest.raises(CorruptCheckpointError):
        CheckpointReader(prefix)


@pytest.mark.parametrize("offset", [10**6, 2**62])
def test_entries_beyond_the_file(prefix, offset):
    write_index(prefix, {b"w": encode_entry(FLOAT._replace(offset=offset))})
    reader = CheckpointReader(prefix)
    for ask in (reader.check_complete, lambda: reader["w"]):
        with pytest.raises(CorruptCheckpointError, match="cut off"):
            ask()


@pytest.mark.parametrize(
    ("header", "error", "message"),
    [
        (b"", CorruptCheckpointError, "0 shards"),
        (encode_header(2**64 - 1), CorruptCheckpointError, "-1 shards"),
        (encode_header(1) + b"\x10\1", UnsupportedCheckpointError, "big-endian"),
        (b"\x08\1\x1a\2\x10\2", UnsupportedCheckpointError, "version 2"),
        (b"\x0a\1", CorruptCheckpointError, "cut off"),
        (b"\x0a\0", CorruptCheckpointError, "wire type"),
        (b"\x0b", CorruptCheckpointError, "wire type"),
    ],
)
def test_impossible_headers(prefix, header, error, message):
    write_index(prefix, {b"w": encode_entry(FLOAT)}, header)
    with pytest.raises(error, match=message):
        CheckpointReader(prefix)


def test_no_header(prefix):
    file_of(prefix, ".index").write_bytes(write_table([(b"w", encode_entry(FLOAT))]))
    with pytest.raises(CorruptCheckpointError, match="no header"):
        CheckpointReader(prefix)


def test_unknown_fields_are_passed_over(prefix):
    extra = b"\x50\1" + b"\x5a\2ab" + b"\x61" + bytes(8) + b"\x6d" + bytes(4)
    crc = mask_crc(0)
    write_index(prefix, {b"w": extra + encode_entry(FLOAT._replace(crc32c=crc))})
    np.testing.assert_array_equal(
        CheckpointReader(prefix)["w"], np.arange(6, dtype="float32").reshape(2, 3)
    )


def test_an_unknown_dtype_hinders_only_its_variable(prefix):
    odd = FLOAT._replace(dtype=21, size=99)  # DT_VARIANT
    write_index(prefix, {b"odd": encode_entry(odd), b"w": encode_entry(FLOAT)})
    reader = CheckpointReader(prefix)
    assert reader.keys() == ["odd", "w"]
    assert reader.shape("odd") == (2, 3)
    for ask in (reader.get_tensor, reader.dtype, lambda name: reader.verify([name])):
        with pytest.raises(UnsupportedCheckpointError, match="number 21"):
            ask("odd")
    assert reader["w"].sum() == 15


def encode_sliced(shape, parts):
    """An entry with slices; a length of None is the whole dimension."""
    record = encode_entry(Entry(dtype=1, shape=shape))
    for part in parts:
        content = b""
        for start, length in part:
            extent = b"\x08" + encode_varint(start)
            if length is not None:
                extent += b"\x10" + encode_varint(length)
            content += b"\x0a" + encode_varint(len(extent)) + extent
        record += b"\x3a" + encode_varint(len(content)) + content
    return record


def sliced_index(shape, parts, stored=None):
    records = {b"w": encode_sliced(shape, parts)}
    for number, part in enumerate(parts):
        shape = tuple(length or 3 for _, length in part)
        entry = Entry(1, shape, 0, 0, 4 * int(np.prod(shape)))
        entry = entry._replace(**(stored or {})) if number == 0 else entry
        records[slice_key(b"w", part)] = encode_entry(entry)
    return records


GOOD = [((0, 2), (0, None)), ((2, 1), (0, None))]


def test_slices_with_valid_records(prefix):
    write_index(prefix, sliced_index((3, 3), GOOD))
    reader = CheckpointReader(prefix)
    assert reader.keys() == ["w"]
    assert len(reader) == 1
    np.testing.assert_array_equal(reader["w"], [[0, 1, 2], [3, 4, 5], [0, 1, 2]])


@pytest.mark.parametrize(
    ("shape", "parts", "stored"),
    [
        ((3, 3), GOOD[:1], None),  # a hole
        ((4, 3), GOOD, None),
        ((3, 3), [GOOD[0], ((1, 1), (0, None))], None),  # overlap and a hole
        ((3, 3), [*GOOD, GOOD[1]], None),
        ((2, 3), GOOD, None),  # beyond the shape
        ((9,), GOOD, None),
        ((3, 3), GOOD, {"shape": (3, 2)}),
        ((3, 3), GOOD, {"dtype": 3}),
        ((3, 3), GOOD, {"shard": 5}),
        ((3, 3), [((0, 2**64 - 1), (0, None)), *GOOD], {"shape": (0, 3), "size": 0}),
    ],
)
def test_slices_that_do_not_fit(prefix, shape, parts, stored):
    write_index(prefix, sliced_index(shape, parts, stored))
    with pytest.raises(CorruptCheckpointError):
        CheckpointReader(prefix)


def test_slices_that_are_absent(prefix):
    write_index(prefix, {b"w": encode_sliced((3, 3), GOOD)})
    with pytest.raises(CorruptCheckpointError, match="not there"):
        CheckpointReader(prefix)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=300,
)
@given(st.binary(max_size=40), st.integers(0, 60), st.booleans())
def test_any_record_is_read_or_refused(prefix, content, position, sliced):
    record = encode_sliced((3, 3), GOOD) if sliced else encode_entry(FLOAT)
    record = record[:position] + content + record[position + len(content) :]
    write_index(prefix, {**sliced_index((3, 3), GOOD), b"w": record})
    try:
        reader = CheckpointReader(prefix)
        value = reader["w"]
    except CheckpointError:
        return
    assert value.shape == reader.shape("w")
    assert value.dtype == reader.dtype("w")


# Strings


def string_tensor(*strings):
    """The bytes of a string tensor and their checksum, as TensorFlow lays them out."""
    lengths = b"".join(struct.pack("<I", len(text)) for text in strings)
    check = struct.pack("<I", mask_crc(google_crc32c.value(lengths)))
    data = b"".join(encode_varint(len(text)) for text in strings) + check
    crc = google_crc32c.value(lengths + check + b"".join(strings))
    return data + b"".join(strings), mask_crc(crc)


def test_strings(prefix):
    data, crc = string_tensor(b"ab", b"", b"x" * 200)
    file_of(prefix, DATA).write_bytes(data)
    entry = Entry(dtype=7, shape=(3,), size=len(data), crc32c=crc)
    write_index(prefix, {b"text": encode_entry(entry)})
    reader = CheckpointReader(prefix, verify=True)
    assert reader["text"].tolist() == [b"ab", b"", b"x" * 200]
    assert reader.dtype("text") == np.dtype(object)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x81
        file_of(prefix, DATA).write_bytes(damaged)
        with pytest.raises(CorruptCheckpointError):
            CheckpointReader(prefix, verify=True)
