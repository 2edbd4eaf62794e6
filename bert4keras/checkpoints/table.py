"""LevelDB's sorted string table, the file format of a checkpoint's index.

A table is a sequence of blocks and a footer of 48 bytes::

    data block, ..., metaindex block, index block, footer

    block   = entries | restart offsets (uint32 each) | number of restarts (uint32)
    trailer = compression (1 byte) | masked CRC-32C of block and compression (uint32)
    entry   = shared | unshared | value length (varints) | key suffix | value
    footer  = metaindex handle | index handle (varints: offset, size) | 0 .. | magic

A key repeats the first `shared` bytes of the key before it; at a restart offset
`shared` is 0. The index block holds one entry a data block: a key not below the block's
last one, and the block's handle. Integers are little-endian.

Source: LevelDB, doc/table_format.md and doc/log_format.md (the CRC's mask).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import google_crc32c

from bert4keras.checkpoints.errors import (
    CorruptCheckpointError,
    UnsupportedCheckpointError,
)

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
TRAILER_SIZE = 5
BLOCK_SIZE = 4096  # LevelDB's default options: bytes of a block before the next one
RESTART_INTERVAL = 16  # and entries between two restarts
MAX_VARINT_BYTES = 10  # 64 bits in groups of 7


def mask_crc(crc: int) -> int:
    """Rotates and shifts a CRC, so that a CRC over data with CRCs stays sound."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode_varint(value: int) -> bytes:
    """Encodes `0 <= value < 2**64` in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """Decodes the varint at `position`.

    Returns:
        The value and the position after it.

    Raises:
        CorruptCheckpointError: The varint runs past the end or over 64 bits.
    """
    value = 0
    for count, byte in enumerate(data[position : position + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position + count + 1
    raise CorruptCheckpointError(f"no valid integer at byte {position}")


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table, in the order of the keys.

    Args:
        data: The whole file.

    Raises:
        CorruptCheckpointError: The file is no table, or a byte of it is damaged.
        UnsupportedCheckpointError: A block is compressed.
    """
    if len(data) < FOOTER_SIZE:
        raise CorruptCheckpointError(
            f"{len(data)} bytes are too few for a checkpoint index: it is cut off, or "
            "another kind of file"
        )
    footer = data[-FOOTER_SIZE:]
    if struct.unpack_from("<Q", footer, FOOTER_SIZE - 8)[0] != MAGIC:
        raise CorruptCheckpointError(
            "the last bytes are not those of a checkpoint index: it is cut off, or "
            "another kind of file"
        )
    metaindex, position = _decode_handle(footer, 0)
    handle, position = _decode_handle(footer, position)
    if any(footer[position : FOOTER_SIZE - 8]):
        raise CorruptCheckpointError("the footer of the file is damaged, get it again")
    _read_block(data, *metaindex)  # it has no use here, but must be sound
    previous = None
    for _, encoded in _block_entries(_read_block(data, *handle)):
        block = _read_block(data, *_decode_handle(encoded, 0)[0])
        for key, value in _block_entries(block):
            if previous is not None and key <= previous:
                raise CorruptCheckpointError(f"the key {key!r} is out of order")
            previous = key
            yield key, value


def _decode_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = decode_varint(data, position)
    size, position = decode_varint(data, position)
    return (offset, size), position


def _read_block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + TRAILER_SIZE > len(data) - FOOTER_SIZE:
        raise CorruptCheckpointError(
            f"a block of {size} bytes at byte {offset} lies beyond the "
            f"{len(data)} bytes of the file"
        )
    compression, expected = struct.unpack_from("<BI", data, end)
    found = mask_crc(google_crc32c.value(data[offset : end + 1]))
    if found != expected:
        raise CorruptCheckpointError(
            f"the block at byte {offset} has the checksum {found:#010x} instead of "
            f"{expected:#010x}: the file is damaged, get it again"
        )
    if compression:
        raise UnsupportedCheckpointError(
            f"the block at byte {offset} is compressed (kind {compression}; 1 is "
            "Snappy): write the checkpoint again with a TensorFlow release (1.0 or "
            "later), which leaves the index uncompressed"
        )
    return data[offset:end]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0] if block[3:] else -1
    end = len(block) - 4 - 4 * restarts
    if restarts < 0 or end < 0:
        raise CorruptCheckpointError(f"a block of {len(block)} bytes has no restarts")
    key, position = b"", 0
    while position < end:
        shared, position = decode_varint(block, position)
        unshared, position = decode_varint(block, position)
        length, position = decode_varint(block, position)
        value_at = position + unshared
        if shared > len(key) or value_at + length > end:
            raise CorruptCheckpointError(f"no valid entry before byte {position}")
        key = key[:shared] + block[position:value_at]
        position = value_at + length
        yield key, block[value_at:position]


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encodes keys and values, sorted by key without a repetition, as a table."""
    data = bytearray()
    handles = []
    block: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in entries:
        block.append((key, value))
        size += len(key) + len(value)
        if size >= BLOCK_SIZE:
            handles.append((key, _append_block(data, block, RESTART_INTERVAL)))
            block, size = [], 0
    if block:
        handles.append((block[-1][0], _append_block(data, block, RESTART_INTERVAL)))
    footer = _append_block(data, [], 1) + _append_block(data, handles, 1)
    data += footer.ljust(FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", MAGIC)
    return bytes(data)


def _append_block(
    data: bytearray, entries: list[tuple[bytes, bytes]], interval: int
) -> bytes:
    """Appends a block with a restart every `interval` entries; returns its handle."""
    block = bytearray()
    restarts = [0]
    previous = b""
    for count, (key, value) in enumerate(entries):
        if count % interval == 0:
            previous = b""
            if count:
                restarts.append(len(block))
        shared = _shared_length(previous, key)
        for number in (shared, len(key) - shared, len(value)):
            block += encode_varint(number)
        block += key[shared:] + value
        previous = key
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    handle = encode_varint(len(data)) + encode_varint(len(block))
    block.append(0)  # not compressed
    data += block + struct.pack("<I", mask_crc(google_crc32c.value(bytes(block))))
    return handle


def _shared_length(first: bytes, second: bytes) -> int:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
