import keras
import numpy as np
import pytest
from keras import ops

from bert4keras.layers import MultiHeadAttention, SinusoidalPositionEmbedding
from tests.gradients import gradients

BATCH, QUERIES, KEYS, HIDDEN = 2, 4, 5, 6
RNG = np.random.RandomState


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def paper(arrays, weights, options, keep=None):
    """The papers' equations in float64: attention, talking heads, position biases.

    Named axes as in "Talking-Heads Attention", appendix A: n queries, m keys, k key
    heads, h softmax heads, v value heads, d head size.
    """
    weights = [np.asarray(w, "float64") for w in weights]
    arrays = [np.asarray(a, "float64") for a in arrays]
    queries, keys, values = (
        arrays[i] @ weights[2 * i] + weights[2 * i + 1] for i in range(3)
    )
    heads = options["heads"]
    k, v = options.get("key_heads", heads), options.get("value_heads", heads)
    queries = queries.reshape(*queries.shape[:2], k, -1)
    keys = keys.reshape(*keys.shape[:2], k, -1)
    values = values.reshape(*values.shape[:2], v, -1)
    p_bias, position = options.get("p_bias"), arrays[-1]
    if p_bias == "rotary":
        queries, keys = rotate(queries), rotate(keys)
    scores = np.einsum("bnkd,bmkd->bnmk", queries, keys)
    if p_bias == "typical_relative":
        scores += np.einsum("bnkd,nmd->bnmk", queries, position)
    talking = options.get("talking_heads", False)
    mixing = weights[8:]
    if talking in ("before", "both"):
        scores = scores @ mixing[0]
    if p_bias == "t5_relative":
        scores = scores + position
    scores = scores / np.sqrt(queries.shape[-1])
    biased = scores.copy()
    if options.get("a_bias"):
        bias = arrays[3]
        bias = bias[:, None] if bias.ndim == 3 else bias
        biased += bias.transpose(0, 2, 3, 1)
    biased = biased.transpose(0, 1, 3, 2)
    real = np.ones((1, 1, 1, 1)) if keep is None else keep[:, None, None]
    method = options.get("normalization", "softmax")
    number = np.maximum(real.sum(-1, keepdims=True), 1) if keep is not None else KEYS
    if method == "softmax_plus":
        biased = biased * np.log(number) / np.log(512)
    biased = np.where(real, biased, -1e300)
    if method == "squared_relu":
        probabilities = np.maximum(biased, 0) ** 2 / number
    else:
        probabilities = softmax(biased)
    probabilities = probabilities.transpose(0, 1, 3, 2)
    if talking in ("after", "both"):
        probabilities = probabilities @ mixing[-1]
    outputs = np.einsum("bnmv,bmvd->bnvd", probabilities, values)
    if p_bias == "typical_relative":
        outputs += np.einsum("bnmv,nmd->bnvd", probabilities, position)
    outputs = outputs.reshape(*outputs.shape[:2], -1) @ weights[6] + weights[7]
    return outputs, scores.transpose(0, 3, 1, 2)


def rotate(x):
    """Pairs as complex numbers, times exp(i p / 10000^(2j/d))."""
    size = x.shape[-1]
    angles = np.arange(x.shape[1])[:, None] / 10000 ** (np.arange(0, size, 2) / size)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[None, :, None]
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


def call_arguments(options):
    return {name: options[name] for name in ("a_bias", "p_bias") if name in options}


