"""What accumulating, AdaFactor's memory and lazy rows cost, beside the alternatives.

    KERAS_BACKEND=jax python benchmarks/optimizers.py
    KERAS_BACKEND=tensorflow python benchmarks/optimizers.py --layers 2

Three tables, for a state of the size of BERT-base (fewer layers with `--layers`):

1. milliseconds of a micro-step that only accumulates and of a real update, for this
   project's accumulation, Keras's own (`gradient_accumulation_steps`) and, on JAX,
   `optax.MultiSteps`; all over `keras.optimizers.Adam` or optax's;
2. bytes of optimizer state for Adam and AdaFactor, and of what accumulation adds;
3. on TensorFlow, milliseconds to update an embedding of 21,128 x 768 whose gradient
   has 2,000 rows: dense Adam, and lazy Adam.

The alternatives take turns, and each time is the least of `--repeats` rounds.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np

from bert4keras import optimizers

HIDDEN, INNER, VOCABULARY, POSITIONS = 768, 3072, 21128, 512
MICRO_STEPS = 4


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


def interleaved(steps: dict, gradients, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call of each step, the steps taking turns."""
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step(gradients)
            times[name].append(time.perf_counter() - start)
    return times


def print_times(title: str, times: dict[str, float], least: str) -> None:
    print(f"\n{title:54}{'ms':>10}{'times ' + least:>30}")
    for name, value in times.items():
        print(f"{name:54}{value * 1000:10.1f}{value / times[least]:30.2f}", flush=True)


def compare_accumulation(shapes, repeats: int) -> None:
    adam = keras.optimizers.Adam
    accumulating = optimizers.extend_with_gradient_accumulation(adam)
    made = {
        "bert4keras": accumulating(1e-3, grad_accum_steps=MICRO_STEPS),
        "Keras": adam(1e-3, gradient_accumulation_steps=MICRO_STEPS),
    }
    steps = {name: make_step(o, make_variables(shapes)) for name, o in made.items()}
    if keras.backend.backend() == "jax":
        steps["optax.MultiSteps"] = optax_step(shapes, MICRO_STEPS)
    gradients = [keras.ops.ones(shape) for shape in shapes]
    interleaved(steps, gradients, MICRO_STEPS)  # compiles
    times = interleaved(steps, gradients, MICRO_STEPS * repeats)
    last = slice(MICRO_STEPS - 1, None, MICRO_STEPS)
    updates = {name: min(values[last]) for name, values in times.items()}
    for values in times.values():
        del values[last]
    micro = {name: min(values) for name, values in times.items()}
    print_times("a micro-step that only accumulates", micro, "Keras")
    print_times(f"the real update, every {MICRO_STEPS} steps", updates, "Keras")


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
    steps = {}
    for name, optimizer in made.items():
        ones = np.ones((VOCABULARY, HIDDEN), "float32")
        steps[name] = make_step(optimizer, [keras.Variable(ones, name="embedding")])
    interleaved(steps, [gradient], 2)
    times = interleaved(steps, [gradient], repeats * MICRO_STEPS)
    times = {name: min(values) for name, values in times.items()}
    title = f"an update of {VOCABULARY} x {HIDDEN} with {rows} rows"
    print_times(title, times, "keras.optimizers.Adam")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    shapes = bert_shapes(arguments.layers)
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    compare_accumulation(shapes, arguments.repeats)
    compare_memory(shapes)
    compare_lazy(arguments.repeats)


if __name__ == "__main__":
    main()
