"""The sorted string table: round trips, and bytes that are no table."""

import contextlib
import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras.checkpoints.errors import (
    CheckpointError,
    CorruptCheckpointError,
    UnsupportedCheckpointError,
)
from bert4keras.checkpoints.table import (
    BLOCK_SIZE,
    FOOTER_SIZE,
    MAGIC,
    decode_varint,
    encode_varint,
    mask_crc,
    read_table,
    write_table,
)

pytestmark = pytest.mark.pure


def seal(block, compression=0):
    """A block with the trailer that makes it valid."""
    block = block + bytes([compression])
    return block + struct.pack("<I", mask_crc(google_crc32c.value(block)))


def one_block_table(block, compression=0):
    """A table whose one data block has this content, with valid checksums."""
    data = seal(block, compression)
    handle = encode_varint(0) + encode_varint(len(block))
    index = b"\0\1" + bytes([len(handle)]) + b"k" + handle + struct.pack("<II", 0, 1)
    metaindex = struct.pack("<II", 0, 1)
    footer = encode_varint(len(data)) + encode_varint(len(metaindex))
    data += seal(metaindex)
    footer += encode_varint(len(data)) + encode_varint(len(index))
    footer = footer.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)
    return data + seal(index) + footer


def test_crc_of_the_specification():
    # RFC 3720, B.4: the CRC-32C of 32 zero bytes; masked by hand
    assert google_crc32c.value(bytes(32)) == 0x8A9136AA
    assert mask_crc(0x8A9136AA) == (0x6D551522 + 0xA282EAD8) % 2**32


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_come_back(value, before, after):
    data = before + encode_varint(value) + after
    assert decode_varint(data, len(before)) == (value, len(data) - len(after))


def test_known_varints():
    # Protocol Buffers, "Encoding": 150 is 96 01
    assert encode_varint(150) == b"\x96\x01"
    assert encode_varint(0) == b"\0"
    assert len(encode_varint(2**64 - 1)) == 10


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\xff" * 9 + b"\x02"])
def test_impossible_varints(data):
    with pytest.raises(CorruptCheckpointError, match="integer"):
        decode_varint(data, 0)


@settings(deadline=None)
@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), max_size=60))
def test_tables_come_back(records):
    records = sorted(records.items())
    assert list(read_table(write_table(records))) == records


def test_many_blocks():
    records = [(b"layer/%06d" % i, b"v" * (i % 50)) for i in range(3000)]
    data = write_table(records)
    assert len(data) > 10 * BLOCK_SIZE
    assert list(read_table(data)) == records


def test_a_block_that_is_no_block():
    entry = b"\0\1\1kv"
    restarts = struct.pack("<II", 0, 1)
    assert list(read_table(one_block_table(entry + restarts))) == [(b"k", b"v")]
    for block in [
        b"",
        b"\1\0",
        entry + struct.pack("<I", 2**32 - 1),  # more restarts than bytes
        b"\1\0\1v" + restarts,  # shares a byte with the key before the first
        b"\0\1\x7fkv" + restarts,  # a value beyond the block
        b"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\0k" + restarts,  # 2**64 - 1 bytes
        b"\0\1" + restarts,  # cut off in an entry
        entry + entry + restarts,  # a key twice
        b"\0\1\1zv" + entry + restarts,  # keys out of order
    ]:
        with pytest.raises(CorruptCheckpointError):
            list(read_table(one_block_table(block)))


def test_compressed_blocks_are_named():
    block = b"\0\1\1kv" + struct.pack("<II", 0, 1)
    with pytest.raises(UnsupportedCheckpointError, match="Snappy"):
        list(read_table(one_block_table(block, compression=1)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_with_valid_checksums(block):
    with contextlib.suppress(CheckpointError):
        keys = [key for key, _ in read_table(one_block_table(block))]
        assert keys == sorted(set(keys))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=120), st.binary(max_size=40))
def test_any_bytes_with_a_footer(data, footer):
    data += footer.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)
    with contextlib.suppress(CheckpointError):
        # no trailer fits by chance, so nothing but an empty index can be read
        assert list(read_table(data)) == []
