"""Gradient accumulation: n micro-batches give the update of one big batch."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.optimizers.derived import DerivedOptimizer, dense, extend, trick
from bert4keras.optimizers.slices import SliceBuffers
from bert4keras.optimizers.validation import check_count


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
    another update than its summed gradient would give. In XLA-compiled functions,
    whose shapes are fixed, they are summed.

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
        check_count("grad_accum_steps", grad_accum_steps)
        if kwargs.get("gradient_accumulation_steps") is not None:
            raise ValueError(
                "`grad_accum_steps` and Keras's `gradient_accumulation_steps` both "
                "accumulate: give only the first. Received: gradient_accumulation_"
                f"steps={kwargs['gradient_accumulation_steps']}"
            )
        super().__init__(*args, **kwargs)
        self.grad_accum_steps = int(grad_accum_steps)
        self._slices = SliceBuffers()
        self._received = set()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if self.grad_accum_steps == 1:
            return
        self._micro_steps = self.add_variable(
            (), dtype="int32", aggregation="only_first_replica", name="micro_steps"
        )
        self._gradient_sums = [self._add_sum(variable) for variable in variables]

    def _add_sum(self, variable):
        # 16-bit floats would drop the later of many summands.
        short = variable.dtype in ("float16", "bfloat16")
        return self.add_variable(
            variable.shape,
            dtype="float32" if short else variable.dtype,
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_gradient_sum",
        )

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
        self._received.update(index for _, index in pairs)
        run = {
            "tensorflow": self._accumulate_tensorflow,
            "jax": self._accumulate_jax,
        }.get(keras.backend.backend(), self._accumulate_eagerly)
        run(pairs)

    # What a micro-step does.

    def _add_to_sums(self, pairs):
        for gradient, index in pairs:
            total = self._gradient_sums[index]
            gradient = ops.cast(dense(gradient), total.dtype)
            if self._is_overwritten(index):
                total.assign(ops.maximum(total, gradient))
            else:
                total.assign_add(gradient)

    def _update(self, pairs):
        """Runs the base's update with the mean of the sums and the last gradients."""
        last = {index: gradient for gradient, index in pairs}
        grads = [
            self._mean(index, last.get(index)) if index in self._received else None
            for index in range(len(self._trainable_variables))
        ]
        super().apply(grads, self._trainable_variables)

    def _mean(self, index, gradient):
        total = self._gradient_sums[index]
        dtype = self._trainable_variables[index].dtype
        if self._slices.holds(index):
            return self._slices.mean(index, gradient, self.grad_accum_steps)
        if gradient is not None:
            gradient = ops.cast(dense(gradient), total.dtype)
            if self._is_overwritten(index):
                return ops.cast(ops.maximum(total, gradient), dtype)
            total = ops.add(total, gradient)
        return ops.cast(ops.divide(total, self.grad_accum_steps), dtype)

    def _is_overwritten(self, index):
        # Scales of float8 training: their "gradient" is their next value, and as in
        # Keras the largest one counts.
        return self._overwrite_variable_with_gradient(self._trainable_variables[index])

    def _clear_sums(self):
        for total in self._gradient_sums:
            total.assign(ops.zeros(total.shape, total.dtype))

    # One conditional around it, for each backend.

    def _accumulate_eagerly(self, pairs):
        step = int(self._micro_steps.value) + 1
        if step == self.grad_accum_steps:
            self._update(pairs)
            self._clear_sums()
            step = 0
        else:
            self._add_to_sums(pairs)
        self._micro_steps.assign(step)

    def _accumulate_jax(self, pairs):
        import jax

        step = ops.add(self._micro_steps, 1)
        is_last = ops.equal(step, self.grad_accum_steps)
        if not isinstance(is_last, jax.core.Tracer):
            self._accumulate_eagerly(pairs)
            return
        # Variables cannot be assigned inside a traced branch: each branch works on
        # a scope of its own and returns all that it could have changed.
        state = [*self._trainable_variables, *self.variables]

        def branch(*functions):
            mapping = [(variable, variable.value) for variable in state]
            with keras.StatelessScope(mapping) as scope:
                for function in functions:
                    function()
            return [scope.get_current_value(variable) for variable in state]

        values = jax.lax.cond(
            is_last,
            lambda: branch(lambda: self._update(pairs), self._clear_sums),
            lambda: branch(lambda: self._add_to_sums(pairs)),
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
        variables = [self._trainable_variables[index] for _, index in pairs]
        reduced = super()._all_reduce_sum_gradients(
            [(g, v.value) for (g, _), v in zip(pairs, variables, strict=True)]
        )
        grads = [gradient for gradient, _ in reduced]
        indices = [index for _, index in pairs]
        replica.merge_call(
            self._merge_tensorflow, args=(grads,), kwargs={"indices": indices}
        )

    def _merge_tensorflow(self, distribution, grads, indices):
        import tensorflow as tf

        self._slices.create(grads, indices, self._trainable_variables, distribution)
        extended = distribution.extended
        step = self._micro_steps.value + 1
        is_last = tf.equal(step, self.grad_accum_steps)

        def update():
            extended.call_for_each_replica(
                lambda *local: self._update(list(zip(local, indices, strict=True))),
                args=tuple(grads),
            )
            for total in self._gradient_sums:
                extended.update(
                    total.value, lambda v: v.assign(tf.zeros_like(v)), group=False
                )
            self._slices.clear(extended)

        def add():
            for gradient, index in zip(grads, indices, strict=True):
                if self._slices.holds(index):
                    self._slices.append(extended, index, gradient)
                else:
                    self._add_tensorflow(extended, index, gradient)

        ops.cond(is_last, update, add)
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

    def get_config(self):
        return {**super().get_config(), "grad_accum_steps": self.grad_accum_steps}


def extend_with_gradient_accumulation(BaseOptimizer, name=None):  # noqa: N803
    """Returns `BaseOptimizer` with gradient accumulation; see `GradientAccumulation`.

    Args:
        BaseOptimizer: a Keras optimizer class, derived or not.
        name: the new class's name.

    Raises:
        ValueError: if `BaseOptimizer` is no optimizer class or accumulates already.
    """
    return extend(GradientAccumulation, BaseOptimizer, name)
