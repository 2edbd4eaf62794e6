"""How much padding random and length-bucketed batches compute.

    python benchmarks/batching.py
    python benchmarks/batching.py --data train.tsv --header --vocab vocab.txt

Without `--data` the lengths are drawn from a long-tailed distribution. For each window
(how many batches' worth of random examples are sorted together; 1 is plain shuffling)
it shows the computed tokens for each real one, at batches padded to their longest and
with that length rounded up, the number of different lengths (each of which JAX compiles
once), and what planning an epoch and padding a batch cost.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bert4keras.data import PaddedBatches, bucket_batches, padded_tokens

WINDOWS = (1, 10, 50, 200)


def drawn_lengths(examples: int, maxlen: int) -> np.ndarray:
    """Lengths of which half are below 60 and a few percent above 256."""
    lengths = np.random.default_rng(0).lognormal(np.log(60), 0.8, examples)
    return np.clip(lengths.astype(int), 3, maxlen)


def measured_lengths(
    data: Path, vocab: Path, column: int, header: bool, maxlen: int
) -> np.ndarray:
    """The number of tokens of each text of a TSV file, special tokens included."""
    from bert4keras.tokenizers import Tokenizer

    lines = data.read_text("utf-8").splitlines()[header:]
    texts = [line.split("\t")[column] for line in lines]
    token_ids, _ = Tokenizer(str(vocab), do_lower_case=True).encode_batch(
        texts, maxlen=maxlen
    )
    return np.array([len(ids) for ids in token_ids])


def milliseconds_a_batch(lengths: np.ndarray, batch_size: int) -> float:
    """The time to pad a batch of token ids and segment ids."""
    columns = [[[1] * n for n in lengths] for _ in range(2)]
    batches = PaddedBatches(columns, np.zeros(len(lengths)), batch_size)
    orders = batches.order(0)
    start = time.perf_counter()
    for indices in orders:
        batches.gather(indices)
    return (time.perf_counter() - start) * 1000 / len(orders)


def report(lengths: np.ndarray, batch_size: int, multiple: int) -> None:
    """Print the table."""
    real = int(lengths.sum())
    print(
        f"{len(lengths)} examples, {real} tokens, {real / len(lengths):.0f} on average;"
        f" batches of {batch_size}"
    )
    rounded = f"rounded to {multiple}"
    print(
        f"{'window':>8}{'computed/real':>15}{rounded:>15}{'lengths':>9}{'plan ms':>9}"
    )
    for window in (*WINDOWS, len(lengths)):
        start = time.perf_counter()
        batches = bucket_batches(lengths, batch_size, window, rng=0)
        seconds = time.perf_counter() - start
        ratios = [padded_tokens(lengths, batches, m) / real for m in (1, multiple)]
        longest = {-(-lengths[b].max() // multiple) for b in batches}
        name = window if window in WINDOWS else "all"
        print(
            f"{name:>8}{ratios[0]:>15.3f}{ratios[1]:>15.3f}{len(longest):>9}"
            f"{seconds * 1000:>9.1f}"
        )
    print(f"padding a batch: {milliseconds_a_batch(lengths, batch_size):.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a TSV file of texts")
    parser.add_argument("--vocab", type=Path, help="the vocab.txt to tokenize it with")
    parser.add_argument("--column", type=int, default=-1, help="of the text; -1: last")
    parser.add_argument("--header", action="store_true", help="the first line is one")
    parser.add_argument("--maxlen", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--multiple", type=int, default=32, help="what to round up to")
    parser.add_argument("--examples", type=int, default=10_000, help="without --data")
    args = parser.parse_args()
    if args.data and not args.vocab:
        parser.error("--data needs --vocab, the vocabulary to count tokens with")
    if args.data:
        lengths = measured_lengths(
            args.data, args.vocab, args.column, args.header, args.maxlen
        )
    else:
        lengths = drawn_lengths(args.examples, args.maxlen)
    report(lengths, args.batch_size, args.multiple)


if __name__ == "__main__":
    main()