def make(options, seed=0, **more):
    """A layer with random weights, and inputs for it."""
    options = {"heads": 2, "head_size": 4, **options}
    arguments = {k: v for k, v in options.items() if k not in ("a_bias", "p_bias")}
    layer = MultiHeadAttention(**arguments, **more)
    rng = RNG(seed)
    arrays = [
        rng.normal(size=(BATCH, length, HIDDEN)) for length in (QUERIES, KEYS, KEYS)
    ]
    heads = options["heads"]
    key_size = options.get("key_size", options["head_size"])
    if options.get("a_bias"):
        arrays.append(rng.normal(size=options["a_bias"]))
    p_bias = options.get("p_bias")
    if p_bias == "rotary":
        layer_of_positions = SinusoidalPositionEmbedding(key_size, "zero")
        positions = layer_of_positions(ops.zeros((1, KEYS, 1)))
        arrays[0] = rng.normal(size=(BATCH, KEYS, HIDDEN))
        arrays.append(ops.convert_to_numpy(positions))
    elif p_bias:
        size = heads if p_bias == "t5_relative" else key_size
        arrays.append(rng.normal(size=(QUERIES, KEYS, size)))
    arrays = [a.astype("float32") for a in arrays]
    layer.build([a.shape for a in arrays])
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.weights])
    return layer, arrays, options


def run(layer, arrays, options, keep=None, **more):
    masks = None
    if keep is not None:
        masks = [None, None, ops.convert_to_tensor(keep)]
        masks += [None] * (len(arrays) - 3)
    inputs = [ops.convert_to_tensor(a) for a in arrays]
    arguments = {k: bool(v) if k == "a_bias" else v for k, v in options.items()}
    outputs = layer(inputs, mask=masks, **call_arguments(arguments), **more)
    return (
        [ops.convert_to_numpy(o) for o in outputs]
        if isinstance(outputs, list | tuple)
        else ops.convert_to_numpy(outputs)
    )


KEEP = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], "bool")

CASES = {
    "plain": {},
    "larger_keys": {"key_size": 10, "out_dim": 7},
    "smaller_keys": {"key_size": 2},
    "bias_of_three_axes": {"a_bias": (BATCH, QUERIES, KEYS)},
    "bias_per_head": {"a_bias": (1, 2, QUERIES, KEYS), "key_size": 6},
    "talking_before": {"talking_heads": "before"},
    "talking_after": {"talking_heads": "after"},
    "talking_both": {"talking_heads": "both", "a_bias": (BATCH, 1, QUERIES, KEYS)},
    "talking_three_numbers": {
        "talking_heads": "both",
        "heads": 5,
        "key_heads": 2,
        "value_heads": 3,
        "key_size": 3,
    },
    "talking_many_keys": {"talking_heads": "before", "heads": 2, "key_heads": 4},
    "squared_relu": {"normalization": "squared_relu"},
    "softmax_plus": {"normalization": "softmax_plus", "a_bias": (1, 1, QUERIES, KEYS)},
    "rotary": {"p_bias": "rotary", "key_size": 6},
    "rotary_with_bias": {"p_bias": "rotary", "a_bias": (BATCH, KEYS, KEYS)},
    "typical_relative": {"p_bias": "typical_relative"},
    "typical_relative_talking": {"p_bias": "typical_relative", "talking_heads": True},
    "t5_relative": {"p_bias": "t5_relative"},
    "t5_relative_talking": {
        "p_bias": "t5_relative",
        "talking_heads": "both",
        "heads": 3,
        "key_heads": 2,
        "value_heads": 4,
    },
    "t5_relative_with_bias": {
        "p_bias": "t5_relative",
        "a_bias": (BATCH, 1, QUERIES, KEYS),
    },
}


