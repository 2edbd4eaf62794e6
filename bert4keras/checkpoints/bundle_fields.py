"""The records in a checkpoint's index: TensorFlow's protocol buffers, as far as used.

The empty key holds a `BundleHeaderProto`, every other one a `BundleEntryProto`. A
message is a sequence of fields: a tag (a varint, field number * 8 + wire type), then
the field's content. Only the fields below are read; others are passed over.

A variable that was saved in slices has one entry under its name, which lists the
slices, and one for each slice, whose key encodes the name and the slice so that keys
sort as the values they encode (Google's OrderedCode).

Sources: tensorflow/core/protobuf/tensor_bundle.proto, framework/types.proto,
tensor_shape.proto, tensor_slice.proto, versions.proto; util/saved_tensor_slice_util.cc;
lib/strings/ordered_code.cc.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bert4keras.checkpoints.errors import (
    CorruptCheckpointError,
    UnsupportedCheckpointError,
)
from bert4keras.checkpoints.table import decode_varint, encode_varint

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
BUNDLE_VERSION = 1  # kTensorBundleVersion: the one version that exists
STRING = 7
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    STRING: "object",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
DTYPE_CODES = {name: code for code, name in DTYPES.items() if code != STRING}
MAX_RANK = 64  # NumPy's

# (start, length) per dimension; without a length, the whole dimension
Slice = tuple[tuple[int, int | None], ...]


class Entry(NamedTuple):
    """Where a tensor's bytes lie, and what they mean."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc32c: int = 0
    slices: tuple[Slice, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def numpy_dtype(code: int) -> np.dtype:
    """The NumPy dtype, little-endian, of a TensorFlow dtype's number.

    Raises:
        UnsupportedCheckpointError: NumPy has none.
    """
    if code not in DTYPES:
        raise UnsupportedCheckpointError(
            f"TensorFlow's dtype number {code} is not read here; expected one of "
            + ", ".join(f"{number} ({name})" for number, name in DTYPES.items())
        )
    if DTYPES[code] == "bfloat16":
        import ml_dtypes  # costs time that only checkpoints with bfloat16 need spend

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(DTYPES[code]).newbyteorder("<")


def decode_header(data: bytes) -> int:
    """Decodes a `BundleHeaderProto`; returns the number of shards.

    Raises:
        CorruptCheckpointError: The number of shards or the encoding is impossible.
        UnsupportedCheckpointError: Big-endian data, or a later version of the format.
    """
    shards = endianness = min_consumer = 0
    for field, wire, value in _fields(data):
        if field == 1:
            shards = _integer(wire, value)
        elif field == 2:
            endianness = _integer(wire, value)
        elif field == 3:
            for part, part_wire, part_value in _fields(_message(wire, value)):
                if part == 2:
                    min_consumer = _integer(part_wire, part_value)
    if shards < 1:
        raise CorruptCheckpointError(f"the header states {shards} shards")
    if endianness:
        raise UnsupportedCheckpointError(
            "the data are big-endian, and only little-endian ones are read: write the "
            "checkpoint again on a little-endian machine"
        )
    if min_consumer > BUNDLE_VERSION:
        raise UnsupportedCheckpointError(
            f"the checkpoint asks for a reader of version {min_consumer}, and this "
            f"one knows version {BUNDLE_VERSION}"
        )
    return shards


def encode_header(num_shards: int) -> bytes:
    """Encodes a `BundleHeaderProto` of little-endian data."""
    version = _encode_field(1, BUNDLE_VERSION)
    return _encode_field(1, num_shards) + _encode_field(3, version)


def decode_entry(data: bytes) -> Entry:
    """Decodes a `BundleEntryProto`.

    Raises:
        CorruptCheckpointError: The encoding or a number is impossible.
    """
    found: dict[str, object] = {}
    slices = []
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size"}
    for field, wire, value in _fields(data):
        if field in names:
            found[names[field]] = _integer(wire, value)
        elif field == 2:
            found["shape"] = _decode_shape(_message(wire, value))
        elif field == 6:
            found["crc32c"] = _integer(wire, value, FIXED32)
        elif field == 7:
            slices.append(_decode_slice(_message(wire, value)))
    entry = Entry(**found, slices=tuple(slices))
    if min(entry.shard, entry.offset, entry.size, *entry.shape) < 0:
        raise CorruptCheckpointError(f"a negative number in {entry}")
    # no array has such a shape, even if one of the dimensions is 0
    largest = 16 * math.prod(max(size, 1) for size in entry.shape)
    if len(entry.shape) > MAX_RANK or largest >= 1 << 63:
        raise CorruptCheckpointError(f"an impossible shape in {entry}")
    return entry


def encode_entry(entry: Entry) -> bytes:
    """Encodes a `BundleEntryProto` of a tensor that is not sliced."""
    dims = [_encode_field(2, _encode_field(1, size)) for size in entry.shape]
    return b"".join(
        [
            _encode_field(1, entry.dtype),
            _encode_field(2, b"".join(dims)),
            _encode_field(3, entry.shard),
            _encode_field(4, entry.offset),
            _encode_field(5, entry.size),
            bytes([6 << 3 | FIXED32]) + struct.pack("<I", entry.crc32c),
        ]
    )


def slice_key(name: bytes, part: Slice) -> bytes:
    """The key of one slice of the variable of this name."""
    escapes = {0x00: b"\0\xff", 0xFF: b"\xff\0"}
    key = _ordered(0)
    key += b"".join(escapes.get(byte, bytes([byte])) for byte in name) + b"\0\1"
    key += _ordered(len(part))
    for start, length in part:
        length = -1 if length is None else length
        key += _ordered_signed(start) + _ordered_signed(length)
    return key


def slice_index(part: Slice, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of a slice in an array of the whole variable's shape.

    Raises:
        CorruptCheckpointError: The slice does not lie within the shape.
    """
    index = []
    for (start, length), size in zip(part, shape, strict=False):
        stop = size if length is None else start + length
        if not 0 <= start <= stop <= size:
            break
        index.append(slice(start, stop))
    if not len(index) == len(part) == len(shape):
        raise CorruptCheckpointError(f"a slice {part} of a tensor of shape {shape}")
    return tuple(index)


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yields the number, the wire type and the content of a message's fields."""
    position = 0
    while position < len(data):
        tag, position = decode_varint(data, position)
        field, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, position = decode_varint(data, position)
            yield field, wire, value - (1 << 64) if value >> 63 else value
            continue
        if wire == LENGTH_DELIMITED:
            length, position = decode_varint(data, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise CorruptCheckpointError(f"wire type {wire} in a record")
        content = data[position : position + length]
        position += length
        if position > len(data):
            raise CorruptCheckpointError(f"field {field} of a record is cut off")
        if wire == LENGTH_DELIMITED:
            yield field, wire, content
        else:
            yield field, wire, int.from_bytes(content, "little")


def _integer(wire: int, value: int | bytes, expected: int = VARINT) -> int:
    if wire != expected:
        raise CorruptCheckpointError(f"wire type {wire} instead of {expected}")
    return value


def _message(wire: int, value: int | bytes) -> bytes:
    return _integer(wire, value, LENGTH_DELIMITED)


def _encode_field(field: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        tag = field << 3 | LENGTH_DELIMITED
        return bytes([tag]) + encode_varint(len(value)) + value
    # as proto3 has it, 0 is the absent field
    return bytes([field << 3]) + encode_varint(value) if value else b""


def _decode_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for field, wire, value in _fields(data):
        if field == 2:
            size = 0
            for part, part_wire, part_value in _fields(_message(wire, value)):
                if part == 1:
                    size = _integer(part_wire, part_value)
            shape.append(size)
        elif field == 3 and _integer(wire, value):
            raise CorruptCheckpointError("a saved tensor of unknown rank")
    return tuple(shape)


def _decode_slice(data: bytes) -> Slice:
    extents = []
    for field, wire, value in _fields(data):
        if field == 1:
            start, length = 0, None
            for part, part_wire, part_value in _fields(_message(wire, value)):
                if part == 1:
                    start = _integer(part_wire, part_value)
                elif part == 2:
                    length = _integer(part_wire, part_value)
            extents.append((start, length))
    return tuple(extents)


def _ordered(value: int) -> bytes:
    """A number of bytes, then as many bytes, big-endian (`WriteNumIncreasing`)."""
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "big")


def _ordered_signed(value: int) -> bytes:
    """`WriteSignedNumIncreasing`: n bytes hold 7 n - 1 bits and a sign.

    n leading ones (zeros if negative) and a zero (one) stand before the bits.
    """
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    header = (1 << 8 * length) - (1 << 7 * length)
    encoded = header ^ magnitude
    if value < 0:
        encoded ^= (1 << 8 * length) - 1
    return encoded.to_bytes(length, "big")
