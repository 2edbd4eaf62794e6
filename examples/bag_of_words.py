"""A baseline that knows which words occur and not in which order.

Logistic regression on the presence of tokens, fitted by full-batch gradient descent:
what a model must beat to have read more than single words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Example = tuple[Iterable[str], str]


def _features(texts: Sequence[Iterable[str]], column: dict[str, int]) -> np.ndarray:
    """Presence of each token, float64 `(text, token)`, with a column of ones."""
    x = np.zeros((len(texts), len(column) + 1))
    x[:, -1] = 1
    for row, tokens in enumerate(texts):
        x[row, [column[token] for token in set(tokens) if token in column]] = 1
    return x


def bag_of_words_accuracy(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    steps: int = 300,
    learning_rate: float = 1.0,
    penalty: float = 1e-4,
) -> float:
    """Test accuracy of a multinomial logistic regression on single tokens.

    Args:
        train: (tokens, label) pairs. A string counts as its characters.
        test: the same; a label that `train` lacks is never predicted.
        steps: of gradient descent with momentum 0.9 on the mean cross-entropy.
        learning_rate: of the descent.
        penalty: on half the squared weights.

    Example:
        >>> train = [("好", "positive"), ("坏", "negative")]
        >>> bag_of_words_accuracy(train, train)
        1.0
    """
    texts, labels = zip(*train, strict=True)
    column = {token: i for i, token in enumerate(sorted(set().union(*texts)))}
    classes = sorted(set(labels))
    x = _features(texts, column)
    y = np.eye(len(classes))[[classes.index(label) for label in labels]]
    weights = np.zeros((x.shape[1], len(classes)))
    velocity = np.zeros_like(weights)
    for _ in range(steps):
        scores = x @ weights
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = x.T @ (p - y) / len(x) + penalty * weights
        velocity = 0.9 * velocity - learning_rate * gradient
        weights += velocity
    texts, labels = zip(*test, strict=True)
    predicted = (_features(texts, column) @ weights).argmax(axis=1)
    return float(np.mean([classes[i] for i in predicted] == np.array(labels)))