@pytest.mark.parametrize("keep", [None, KEEP], ids=["unmasked", "masked"])
@pytest.mark.parametrize("name", CASES)
def test_the_papers_equations(name, keep):
    layer, arrays, options = make(CASES[name])
    options["talking_heads"] = layer.talking_heads
    expected, scores = paper(arrays, layer.get_weights(), options, keep)
    outputs = run(layer, arrays, options, keep)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=2e-5)

    # The explicit path, which scores are returned from, agrees with the fused one.
    layer.return_attention_scores = True
    explicit, explicit_scores = run(layer, arrays, options, keep)
    np.testing.assert_allclose(explicit, outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(explicit_scores, scores, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "name", ["larger_keys", "talking_three_numbers", "typical_relative"]
)
def test_gradients_are_those_of_the_equations(name):
    """Along random directions, against central differences in float64."""
    layer, arrays, options = make(CASES[name])
    rng = RNG(1)
    weights = layer.get_weights()
    expected = paper(arrays, weights, options, KEEP)[0]
    pick = rng.normal(size=expected.shape)

    def value(*tensors):
        masks = [None, None, ops.convert_to_tensor(KEEP)] + [None] * (len(tensors) - 3)
        outputs = layer(list(tensors), mask=masks, **call_arguments(options))
        return ops.sum(outputs * ops.convert_to_tensor(pick.astype("float32")))

    found = gradients(value, arrays)
    for i in range(len(arrays)):
        direction = rng.normal(size=arrays[i].shape)
        step = 1e-6
        sides = []
        for sign in (1, -1):
            moved = [np.asarray(a, "float64") for a in arrays]
            moved[i] = moved[i] + sign * step * direction
            sides.append((paper(moved, weights, options, KEEP)[0] * pick).sum())
        slope = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(np.sum(found[i] * direction), slope, rtol=2e-4)


def test_weight_gradients_of_talking_heads_are_those_of_the_equations():
    options = CASES["talking_three_numbers"]
    layer, arrays, options = make(options)
    before = [np.array(w) for w in layer.get_weights()]
    inputs = [keras.Input(a.shape[1:]) for a in arrays]
    model = keras.Model(inputs, layer(inputs))
    # A loss that is linear in the outputs would let TensorFlow's graph update a kernel
    # before its forward use has read it: nothing in the gradient waits for the outputs.
    model.compile(
        keras.optimizers.SGD(1.0), lambda y, p: ops.mean(y * p * p, axis=(1, 2))
    )
    pick = RNG(1).normal(size=(BATCH, QUERIES, layer.out_dim)).astype("float32")
    model.train_on_batch(arrays, pick)
    rng = RNG(2)
    for i, (old, new) in enumerate(zip(before, layer.get_weights(), strict=True)):
        direction = rng.normal(size=old.shape)
        sides = []
        for sign in (1e-6, -1e-6):
            moved = [np.asarray(w, "float64") for w in before]
            moved[i] = moved[i] + sign * direction
            sides.append((paper(arrays, moved, options)[0] ** 2 * pick).mean())
        slope = (sides[0] - sides[1]) / 2e-6
        found = np.sum((old - new).astype("float64") * direction)
        np.testing.assert_allclose(found, slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("talking", [False, True], ids=["plain", "talking"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_query_without_real_keys_gets_the_mean_of_all_values(dtype, talking, backend):
    arguments = {"talking_heads": talking, "key_size": 8}
    layer, arrays, options = make(arguments, dtype=dtype)
    for name in ("score_mixing", "weight_mixing"):
        if talking:
            getattr(layer, name).kernel.assign(np.eye(2))
    arrays[0] = arrays[0] * 20  # scores that differ by hundreds
    keep = np.array([[False] * KEYS, [True] * KEYS])
    found = run(layer, arrays, options, keep)
    weights = layer.get_weights()
    mean = (arrays[2] @ weights[4] + weights[5]).mean(axis=1, keepdims=True)
    mean = (mean @ weights[6] + weights[7])[0]
    assert np.all(np.isfinite(np.asarray(found, "float32")))
    if dtype == "float32":
        np.testing.assert_allclose(found[0], np.repeat(mean, QUERIES, 0), rtol=1e-4)


@pytest.mark.parametrize("normalization", ["squared_relu", "softmax_plus"])
def test_a_query_without_real_keys_is_finite_under_other_normalizations(normalization):
    layer, arrays, options = make({"normalization": normalization})
    found = run(layer, arrays, options, np.zeros((BATCH, KEYS), "bool"))
    assert np.all(np.isfinite(found))
    if normalization == "squared_relu":
        bias = layer.get_weights()[7]
        np.testing.assert_allclose(found, np.broadcast_to(bias, found.shape))


BIASES = {
    "one_axis": (KEYS,),
    "two_axes": (QUERIES, KEYS),
    "three_axes": (BATCH, QUERIES, KEYS),
    "per_head": (1, 2, QUERIES, KEYS),
    "all_queries": (BATCH, 1, 1, KEYS),
}
HIDDEN_ROW = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], "bool")


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [
        ("one_axis", -1e12),
        ("two_axes", -np.inf),
        ("three_axes", -1e4),
        ("per_head", -np.inf),
        ("all_queries", -1e12),
    ],
)
def test_fused_and_explicit_paths_have_the_same_gradients(shape, hidden):
    """With padding, a sample of nothing else, and a row that the bias hides."""
    # Keys as wide as values take another of PyTorch's kernels.
    layer, arrays, _ = make({"key_size": 4})
    bias = RNG(3).normal(size=BIASES[shape])
    bias[RNG(4).uniform(size=bias.shape) < 0.3] = hidden
    if bias.ndim > 1:
        bias[..., :1, :] = hidden
    arrays.append(bias.astype("float32"))
    mask = [None, None, ops.convert_to_tensor(HIDDEN_ROW), None]
    found = []
    for returned in (False, True):
        layer.return_attention_scores = returned

        def value(*tensors, returned=returned):
            outputs = layer(list(tensors), mask=mask, a_bias=True)
            return ops.sum(ops.square(outputs[0] if returned else outputs))

        inputs = [ops.convert_to_tensor(a) for a in arrays]
        found.append([ops.convert_to_numpy(value(*inputs)), *gradients(value, arrays)])
    for fused, explicit in zip(*found, strict=True):
        assert np.all(np.isfinite(fused))
        scale = np.abs(explicit).max()
        np.testing.assert_allclose(fused, explicit, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_bias_that_overflows_hides(dtype):
    """-1e12 is minus infinity in float16."""
    layer, arrays, _ = make({}, dtype=dtype)
    arrays.append(np.full((1, 1, QUERIES, KEYS), -1e12, "float32"))
    arrays[3][..., 1:, :2] = 0
    found = np.asarray(run(layer, arrays, {"a_bias": True}), "float32")
    assert np.all(np.isfinite(found))
    arrays[1:3] = [a[:, :2] for a in arrays[1:3]]
    short = np.asarray(run(layer, arrays[:3], {}), "float32")
    # Two or three roundings to 8 bits of numbers of about 5.
    np.testing.assert_allclose(found[:, 1:], short[:, 1:], atol=0.1)


def test_gradients_stay_finite_without_real_keys():
    for options in ({}, {"talking_heads": True}, {"normalization": "softmax_plus"}):
        layer, arrays, _ = make(options)
        masks = [None, None, ops.zeros((BATCH, KEYS), "bool")]
        found = gradients(
            lambda *t, layer=layer, masks=masks: ops.sum(layer(list(t), mask=masks)),
            arrays,
        )
        assert all(np.all(np.isfinite(g)) for g in found)


def test_talking_heads_start_as_the_identity():
    plain, arrays, options = make({"heads": 3})
    talking = MultiHeadAttention(3, 4, talking_heads=True)
    talking.build([a.shape for a in arrays])
    talking.set_weights(plain.get_weights() + talking.get_weights()[8:])
    np.testing.assert_allclose(
        run(talking, arrays, options), run(plain, arrays, options), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"heads": 0}, "heads=0"),
        ({"head_size": 0}, "head_size=0"),
        ({"out_dim": 0}, "out_dim=0"),
        ({"key_size": -1}, "key_size=-1"),
        ({"normalization": "sigmoid"}, "normalization='sigmoid'"),
        ({"talking_heads": "maybe"}, "talking_heads='maybe'"),
        ({"key_heads": 4}, "key_heads=4"),
        ({"key_heads": 4, "talking_heads": "after"}, "key_heads=4"),
        ({"value_heads": 4, "talking_heads": "before"}, "value_heads=4"),
        ({"key_heads": 0, "talking_heads": True}, "key_heads=0"),
    ],
)
def test_impossible_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        MultiHeadAttention(**{"heads": 2, "head_size": 4, **arguments})


