"""Small models, data and optimizers that the optimizer tests share."""

import functools

import keras
import numpy as np

from bert4keras import optimizers as own

VOCABULARY, LENGTH, HIDDEN, OUTPUTS = 12, 4, 6, 3
UPDATES, MICRO_STEPS, MICRO_BATCH = 4, 3, 2
BATCH = MICRO_STEPS * MICRO_BATCH

keras_optimizers = keras.optimizers

# Every base of the library's promise, with the options that could break it.
BASES = {
    "SGD": (keras_optimizers.SGD, {"momentum": 0.9}),
    "Adam": (keras_optimizers.Adam, {}),
    "AdamW": (keras_optimizers.AdamW, {"weight_decay": 0.1}),
    "Lion": (keras_optimizers.Lion, {}),
    "RMSprop": (keras_optimizers.RMSprop, {"momentum": 0.5, "centered": True}),
    "Nadam": (keras_optimizers.Nadam, {}),
    "Adafactor": (keras_optimizers.Adafactor, {}),
    "Lamb": (keras_optimizers.Lamb, {}),
    "Muon": (keras_optimizers.Muon, {"weight_decay": 0.1, "adam_weight_decay": 0.05}),
    "bert4keras.Adam": (own.Adam, {}),
    "bert4keras.AdaFactor": (own.AdaFactor, {"min_dim_size_to_factor": 4}),
}

# Keras's others, which differ in how they write a variable.
OTHER_BASES = {
    "SGD-nesterov": (keras_optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adagrad": (keras_optimizers.Adagrad, {}),
    "Adadelta": (keras_optimizers.Adadelta, {}),
    "Adamax": (keras_optimizers.Adamax, {}),
    "Ftrl": (keras_optimizers.Ftrl, {}),
    "ScheduleFreeAdamW": (keras_optimizers.ScheduleFreeAdamW, {"warmup_steps": 2}),
}


def make_base(name, **more):
    """The class and the constructor arguments of a base in the tables above."""
    cls, arguments = {**BASES, **OTHER_BASES}[name]
    return cls, {"learning_rate": 0.01, **arguments, **more}


def make_model(tied=False):
    """An embedding and a dense layer; `tied` uses the embedding for the output too."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((LENGTH,), dtype="int32")
    if tied:
        embedding = keras.layers.ReversibleEmbedding(
            VOCABULARY, HIDDEN, name="Embedding-Token"
        )
        hidden = keras.layers.Dense(HIDDEN, name="Dense")(embedding(ids))
        hidden = keras.layers.LayerNormalization(name="Norm")(hidden)
        logits = embedding(hidden, reverse=True)
        pooled = keras.layers.GlobalAveragePooling1D()(logits)
        outputs = keras.layers.Dense(OUTPUTS, name="Output")(pooled)
    else:
        embedding = keras.layers.Embedding(VOCABULARY, HIDDEN, name="Embedding-Token")
        hidden = keras.layers.Flatten()(embedding(ids))
        hidden = keras.layers.LayerNormalization(name="Norm")(hidden)
        outputs = keras.layers.Dense(OUTPUTS, name="Dense")(hidden)
    return keras.Model(ids, outputs)


def make_data(updates=UPDATES):
    """Token ids with repetitions, and targets, for `updates` big batches."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (updates * BATCH, LENGTH))
    return ids, rng.normal(size=(updates * BATCH, OUTPUTS)).astype("float32")


def train(optimizer, batch_size, tied=False, updates=UPDATES, epochs=1, **compile_args):
    """Weights of a fresh model after `fit` over the data in order."""
    model = make_model(tied)
    model.compile(optimizer, "mse", **compile_args)
    model.fit(
        *make_data(updates),
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return model.get_weights()


def make_variables(seed=0):
    """Variables named as a Transformer's: embedding, kernel, bias, scale."""
    rng = np.random.default_rng(seed)
    shapes = {
        ("Embedding-Token", "embeddings"): (VOCABULARY, HIDDEN),
        ("Dense", "kernel"): (HIDDEN, 5),
        ("Dense", "bias"): (5,),
        ("Norm", "gamma"): (HIDDEN,),
    }
    variables = []
    for (layer, name), shape in shapes.items():
        with keras.name_scope(layer):
            values = rng.normal(size=shape).astype("float32")
            variables.append(keras.Variable(values, name=name))
    return variables


def make_gradients(steps, seed=1):
    """Gradients for `make_variables`: `steps` lists, the embedding's rows half zero."""
    rng = np.random.default_rng(seed)
    sequence = []
    for _ in range(steps):
        gradients = [
            rng.normal(size=tuple(variable.shape)).astype("float32")
            for variable in make_variables()
        ]
        gradients[0][rng.random(VOCABULARY) < 0.5] = 0
        sequence.append(gradients)
    return sequence


def as_tensors(arrays):
    return [keras.ops.convert_to_tensor(array) for array in arrays]


def run(optimizer, sequence, variables=None):
    """The variables' values after each step of a sequence of gradients."""
    variables = make_variables() if variables is None else variables
    path = []
    for gradients in sequence:
        optimizer.apply(as_tensors(gradients), variables)
        path.append([keras.ops.convert_to_numpy(v).copy() for v in variables])
    return path


def largest_difference(ours, theirs):
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))


