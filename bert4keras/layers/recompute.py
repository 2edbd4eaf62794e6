"""Gradient checkpointing: computing a layer again instead of keeping what it computed.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from bert4keras.checks import check_choice
from bert4keras.layers.composite import CompositeLayer

# Those for which `keras.remat` is more than an exception.
BACKENDS = ("tensorflow", "jax", "torch")


class RecomputableLayer(CompositeLayer):
    """Base of layers that can forget their inner values until the backward pass.

    `keras.RematScope` would do for layers without dropout. Drawing a random number
    changes the generator's state, which JAX's rematerialization does not allow inside,
    and which makes TensorFlow's draw another number the second time; so seeds are drawn
    before, see `draw_seed`.

    Args:
        recompute: whether, in training, only the inputs are kept and the layer is
            computed once more for its gradients. The gradients are the same.
        **kwargs: the arguments of `CompositeLayer`.

    Raises:
        ValueError: if the backend has no rematerialization.
    """

    def __init__(self, recompute: bool = False, **kwargs):
        super().__init__(**kwargs)
        check_choice(type(self).__name__, (False, True), recompute=recompute)
        if recompute and keras.backend.backend() not in BACKENDS:
            raise ValueError(
                f"{type(self).__name__} was given recompute=True, but the backend "
                f"{keras.backend.backend()!r} has no rematerialization; use one of "
                f"{BACKENDS}, or recompute=False."
            )
        self.recompute = recompute

    def compute(self, function: Callable, tensors: list, training):
        """function(*tensors), recomputed for gradients if so wished.

        Args:
            function: of tensors; must change no state. It may use variables, but all
                other tensors that need gradients have to be among its arguments.
            tensors: its arguments.
            training: whether gradients will be taken.

        Returns:
            What the function returns.
        """
        if self.recompute and training:
            function = keras.remat(function)
        return function(*tensors)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "recompute": self.recompute}


class _DrawnSeed(keras.random.SeedGenerator):
    """A generator that always gives the seed that another one gave at its making."""

    def __init__(self, generator):
        # No state of its own: the base class's constructor would make a variable.
        self._initial_seed = generator.get_config()["seed"]
        self.drawn = generator.next()

    def next(self, ordered=True):
        """The seed that was drawn."""
        return self.drawn


def draw_seed(generator: keras.random.SeedGenerator) -> keras.random.SeedGenerator:
    """A seed that can be used twice, for functions that are computed again.

    Args:
        generator: where it is drawn from; its state moves on by one.

    Returns:
        What `keras.random.dropout` and the like take as `seed`.

    Example:
        >>> seed = draw_seed(self.seed_generator)
        >>> keras.random.dropout(x, 0.1, seed=seed)  # the same each time
    """
    return _DrawnSeed(generator)
