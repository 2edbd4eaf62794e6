"""String tensors: round trips, and damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.checkpoints import CorruptCheckpointError
from bert4keras.checkpoints.bundle_strings import decode_strings, encode_strings

pytestmark = pytest.mark.pure


@given(st.lists(st.binary(max_size=300), max_size=9))
def test_strings_come_back(strings):
    encoded, crc = encode_strings(strings)
    assert decode_strings(encoded, len(strings), "w") == (strings, crc)


def test_damage():
    """A damaged length is an error, a damaged string another checksum."""
    encoded, crc = encode_strings([b"ab", b"", b"c"])
    for position in range(len(encoded)):
        damaged = bytearray(encoded)
        damaged[position] ^= 1
        if position < 7:
            with pytest.raises(CorruptCheckpointError):
                decode_strings(bytes(damaged), 3, "w")
        else:
            assert decode_strings(bytes(damaged), 3, "w")[1] != crc
    for length in range(len(encoded)):
        with pytest.raises(CorruptCheckpointError):
            decode_strings(encoded[:length], 3, "w")