# Every trick with arguments under which it acts on `make_variables`.
TRICKS = {
    "weight_decay": {
        "weight_decay_rate": 0.1,
        "exclude_from_weight_decay": ["Norm", "bias"],
    },
    "layer_adaptation": {"exclude_from_layer_adaptation": ["Norm", "bias"]},
    "piecewise_linear_lr": {"lr_schedule": {2: 1, 4: 0.5}},
    "lookahead": {"steps_per_slow_update": 2, "slow_step_size": 0.4},
    "lazy_optimization": {"include_in_lazy_optimization": ["Embedding"]},
    "exponential_moving_average": {"ema_momentum": 0.8},
    "parameter_wise_lr": {"paramwise_lr_schedule": {"Embedding": 0.5, "kernel": 2.0}},
}
COMPOSITIONS = [
    ("weight_decay", "layer_adaptation"),
    ("weight_decay", "layer_adaptation", "piecewise_linear_lr"),
    ("piecewise_linear_lr", "layer_adaptation", "weight_decay"),
    ("exponential_moving_average", "lookahead"),
    ("lookahead", "exponential_moving_average"),
    ("lazy_optimization", "exponential_moving_average"),
    ("weight_decay", "lazy_optimization", "lookahead"),
    ("parameter_wise_lr", "weight_decay"),
    ("weight_decay", "parameter_wise_lr", "piecewise_linear_lr"),
    ("piecewise_linear_lr", "lookahead", "weight_decay", "exponential_moving_average"),
    ("lazy_optimization", "parameter_wise_lr", "layer_adaptation"),
    tuple(TRICKS),
    tuple(reversed(TRICKS)),
]


def extend_with(cls, tricks):
    """The class with the tricks and the arguments that `TRICKS` has for them."""
    arguments = {}
    for trick in tricks:
        cls = getattr(own, f"extend_with_{trick}")(cls)
        arguments.update(TRICKS.get(trick, {}))
    return cls, arguments


def derive(base, tricks, **more):
    """An optimizer: a base of the tables with tricks."""
    cls, arguments = make_base(base)
    cls, own_arguments = extend_with(cls, tricks)
    return cls(**{**arguments, **own_arguments, **more})


def compiled_runs(make_optimizer, sequence):
    """As the last values of `run`, for each way to compile an optimizer's step."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        # Dynamo's tracing, without the minutes that code generation takes.
        compiler = functools.partial(torch.compile, backend="eager")
        yield _compiled_run(make_optimizer(), sequence, compiler)
    elif backend == "tensorflow":
        import tensorflow as tf

        for xla in (False, True):
            compiler = functools.partial(tf.function, jit_compile=xla)
            yield _compiled_run(make_optimizer(), sequence, compiler)
    else:
        yield _jax_run(make_optimizer(), sequence)


def _compiled_run(optimizer, sequence, compiler):
    variables = make_variables()
    optimizer.build(variables)
    step = compiler(lambda gradients: optimizer.apply(gradients, variables))
    for gradients in sequence:
        step(as_tensors(gradients))
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def _jax_run(optimizer, sequence):
    import jax

    variables = make_variables()
    optimizer.build(variables)
    step = jax.jit(optimizer.stateless_apply)
    state = [v.value for v in optimizer.variables]
    values = [v.value for v in variables]
    for gradients in sequence:
        values, state = step(state, as_tensors(gradients), values)
    return [np.array(value) for value in values]