@pytest.mark.parametrize(
    ("inputs", "call", "named"),
    [
        (3, {"a_bias": True}, "3 inputs"),
        (3, {"p_bias": "rotary"}, "3 inputs"),
        (4, {}, "4 inputs"),
        (4, {"a_bias": True, "p_bias": "t5_relative"}, "4 inputs"),
        (4, {"p_bias": "absolute"}, "p_bias='absolute'"),
    ],
)
def test_a_position_bias_without_its_input_is_named(inputs, call, named):
    x = keras.Input((3, 4))
    with pytest.raises(ValueError, match=named):
        MultiHeadAttention(2, 4)([x] * inputs, **call)


def test_typical_relative_needs_one_size():
    x, positions = keras.Input((3, 4)), keras.Input((3, 4))
    with pytest.raises(ValueError, match=r"position_size=6 .* head_size=4"):
        MultiHeadAttention(2, 4, key_size=6)(
            [x, x, x, positions], p_bias="typical_relative"
        )


def test_rotary_positions_of_another_size_are_named():
    x, positions = keras.Input((3, 4)), keras.Input((3, 6))
    with pytest.raises(ValueError, match="size 6"):
        MultiHeadAttention(2, 4)([x, x, x, positions], p_bias="rotary")


@pytest.mark.parametrize("scores", [False, True])
def test_symbolic_shapes_and_masks(scores):
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, HIDDEN, mask_zero=True)(tokens)
    layer = MultiHeadAttention(
        3,
        4,
        out_dim=5,
        talking_heads=True,
        key_heads=2,
        value_heads=7,
        return_attention_scores=scores,
    )
    outputs = layer([x, x, x])
    if scores:
        assert outputs[1].shape == (None, 3, None, None)
        assert keras.src.backend.get_keras_mask(outputs[1]) is None
        outputs = outputs[0]
    assert outputs.shape == (None, None, 5)
    model = keras.Model(tokens, outputs)
    short = model.predict_on_batch(np.array([[3, 4, 5]]))
    padded = model.predict_on_batch(np.array([[3, 4, 5, 0, 0]]))
    np.testing.assert_allclose(padded[:, :3], short, rtol=1e-5, atol=1e-6)


