"""The bytes of a string tensor in a checkpoint's data file.

Lengths (varints), a checksum of the lengths (uint32, masked), then the strings one
after the other. The checksums take each length as a fixed-width integer.

Source: WriteStringTensor in tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import google_crc32c

from bert4keras.checkpoints.errors import CorruptCheckpointError
from bert4keras.checkpoints.table import decode_varint, encode_varint, mask_crc


def encode_strings(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """Encodes strings.

    Returns:
        The bytes to store, and their unmasked checksum: over the lengths, the checksum
        of the lengths, and the strings.

    Example:
        >>> encode_strings([b"a", b"bc"])[0][:2]
        b'\\x01\\x02'
    """
    lengths = [len(string) for string in strings]
    crc = _lengths_crc(lengths)
    tail = struct.pack("<I", mask_crc(crc)) + b"".join(strings)
    head = b"".join(map(encode_varint, lengths))
    return head + tail, google_crc32c.extend(crc, tail)


def decode_strings(encoded: bytes, count: int, name: str) -> tuple[list[bytes], int]:
    """Decodes what `encode_strings` returns.

    Args:
        encoded: the bytes of the tensor.
        count: how many strings it has.
        name: the variable's, for the error.

    Returns:
        The strings, and their unmasked checksum.

    Raises:
        CorruptCheckpointError: The lengths are not those that were saved.
    """
    lengths, position = [], 0
    for _ in range(count):
        length, position = decode_varint(encoded, position)
        lengths.append(length)
    crc = _lengths_crc(lengths)
    start = position + 4
    sound = encoded[position:start] == struct.pack("<I", mask_crc(crc))
    if not sound or start + sum(lengths) != len(encoded):
        raise CorruptCheckpointError(f"the strings of {name!r} are damaged")
    ends = list(itertools.accumulate(lengths, initial=start))
    strings = [encoded[a:b] for a, b in itertools.pairwise(ends)]
    return strings, google_crc32c.extend(crc, encoded[position:])


def _lengths_crc(lengths: Sequence[int]) -> int:
    crc = 0
    for length in lengths:
        width = "<I" if length < 1 << 32 else "<Q"
        crc = google_crc32c.extend(crc, struct.pack(width, length))
    return crc
