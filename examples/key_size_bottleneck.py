"""How large must keys be, for attention to express any distribution over n tokens?

The scores of one head are a product Q K^T of two matrices with as many columns as keys
are wide. "Low-Rank Bottleneck in Multi-head Attention Models" (Bhojanapalli et al.,
arXiv 2002.07028, theorem 1): with key_size >= n, softmax(Q K^T) can be any stochastic
n x n matrix with positive entries; with key_size < n there are some it cannot be. (As
softmax does not see a constant added to a row of scores, n - 1 columns are enough.)

Mixing the scores of h heads, as talking heads do (arXiv 2003.02436), gives each head a
sum of h products, hence a rank of up to h * key_size: the bound for a single demanding
head falls to (n - 1) / h. If all h heads are demanding, they have to share.

This program fits attention of each key size to random stochastic matrices by gradient
descent on queries and keys themselves, which stands for the best that any input and any
projection could give. It prints and draws the distance that is left for heads on their
own, for talking heads that are all demanding, and for a demanding one among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import ops

from bert4keras.layers import HeadMixing


class Scores(keras.layers.Layer):
    """Freely trained attention: softmax(Q K^T), with the heads' scores mixed or not.

    Args:
        heads: number of heads for queries and keys.
        length: number n of queries and of keys.
        key_size: width of a head's queries and keys.
        mixed: number of heads that their scores are mixed to; None leaves them alone.
    """

    def __init__(
        self, heads: int, length: int, key_size: int, mixed: int | None, **kwargs
    ):
        super().__init__(**kwargs)
        # Products of variance 1, as attention starts with.
        start = keras.initializers.RandomNormal(stddev=key_size**-0.25)
        shape = (heads, length, key_size)
        self.queries = self.add_weight(shape=shape, initializer=start, name="queries")
        self.keys = self.add_weight(shape=shape, initializer=start.clone(), name="keys")
        self.mixing = None
        if mixed is not None:
            self.mixing = HeadMixing(mixed, keras.initializers.Orthogonal())
            self.mixing.build((1, heads, length, length))

    def call(self, inputs):
        """Divergence from targets (1, heads, n, n), averaged over heads and rows."""
        scores = ops.matmul(self.queries, ops.transpose(self.keys, (0, 2, 1)))[None]
        if self.mixing is not None:
            scores = self.mixing(scores)
        distances = inputs * (ops.log(inputs) - ops.log_softmax(scores))
        return ops.mean(ops.sum(distances, axis=-1), axis=(1, 2))


def random_distributions(
    heads: int, length: int, spread: float, seed: int
) -> np.ndarray:
    """Stochastic matrices (1, heads, n, n): softmax of normal numbers.

    Args:
        heads: number of matrices.
        length: n.
        spread: standard deviation of the numbers; larger is more peaked.
        seed: of the random numbers.
    """
    scores = np.random.default_rng(seed).normal(0, spread, (1, heads, length, length))
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype("float32")


def fit(targets: np.ndarray, heads: int, key_size: int, talking: bool, steps: int):
    """Mean Kullback-Leibler divergence (nats a row) left after training.

    Args:
        targets: (1, demanding heads, n, n).
        heads: number of heads for queries and keys.
        key_size: their width.
        talking: whether heads talk before the softmax.
        steps: of Adam, with a learning rate that falls to 0 by a cosine.
    """
    keras.utils.set_random_seed(0)
    _, demanding, length, _ = targets.shape
    inputs = keras.Input(targets.shape[1:])
    mixed = demanding if talking else None
    outputs = Scores(heads, length, key_size, mixed)(inputs)
    model = keras.Model(inputs, outputs)
    rate = keras.optimizers.schedules.CosineDecay(0.1, steps)
    model.compile(
        keras.optimizers.Adam(rate), loss=lambda _, distance: ops.mean(distance)
    )
    # One call of fit for all steps: starting each costs more than the step itself.
    repeated = np.repeat(targets, steps, axis=0)
    nothing = np.zeros((steps, 1), "float32")
    model.fit(repeated, nothing, batch_size=1, verbose=0, shuffle=False)
    return float(ops.convert_to_numpy(model(targets))[0])


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Divergences for every key size, by kind of attention."""
    heads = options.heads
    targets = random_distributions(heads, options.length, options.spread, options.seed)
    kinds = {  # targets, whether heads talk
        "alone": (targets, False),
        "all_talking": (targets, True),
        "one_talking": (targets[:, :1], True),
    }
    found = {kind: [] for kind in kinds}
    print("divergence left, nats a row")
    print("key size" + "".join(f"{kind:>14}" for kind in kinds))
    for key_size in options.key_sizes:
        for kind, (wanted, talking) in kinds.items():
            left = fit(wanted, heads, key_size, talking, options.steps)
            found[kind].append(left)
        row = "".join(f"{found[kind][-1]:14.2e}" for kind in kinds)
        print(f"{key_size:8d}{row}", flush=True)
    return found


def draw(found: dict[str, list[float]], options: argparse.Namespace) -> None:
    """Divergence against key size, with the bounds marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    heads, bound = options.heads, options.length - 1
    names = {
        "alone": f"{heads} heads on their own",
        "all_talking": f"{heads} talking heads, all demanding",
        "one_talking": f"{heads} talking heads, one demanding",
    }
    for i, (kind, name) in enumerate(names.items()):
        axis.plot(options.key_sizes, found[kind], "o-", color=f"C{i}", label=name)
    for color, label, where in (
        ("grey", "theorem 1: n", options.length),
        ("C0", "n - 1", bound),
        ("C2", f"(n - 1) / {heads}", bound / heads),
    ):
        axis.axvline(where, color=color, linestyle=":", label=f"{label} = {where:g}")
    axis.set(
        yscale="log",
        xlabel="key size of a head",
        ylabel="divergence left, nats a row",
        title=f"Attention fitted to random distributions over n = {options.length} "
        "tokens",
    )
    # Where there are no curves.
    axis.legend(fontsize=8, loc="center", bbox_to_anchor=(0.45, 0.36))
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.figure, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Measure, print, draw; returns the divergences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--length", type=int, default=16, help="n, number of tokens (%(default)s)")
    add("--heads", type=int, default=4, help="number of heads (%(default)s)")
    add(
        "--key-sizes",
        type=int,
        nargs="+",
        default=[1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 15, 16],
    )
    add("--spread", type=float, default=2, help="deviation of the targets' scores")
    add("--steps", type=int, default=1000, help="steps of each fit (%(default)s)")
    add("--seed", type=int, default=0, help="of the targets (%(default)s)")
    add("--figure", type=Path, default=Path("key_size_bottleneck.png"))
    options = parser.parse_args(arguments)
    found = measure(options)
    draw(found, options)
    print(f"\nThe curves are in {options.figure}.")
    return found


if __name__ == "__main__":
    main()
