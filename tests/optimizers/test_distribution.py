"""Several devices give the weights of one."""

import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))

# The devices have to be made before the framework starts, so in a process of its own.
TENSORFLOW = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, logical)
import keras
from optimizer_cases import MICRO_BATCH, derive, largest_difference
from optimizer_cases import make_data, make_model
from test_distribution import CASES

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2

def train(scope, chain, more, scaled, **compile_args):
    with scope:
        model = make_model()
        optimizer = derive("AdamW", chain, **more)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 8.0)
        model.compile(optimizer, "mse", **compile_args)
    # Two resumptions in the middle of an accumulation.
    ids, targets = make_data()
    for start in (0, 8, 16):
        rows = slice(start, start + 8)
        model.fit(ids[rows], targets[rows], MICRO_BATCH, shuffle=False, verbose=0)
    inner = optimizer.inner_optimizer if scaled else optimizer
    return model.get_weights(), int(inner.iterations.numpy())

import contextlib
for chain, more, scaled in CASES:
    one, steps = train(contextlib.nullcontext(), chain, more, scaled)
    two, same = train(strategy.scope(), chain, more, scaled)
    assert steps == same == 12 // more.get("grad_accum_steps", 1), (steps, same)
    difference = largest_difference(one, two)
    print(chain, difference)
    assert difference < 1e-5, (chain, difference)
print("DONE")
"""

JAX = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
sys.path.insert(0, sys.argv[1])
import jax, keras
from optimizer_cases import derive, largest_difference, make_data, make_model
from test_distribution import CASES

devices = keras.distribution.list_devices()
assert len(devices) == 4
mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
layout = keras.distribution.LayoutMap(mesh)
layout["Dense/kernel"] = ("model", None)
layout["Embedding-Token/embeddings"] = ("model", None)

def train(distribution, chain, more):
    keras.distribution.set_distribution(distribution)
    model = make_model()
    optimizer = derive("AdamW", chain, **more)
    model.compile(optimizer, "mse")
    ids, targets = make_data()
    model.fit(ids, targets, 4, shuffle=False, verbose=0)
    if distribution is not None and isinstance(
        distribution, keras.distribution.ModelParallel
    ):
        embedding = model.trainable_variables[0]
        for variable in [embedding, *optimizer.variables]:
            if variable.shape == embedding.shape:
                assert not variable.value.sharding.is_fully_replicated, variable.path
    return model.get_weights(), int(optimizer.iterations)

for chain, more, _ in CASES:
    one, steps = train(None, chain, more)
    for distribution in (
        keras.distribution.DataParallel(devices=devices),
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
    ):
        many, same = train(distribution, chain, more)
        assert steps == same == 6 // more.get("grad_accum_steps", 1), (steps, same)
        difference = largest_difference(one, many)
        print(type(distribution).__name__, chain, difference)
        assert difference < 1e-5, (chain, difference)
print("DONE")
"""

ALL = (
    *("weight_decay", "layer_adaptation", "lookahead", "lazy_optimization"),
    *("exponential_moving_average", "parameter_wise_lr", "piecewise_linear_lr"),
)
# The tricks, their arguments, and whether inside a LossScaleOptimizer.
CASES = [
    (("gradient_accumulation",), {"grad_accum_steps": 3, "clipnorm": 0.1}, False),
    (("gradient_accumulation",), {"grad_accum_steps": 3}, True),
    (("gradient_accumulation", *ALL), {"grad_accum_steps": 3}, False),
]


@pytest.mark.parametrize(
    ("name", "program"), [("tensorflow", TENSORFLOW), ("jax", JAX)]
)
def test_several_devices(backend, name, program):
    if backend != name:
        pytest.skip(f"a test of {name}")
    ran = subprocess.run(
        [sys.executable, "-c", program, HERE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-4000:]
    assert ran.stdout.strip().endswith("DONE")
