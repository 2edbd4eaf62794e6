"""Adam with the epsilon of its paper and an optional bias correction."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.checks import check_learning_rate, check_real
from bert4keras.optimizers.derived import dense, wide_dtype


@keras.saving.register_keras_serializable(package="bert4keras")
class Adam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, Algorithm 1).

    With gradient g_t, learning rate gamma and t = 1, 2, ...:

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t^2
        theta_t = theta_{t-1} - gamma m^_t / (sqrt(v^_t) + epsilon)

    where m^_t = m_t / (1 - beta_1^t) and v^_t = v_t / (1 - beta_2^t), or m_t and v_t
    themselves without `bias_correction`, as BERT was trained. `keras.optimizers.Adam`
    adds epsilon to the uncorrected sqrt(v_t) instead, and on TensorFlow squares the
    gradient of a token that occurs twice in a batch one occurrence at a time; this
    one sums them first, as the other backends do.

    Args:
        learning_rate: a float, a `LearningRateSchedule` or a callable.
        beta_1: decay of the mean of gradients, in [0, 1).
        beta_2: decay of the mean of their squares, in [0, 1).
        epsilon: added to the denominator, at least 0.
        bias_correction: whether to correct both means for starting at zero.
        kwargs: what every Keras optimizer takes, as `clipnorm` or `weight_decay`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

        optimizer = Adam(learning_rate=2e-5, bias_correction=False)
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        bias_correction=True,
        **kwargs,
    ):
        check_learning_rate(learning_rate)
        beta_1 = check_real("beta_1", beta_1, low=0, high=1, high_open=True)
        beta_2 = check_real("beta_2", beta_2, low=0, high=1, high_open=True)
        epsilon = check_real("epsilon", epsilon, low=0)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self.bias_correction = bias_correction

    def moving_rows(self, gradient, variable):
        """The gradient of the only rows that may move, or None for all rows.

        Lazy optimization overrides it where TensorFlow hands over sparse gradients.
        """
        return None

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        rate, root_rate = ops.cast(learning_rate, dtype), 1.0
        if self.bias_correction:
            # In bfloat16, a beta_2 of 0.999 is 1.
            wide = wide_dtype(variable)
            step = ops.cast(self.iterations + 1, wide)
            power_1 = ops.power(ops.cast(self.beta_1, wide), step)
            power_2 = ops.power(ops.cast(self.beta_2, wide), step)
            rate = ops.cast(ops.cast(learning_rate, wide) / (1 - power_1), dtype)
            root_rate = ops.cast(ops.sqrt(1 - power_2), dtype)
        rows = None if self.amsgrad else self.moving_rows(gradient, variable)
        if rows is not None:
            self._update_rows(rows, variable, rate, root_rate)
            return
        gradient = dense(gradient)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (1 - self.beta_1) * ops.subtract(gradient, m))
        self.assign_add(v, (1 - self.beta_2) * ops.subtract(ops.square(gradient), v))
        if self.amsgrad:
            v_max = self._velocity_hats[index]
            self.assign(v_max, ops.maximum(v_max, v))
            v = v_max
        self.assign_sub(variable, rate * m / (ops.sqrt(v) / root_rate + self.epsilon))

    def _update_rows(self, gradient, variable, rate, root_rate):
        """As `update_step`, without computing the change of the other rows."""
        import tensorflow as tf

        where = tf.expand_dims(gradient.indices, axis=1)

        def decayed(slot, beta, new):
            # Added to the product: a variable with scattered writes is copied by reads.
            value = tf.tensor_scatter_nd_add(beta * slot, where, (1 - beta) * new)
            self.assign(slot, value)
            return tf.gather(value, gradient.indices)

        index = self._get_variable_index(variable)
        m = decayed(self._momentums[index], self.beta_1, gradient.values)
        v = decayed(self._velocities[index], self.beta_2, tf.square(gradient.values))
        change = rate * m / (tf.sqrt(v) / root_rate + self.epsilon)
        # A row whose gradients cancel out does not move either.
        touched = tf.not_equal(gradient.values, 0)
        touched = tf.reduce_any(touched, range(1, len(variable.shape)), keepdims=True)
        change = tf.where(touched, change, tf.zeros_like(change))
        self.assign_sub(
            variable, tf.IndexedSlices(change, gradient.indices, gradient.dense_shape)
        )

    def get_config(self):
        return {**super().get_config(), "bias_correction": self.bias_correction}
