"""Optimizers: Adam and the tricks that derive new optimizers from any other."""

from bert4keras.optimizers.adam import Adam
from bert4keras.optimizers.gradient_accumulation import (
    extend_with_gradient_accumulation,
)

__all__ = ["Adam", "extend_with_gradient_accumulation"]
