"""From samples to batches. Importing this loads no Keras backend."""

from bert4keras.data.batching import PaddedBatches, bucket_batches, padded_tokens
from bert4keras.data.generator import DataGenerator
from bert4keras.data.padding import sequence_padding, truncate_sequences
from bert4keras.data.text import text_segmentate

__all__ = [
    "DataGenerator",
    "PaddedBatches",
    "bucket_batches",
    "padded_tokens",
    "sequence_padding",
    "text_segmentate",
    "truncate_sequences",
]
