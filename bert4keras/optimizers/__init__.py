"""Optimizers, and the tricks that derive new ones from any other.

`NewAdam = extend_with_weight_decay(Adam, "NewAdam")` is a class whose constructor takes
the trick's arguments beside the base's. Tricks compose in any order on any Keras
optimizer; the one applied first acts first.
"""

from __future__ import annotations

import functools

import keras

from bert4keras.optimizers.adafactor import AdaFactor
from bert4keras.optimizers.adam import Adam
from bert4keras.optimizers.exponential_moving_average import (
    ExponentialMovingAverageCallback,
    extend_with_exponential_moving_average,
)
from bert4keras.optimizers.gradient_accumulation import (
    extend_with_gradient_accumulation,
)
from bert4keras.optimizers.layer_adaptation import extend_with_layer_adaptation
from bert4keras.optimizers.lazy_optimization import extend_with_lazy_optimization
from bert4keras.optimizers.lion import Lion
from bert4keras.optimizers.lookahead import extend_with_lookahead
from bert4keras.optimizers.parameter_wise_lr import extend_with_parameter_wise_lr
from bert4keras.optimizers.piecewise_linear_lr import (
    extend_with_piecewise_linear_lr,
    piecewise_linear,
)
from bert4keras.optimizers.weight_decay import extend_with_weight_decay

# The names of bert4keras 0.11.5, which had one implementation for each Keras API.
LionV2 = Lion
AdaFactorBase = AdaFactorV1 = AdaFactorV2 = AdaFactor
extend_with_exponential_moving_average_v2 = extend_with_exponential_moving_average
extend_with_gradient_accumulation_v2 = extend_with_gradient_accumulation
extend_with_layer_adaptation_v2 = extend_with_layer_adaptation
extend_with_lazy_optimization_v2 = extend_with_lazy_optimization
extend_with_lookahead_v2 = extend_with_lookahead
extend_with_parameter_wise_lr_v2 = extend_with_parameter_wise_lr
extend_with_piecewise_linear_lr_v2 = extend_with_piecewise_linear_lr
extend_with_weight_decay_v2 = extend_with_weight_decay


def export_to_custom_objects(base_extend_with):
    """Decorator: gives a script's own `extend_with_...` a `name` argument.

    The class that it returns gets that name and is registered with Keras under it.
    """

    @functools.wraps(base_extend_with)
    def extend_with(BaseOptimizer, name=None):  # noqa: N803
        cls = base_extend_with(BaseOptimizer)
        if name is not None:
            cls.__name__ = name
        keras.saving.get_custom_objects()[cls.__name__] = cls
        return cls

    return extend_with


__all__ = [
    "AdaFactor",
    "AdaFactorBase",
    "AdaFactorV1",
    "AdaFactorV2",
    "Adam",
    "ExponentialMovingAverageCallback",
    "Lion",
    "LionV2",
    "export_to_custom_objects",
    "extend_with_exponential_moving_average",
    "extend_with_exponential_moving_average_v2",
    "extend_with_gradient_accumulation",
    "extend_with_gradient_accumulation_v2",
    "extend_with_layer_adaptation",
    "extend_with_layer_adaptation_v2",
    "extend_with_lazy_optimization",
    "extend_with_lazy_optimization_v2",
    "extend_with_lookahead",
    "extend_with_lookahead_v2",
    "extend_with_parameter_wise_lr",
    "extend_with_parameter_wise_lr_v2",
    "extend_with_piecewise_linear_lr",
    "extend_with_piecewise_linear_lr_v2",
    "extend_with_weight_decay",
    "extend_with_weight_decay_v2",
    "piecewise_linear",
]