def test_dropout_is_active_in_training_only():
    layer, arrays, options = make({"attention_dropout": 0.5})
    still = run(layer, arrays, options, training=False)
    np.testing.assert_array_equal(run(layer, arrays, options), still)
    first = run(layer, arrays, options, training=True)
    second = run(layer, arrays, options, training=True)
    assert np.abs(first - second).max() > 1e-3
    layer, arrays, options = make({"attention_dropout": 0.5, "talking_heads": True})
    many = [run(layer, arrays, options, training=True) for _ in range(2)]
    assert np.abs(many[0] - many[1]).max() > 1e-3


@pytest.mark.parametrize(("name", "dropout"), [("rotary", 0.5), ("talking_both", None)])
def test_recomputation_changes_no_gradient(name, dropout):
    layer, arrays, options = make(CASES[name], attention_dropout=dropout)
    options = {k: bool(v) if k == "a_bias" else v for k, v in options.items()}
    found = []
    for recompute in (False, True):
        layer.recompute = recompute
        keras.utils.set_random_seed(1)
        if dropout:
            layer.seed_generator.state.assign([1, 0])
        found.append(
            gradients(
                lambda *t: ops.sum(
                    ops.square(layer(list(t), training=True, **call_arguments(options)))
                ),
                arrays,
            )
        )
    for kept, again in zip(*found, strict=True):
        assert np.abs(kept).max() > 1e-3
        np.testing.assert_allclose(again, kept, rtol=1e-5, atol=1e-5)
