"""Lion with the defaults that bert4keras scripts rely on."""

from __future__ import annotations

import keras

from bert4keras.checks import check_learning_rate, check_real


@keras.saving.register_keras_serializable(package="bert4keras")
class Lion(keras.optimizers.Lion):
    """Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675, Algorithm 2).

    With gradient g_t and learning rate gamma:

        theta_t = theta_{t-1} - gamma sign(beta_1 m_{t-1} + (1 - beta_1) g_t)
        m_t = beta_2 m_{t-1} + (1 - beta_2) g_t

    Args:
        learning_rate: a float, a `LearningRateSchedule` or a callable.
        beta_1: weight of the average in the step's direction, in [0, 1).
        beta_2: decay of the average, in [0, 1).
        kwargs: what every Keras optimizer takes, as `clipnorm` or `weight_decay`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

        optimizer = Lion(learning_rate=3e-5)
    """

    def __init__(self, learning_rate=3e-4, beta_1=0.95, beta_2=0.98, **kwargs):
        check_learning_rate(learning_rate)
        beta_1 = check_real("beta_1", beta_1, low=0, high=1, high_open=True)
        beta_2 = check_real("beta_2", beta_2, low=0, high=1, high_open=True)
        super().__init__(learning_rate, beta_1, beta_2, **kwargs)
