"""Gradient accumulation: n micro-batches give the update of one big batch."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.checks import check_count
from bert4keras.optimizers.derived import (
    DerivedOptimizer,
    add_wide_variable,
    dense,
    extend,
    trick,
)
from bert4keras.optimizers.slices import SliceBuffers


@trick
class GradientAccumulation(DerivedOptimizer):
    """Updates once every `grad_accum_steps` calls, with the mean of their gradients.

    With g_1, ..., g_n the gradients of n consecutive micro-batches of B examples,

        g = (g_1 + ... + g_n) / n

    is the gradient of the mean loss over nB examples. The base optimizer is given g
    and nothing else: clipping, weight decay, schedules, constraints, averages and
    `optimizer.iterations` know only such real updates. Micro-batches that an epoch's
    end leaves over are completed by the next epoch, and are part of the saved state.

    Where TensorFlow hands over an embedding's gradient as `IndexedSlices`, the slices
    are kept as they are: Keras squares them one by one, so that a big batch, too, has
    another update than its summed gradient would give. XLA-compiled functions whose
    batches vary in shape keep 4,096 slices of a micro-batch so and sum the others.

    Args:
        grad_accum_steps: micro-batches per update, an integer >= 1.

    Raises:
        ValueError: if `grad_accum_steps` is no such integer, or together with Keras's
            own `gradient_accumulation_steps`.

    Example:

        AdamGA = extend_with_gradient_accumulation(Adam, name="AdamGA")
        model.compile(AdamGA(2e-5, grad_accum_steps=4), loss="mse")
    """

    trick = "gradient_accumulation"

    def __init__(self, *args, grad_accum_steps=2, **kwargs):
        grad_accum_steps = check_count("grad_accum_steps", grad_accum_steps)
        if kwargs.get("gradient_accumulation_steps") is not None:
            raise ValueError(
                "`grad_accum_steps` and Keras's `gradient_accumulation_steps` both "
                "accumulate: give only the first. Received: gradient_accumulation_"
                f"steps={kwargs['gradient_accumulation_steps']}"
            )
        super().__init__(*args, **kwargs)
        self.grad_accum_steps = grad_accum_steps
        self._slices = SliceBuffers(self.grad_accum_steps)
        self._received = frozenset()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if self.grad_accum_steps == 1:
            return
        self._micro_steps = self.add_variable(
            (), dtype="int32", aggregation="only_first_replica", name="micro_steps"
        )
        self._gradient_sums = [
            add_wide_variable(self, variable, "gradient_sum") for variable in variables
        ]

    def apply(self, grads, trainable_variables=None):
        if self.grad_accum_steps == 1 or len(grads) == 0:
            super().apply(grads, trainable_variables)
            return
        if trainable_variables is not None and not self.built:
            with keras.name_scope(self.name):
                self.build(list(trainable_variables))
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        pairs = list(zip(grads, trainable_variables, strict=True))
        self._check_variables_are_known([variable for _, variable in pairs])
        pairs = [(g, self._get_variable_index(v)) for g, v in pairs if g is not None]
        # Those that had a gradient in any micro-batch have one in the mean.
        self._received = self._received.union([index for _, index in pairs])
        run = {
            "tensorflow": self._accumulate_tensorflow,
            "jax": self._accumulate_jax,
        }.get(keras.backend.backend(), self._accumulate_eagerly)
        run(pairs)

    def _add(self, pairs):
        """Adds gradients to the sums."""
        for gradient, index in pairs:
            total = self._gradient_sums[index]
            gradient = ops.cast(gradient, total.dtype)
            if self._is_overwritten(index):
                total.assign(ops.maximum(total, gradient))
            elif keras.backend.backend() == "torch":
                # Keras's `assign_add` makes the sum elsewhere and copies it.
                total.value.detach().add_(gradient)
            else:
                total.assign_add(gradient)

    def _update(self):
        """Runs the base's update with the mean gradients."""
        grads = [
            self._mean(index) if index in self._received else None
            for index in range(len(self._trainable_variables))
        ]
        super().apply(grads, self._trainable_variables)

    def _mean(self, index):
        variable = self._trainable_variables[index]
        if self._slices.holds(index):
            return self._slices.mean(index, self._gradient_sums[index])
        total = ops.convert_to_tensor(self._gradient_sums[index])
        if not self._is_overwritten(index):
            total = total / self.grad_accum_steps
        return ops.cast(total, variable.dtype)

    def _is_overwritten(self, index):
        # Scales of float8 training: their "gradient" is their next value, and as in
        # Keras the largest one counts.
        return self._overwrite_variable_with_gradient(self._trainable_variables[index])

    def _clear(self):
        for total in self._gradient_sums:
            total.assign(ops.zeros(total.shape, total.dtype))

    # One conditional around the update, for each backend.

    def _accumulate_eagerly(self, pairs):
        self._add(pairs)
        step = int(self._micro_steps.value) + 1
        if step >= self.grad_accum_steps:
            self._update()
            self._clear()
            step = 0
        self._micro_steps.assign(step)

    def _accumulate_jax(self, pairs):
        import jax

        step = ops.add(self._micro_steps, 1)
        is_last = ops.greater_equal(step, self.grad_accum_steps)
        if not isinstance(is_last, jax.core.Tracer):
            self._accumulate_eagerly(pairs)
            return
        self._add(pairs)
        state = [*self._trainable_variables, *self.variables]

        def update(carry):
            # Variables cannot be assigned in a traced branch: it has its own scope.
            mapping = zip(state, carry[1], strict=True)
            with keras.StatelessScope(mapping) as scope:
                self._update()
                self._clear()
            values = [scope.get_current_value(variable) for variable in state]
            return ops.zeros_like(is_last), values

        # A loop of one round or none: XLA updates what a loop carries in place, while
        # the branches of a conditional copy all that they leave as it is.
        values = [variable.value for variable in state]
        _, values = jax.lax.while_loop(
            lambda carry: carry[0], update, (is_last, values)
        )
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        self._micro_steps.assign(ops.where(is_last, 0, step))

    def _accumulate_tensorflow(self, pairs):
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is None:
            raise RuntimeError(
                f"{type(self).__name__}.apply() was called in the cross-replica "
                "context. Call it inside `strategy.run`."
            )
        # tf.distribute neither reduces nor merges inside a conditional of a replica.
        # So gradients are reduced here, the conditional is outside the replicas, and
        # its branch starts replicas anew.
        indices = [index for _, index in pairs]
        reduced = super()._all_reduce_sum_gradients(
            [(g, _tensorflow_variable(self._trainable_variables[i])) for g, i in pairs]
        )
        replica.merge_call(
            self._merge_tensorflow,
            args=([gradient for gradient, _ in reduced],),
            kwargs={"indices": indices},
        )

    def _merge_tensorflow(self, distribution, grads, indices):
        import tensorflow as tf

        extended = distribution.extended
        self._slices.create(grads, indices, self._gradient_sums, distribution)
        step = tf.convert_to_tensor(self._micro_steps.value)
        for gradient, index in zip(grads, indices, strict=True):
            if self._slices.holds(index):
                total = self._gradient_sums[index]
                self._slices.add(extended, index, gradient, step, total)
            else:
                self._add_tensorflow(extended, index, gradient)
        step = step + 1
        is_last = tf.greater_equal(step, self.grad_accum_steps)

        def update():
            extended.call_for_each_replica(self._update)
            for total in self._gradient_sums:
                extended.update(
                    total.value, lambda v: v.assign(tf.zeros_like(v)), group=False
                )
            self._slices.clear(extended)

        ops.cond(is_last, update, lambda: None)
        self._micro_steps.assign(tf.where(is_last, 0, step))

    def _add_tensorflow(self, extended, index, gradient):
        import tensorflow as tf

        overwritten = self._is_overwritten(index)

        def add(total, gradient):
            gradient = tf.cast(dense(gradient), total.dtype)
            if overwritten:
                total.assign(tf.maximum(total, gradient))
            else:
                total.assign_add(gradient)

        total = self._gradient_sums[index].value
        extended.update(total, add, args=(gradient,), group=False)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # TensorFlow only: what reaches the base has been reduced before it was added.
        if self.grad_accum_steps == 1:
            return super()._all_reduce_sum_gradients(grads_and_vars)
        return grads_and_vars

    # Saving.

    def save_own_variables(self, store):
        super().save_own_variables(store)
        self._slices.save(store)

    def load_own_variables(self, store):
        keys = [key for key in list(store.keys()) if key.isdigit()]
        super().load_own_variables({key: store[key] for key in keys})
        if self.built and self.grad_accum_steps > 1:
            self._slices.load(store, self._gradient_sums)
            # The rest of an accumulation may have no gradient of these.
            sums = map(ops.convert_to_numpy, self._gradient_sums)
            begun = {i for i, x in enumerate(sums) if x.any() or self._slices.holds(i)}
            self._received = self._received.union(begun)

    def get_config(self):
        return {**super().get_config(), "grad_accum_steps": self.grad_accum_steps}


def _tensorflow_variable(variable):
    # A training loop of one's own may train variables that are not Keras's.
    is_keras = isinstance(variable, keras.Variable)
    return variable.value if is_keras else variable


def extend_with_gradient_accumulation(BaseOptimizer, name=None):  # noqa: N803
    """Returns `BaseOptimizer` with gradient accumulation; see `GradientAccumulation`.

    Args:
        BaseOptimizer: a Keras optimizer class, derived or not.
        name: the new class's name.

    Raises:
        ValueError: if `BaseOptimizer` is no optimizer class or accumulates already.
    """
    return extend(GradientAccumulation, BaseOptimizer, name)
