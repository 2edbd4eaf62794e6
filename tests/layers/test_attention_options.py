"""What `build_transformer_model` passes on to attention and feed-forward layers."""

import keras
import numpy as np
import pytest

from bert4keras.models import build_transformer_model

CONFIG = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position": 16,
    "dropout_rate": 0,
}
TOKENS = np.array([[1, 2, 3, 4], [5, 6, 0, 0]])
SEGMENTS = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])


def attention(model, index=0):
    return model.get_layer(f"Transformer-{index}-MultiHeadSelfAttention")


def test_every_option_reaches_the_attention():
    model = build_transformer_model(
        CONFIG,
        attention_head_size=3,
        attention_key_size=5,
        talking_heads="both",
        attention_key_heads=4,
        attention_value_heads=3,
        attention_normalization="softmax_plus",
        residual_attention_scores=True,
        recompute=[1],
    )
    for index in range(2):
        layer = attention(model, index)
        assert (layer.head_size, layer.key_size) == (3, 5)
        assert (layer.heads, layer.key_heads, layer.value_heads) == (2, 4, 3)
        assert layer.talking_heads == "both"
        assert layer.normalization == "softmax_plus"
        assert layer.return_attention_scores
        assert layer.recompute is (index == 1)
        assert model.get_layer(f"Transformer-{index}-FeedForward").recompute is (
            index == 1
        )
    assert np.all(np.isfinite(model.predict_on_batch([TOKENS, SEGMENTS])))


@pytest.mark.parametrize(
    "sizes",
    [
        {"attention_key_size": 0},
        {"attention_head_size": 0},
        {"attention_key_heads": 3},
        {"talking_heads": "sometimes"},
        {"attention_normalization": "sum"},
    ],
)
def test_impossible_options_are_named(sizes):
    (value,) = sizes.values()
    with pytest.raises(ValueError, match=f"={value!r}"):
        build_transformer_model(CONFIG, **sizes)


@pytest.mark.parametrize(("application", "dropout"), [("encoder", 0.3), ("unilm", 0)])
def test_recomputing_gives_the_same_training_step(application, dropout):
    weights = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        model = build_transformer_model(
            {**CONFIG, "num_hidden_layers": 1},
            application=application,
            recompute=recompute,
            attention_dropout_rate=dropout,
        )
        model.compile(keras.optimizers.SGD(1.0), "mse")
        targets = np.ones(model.compute_output_shape([(2, 4), (2, 4)]))
        model.train_on_batch([TOKENS, SEGMENTS], targets)
        weights.append(model.get_weights())
    for kept, again in zip(*weights, strict=True):
        np.testing.assert_allclose(again, kept, rtol=1e-4, atol=1e-6)


def _kept_by_torch(model, inputs):
    """Bytes of tensors kept for the backward pass, parameters aside."""
    import torch

    own = {w.value.data_ptr() for w in model.weights}
    kept = {}

    def pack(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(inputs, training=True)
    del output
    return sum(kept.values())


def _kept_by_jax(model, inputs):
    """Bytes of what the backward pass is handed, weights aside."""
    import jax

    trainable = [w.value for w in model.trainable_variables]
    other = [w.value for w in model.non_trainable_variables]

    def outputs(trainable):
        return model.stateless_call(trainable, other, inputs, training=True)[0]

    _, backward = jax.vjp(outputs, trainable)
    own = {w.unsafe_buffer_pointer() for w in (*trainable, *other)}
    leaves = {x.unsafe_buffer_pointer(): x for x in jax.tree.leaves(backward)}
    return sum(x.nbytes for place, x in leaves.items() if place not in own)


def _kept_by_tensorflow(model, inputs):
    """Bytes of the forward pass's tensors that the graph hands the backward pass."""
    import tensorflow as tf

    kept = {}

    @tf.function
    def trace():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True)))
        forward = set(loss.graph.get_operations())
        gradients = tape.gradient(loss, [w.value for w in model.trainable_variables])
        for operation in loss.graph.get_operations():
            if operation not in forward:
                kept.update((t.ref(), t) for t in operation.inputs if t.op in forward)
        return [tf.convert_to_tensor(g) for g in gradients]

    trace.get_concrete_function()
    given = ("Const", "Placeholder", "ReadVariableOp")  # weights and inputs stay anyway
    return sum(
        t.shape.num_elements() * t.dtype.size
        for t in kept.values()
        if t.op.type not in given and t.shape.num_elements()
    )


def test_recomputing_takes_less_memory(backend):
    used = {
        "tensorflow": _kept_by_tensorflow,
        "torch": _kept_by_torch,
        "jax": _kept_by_jax,
    }[backend]
    inputs = [np.ones((4, 48), "int32")] * 2
    sizes = {**CONFIG, "max_position": 48}
    kept, again = (
        used(build_transformer_model(sizes, recompute=recompute), inputs)
        for recompute in (False, True)
    )
    assert again < 0.6 * kept
