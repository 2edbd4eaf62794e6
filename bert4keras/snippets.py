"""Façade: the names that scripts import from `bert4keras.snippets`."""

from bert4keras.arguments import delete_arguments, insert_arguments
from bert4keras.data.arrays import (
    is_one_of,
    orthogonally_resize,
    softmax,
    to_array,
)
from bert4keras.data.files import open
from bert4keras.data.generator import DataGenerator
from bert4keras.data.matching import (
    longest_common_subsequence,
    longest_common_substring,
)
from bert4keras.data.padding import sequence_padding, truncate_sequences
from bert4keras.data.parallel import parallel_apply, parallel_apply_generator
from bert4keras.data.text import (
    convert_to_str,
    convert_to_unicode,
    is_string,
    lowercase_and_normalize,
    string_matching,
    strQ2B,
    text_segmentate,
)

# Made Python 2 print Chinese readably; scripts still import it.
uniout = None

__all__ = [
    "DataGenerator",
    "convert_to_str",
    "convert_to_unicode",
    "delete_arguments",
    "insert_arguments",
    "is_one_of",
    "is_string",
    "longest_common_subsequence",
    "longest_common_substring",
    "lowercase_and_normalize",
    "open",
    "orthogonally_resize",
    "parallel_apply",
    "parallel_apply_generator",
    "sequence_padding",
    "softmax",
    "strQ2B",
    "string_matching",
    "text_segmentate",
    "to_array",
    "truncate_sequences",
]
