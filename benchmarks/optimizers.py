"""What accumulating, AdaFactor's memory and lazy rows cost, beside the alternatives.

    KERAS_BACKEND=jax python benchmarks/optimizers.py
    KERAS_BACKEND=tensorflow python benchmarks/optimizers.py --layers 2

Three tables, for a state of the size of BERT-base (fewer layers with `--layers`):

1. seconds of a micro-step that only accumulates and of a real update, for this
   project's accumulation, Keras's own (`gradient_accumulation_steps`) and, on JAX,
   `optax.MultiSteps`; all over `keras.optimizers.Adam` or optax's;
2. bytes of optimizer state for Adam and AdaFactor, and of what accumulation adds;
3. on TensorFlow, milliseconds to update an embedding of 21,128 x 768 whose gradient
   has 2,000 rows: dense Adam, and lazy Adam.

Each time is the least of `--repeats`.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np

from bert4keras import optimizers

HIDDEN, INNER, VOCABULARY, POSITIONS = 768, 3072, 21128, 512


def bert_shapes(layers: int) -> list[tuple[int, ...]]:
    """Shapes of BERT-base's variables, with `layers` of its 12 Transformer layers."""
    embeddings = [(VOCABULARY, HIDDEN), (POSITIONS, HIDDEN), (2, HIDDEN)]
    attention = [(HIDDEN, HIDDEN), (HIDDEN,)] * 4
    feed_forward = [(HIDDEN, INNER), (INNER,), (INNER, HIDDEN), (HIDDEN,)]
    norm = [(HIDDEN,)] * 2
    return [*embeddings, *norm, *(attention + feed_forward + norm * 2) * layers]


def make_variables(shapes) -> list:
    return [keras.Variable(np.zeros(shape, "float32")) for shape in shapes]


def make_step(optimizer, variables):
    """A function of gradients: the compiled step, and one that waits for it."""
    optimizer.build(variables)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda gradients: optimizer.apply(gradients, variables))
    if backend == "torch":
        import torch

        return torch.no_grad()(lambda gradients: optimizer.apply(gradients, variables))
    import jax

    def apply(state, gradients):
        return optimizer.stateless_apply(state[1], gradients, state[0])

    return stateful(
        jax.jit(apply, donate_argnums=0),
        ([v.value for v in variables], [v.value for v in optimizer.variables]),
    )


def stateful(function, state):
    """Carries a JAX state from call to call."""
    import jax

    state = jax.tree.map(lambda x: x.copy(), state)

    def step(gradients):
        nonlocal state
        state = function(state, gradients)
        jax.block_until_ready(state)

    return step


def optax_step(shapes, steps):
    import jax
    import optax

    transform = optax.MultiSteps(optax.adam(1e-3), steps)
    weights = [jax.numpy.zeros(shape) for shape in shapes]

    def apply(state, gradients):
        updates, kept = transform.update(gradients, state[1], state[0])
        return optax.apply_updates(state[0], updates), kept

    return stateful(
        jax.jit(apply, donate_argnums=0), (weights, transform.init(weights))
    )


def seconds(step, gradients, repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(gradients)
        times.append(time.perf_counter() - start)
    return times


def compare_accumulation(shapes, repeats: int) -> None:
    adam = keras.optimizers.Adam
    accumulating = optimizers.extend_with_gradient_accumulation(adam)
    steps = repeats + 2
    makers = {
        "keras.optimizers.Adam, no accumulation": lambda: adam(1e-3),
        "bert4keras": lambda: accumulating(1e-3, grad_accum_steps=steps),
        "Keras": lambda: adam(1e-3, gradient_accumulation_steps=steps),
    }
    if keras.backend.backend() == "jax":
        makers["optax.MultiSteps"] = None
    print(f"{'':40}{'micro-step':>12}{'real update':>12}  seconds")
    for name, make in makers.items():
        gradients = [keras.ops.ones(shape) for shape in shapes]
        if make is None:
            step = optax_step(shapes, steps)
        else:
            step = make_step(make(), make_variables(shapes))
        seconds(step, gradients, 1)  # compiles
        micro = min(seconds(step, gradients, repeats))
        update = seconds(step, gradients, 1)[0]
        print(f"{name:40}{micro:12.4f}{update:12.4f}", flush=True)


def state_bytes(optimizer) -> int:
    return sum(int(np.prod(v.shape)) * 4 for v in optimizer.variables)


def compare_memory(shapes) -> None:
    weights = sum(int(np.prod(shape)) * 4 for shape in shapes)
    print(f"\nbytes of optimizer state for {weights / 2**20:.0f} MiB of weights")
    accumulating = optimizers.extend_with_gradient_accumulation(optimizers.AdaFactor)
    made = {
        "Adam": optimizers.Adam(1e-3),
        "AdaFactor": optimizers.AdaFactor(1e-3),
        "AdaFactor with accumulation": accumulating(1e-3),
    }
    for name, optimizer in made.items():
        optimizer.build(make_variables(shapes))
        size = state_bytes(optimizer)
        print(f"{name:40}{size:14,d}  {size / weights:8.2%} of the weights")


def compare_lazy(repeats: int, rows: int = 2000) -> None:
    if keras.backend.backend() != "tensorflow":
        print("\nlazy rows: only TensorFlow hands over sparse gradients")
        return
    import tensorflow as tf

    random = np.random.default_rng(0)
    gradient = tf.IndexedSlices(
        tf.constant(random.normal(size=(rows, HIDDEN)).astype("float32")),
        tf.constant(random.choice(VOCABULARY, rows, replace=False)),
        tf.constant([VOCABULARY, HIDDEN]),
    )
    lazy = optimizers.extend_with_lazy_optimization(optimizers.Adam)
    made = {
        "keras.optimizers.Adam": keras.optimizers.Adam(1e-3),
        "bert4keras Adam": optimizers.Adam(1e-3),
        "bert4keras lazy Adam": lazy(1e-3, include_in_lazy_optimization=["embedding"]),
    }
    print(f"\nmilliseconds to update {VOCABULARY} x {HIDDEN} with {rows} rows")
    for name, optimizer in made.items():
        variable = keras.Variable(
            np.ones((VOCABULARY, HIDDEN), "float32"), name="embedding"
        )
        step = make_step(optimizer, [variable])
        seconds(step, [gradient], 2)
        best = min(seconds(step, [gradient], repeats))
        print(f"{name:40}{best * 1000:10.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    shapes = bert_shapes(arguments.layers)
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    compare_accumulation(shapes, arguments.repeats)
    compare_memory(shapes)
    compare_lazy(arguments.repeats)


if __name__ == "__main__":
    main()
