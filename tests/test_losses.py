import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4keras.losses import (
    MultilabelCategoricalCrossentropy,
    SparseMultilabelCategoricalCrossentropy,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)
from bert4keras.metrics import MultilabelExactMatch, MultilabelF1
from tests.gradients import gradients

CLASSES = 5


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def brute_force(targets, scores):
    """The formula of one row, in Python's floats."""
    negatives = [
        math.log(1 - t) + s for t, s in zip(targets, scores, strict=True) if t < 1
    ]
    positives = [math.log(t) - s for t, s in zip(targets, scores, strict=True) if t > 0]
    total = 0
    for terms in (negatives, positives):
        highest = max([0, *terms])
        total += highest + math.log(sum(math.exp(x - highest) for x in [0, *terms]))
    return total


rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 0.25]),
        st.floats(-1e4, 1e4, width=32) | st.floats(-5, 5, width=32),
    ),
    min_size=CLASSES,
    max_size=CLASSES,
)


@given(rows)
@settings(max_examples=60)
def test_dense_loss_by_brute_force(row):
    targets, scores = (np.array([x], "float32") for x in zip(*row, strict=True))
    found = array(multilabel_categorical_crossentropy(targets, scores))
    expected = brute_force([t for t, _ in row], [s for _, s in row])
    np.testing.assert_allclose(found, [expected], rtol=1e-5, atol=1e-6)


@given(st.lists(st.integers(0, CLASSES - 1), min_size=3, max_size=3), st.booleans())
@settings(max_examples=30)
def test_sparse_loss_is_the_dense_one(numbers, mask_zero):
    scores = np.random.RandomState(0).normal(size=(1, CLASSES)).astype("float32") * 4
    found = sparse_multilabel_categorical_crossentropy(
        np.array([numbers]), scores, mask_zero=mask_zero
    )
    targets = [float(c in numbers) for c in range(CLASSES)]
    first = 1 if mask_zero else 0
    expected = brute_force(targets[first:], scores[0, first:].tolist())
    np.testing.assert_allclose(array(found), [expected], rtol=1e-5)


def test_one_target_with_a_bar_of_its_own_is_softmax_cross_entropy():
    """With class 0 fixed at score 0: log(1 + sum exp(s_i)) + log(1 + exp(-s_t))."""
    scores = ops.convert_to_tensor([[2.0, -1.0, 0.5]])
    found = array(multilabel_categorical_crossentropy([[1, 0, 0]], scores))[0]
    negatives = -array(ops.log_softmax(ops.array([[0.0, -1.0, 0.5]])))[0, 0]
    positives = -array(ops.log_softmax(ops.array([[0.0, -2.0]])))[0, 0]
    assert found == pytest.approx(negatives + positives, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.5])
def test_large_scores_are_stable_in_value_and_gradient(dtype, target):
    scores = np.array([[1e4, -1e4, 3.0, -3.0, 0.0], [-1e4] * 5, [1e4] * 5], "float32")
    targets = np.full(scores.shape, target, "float32")
    tensor = ops.cast(ops.convert_to_tensor(scores), dtype)
    kept = array(tensor)  # as rounded
    found = array(multilabel_categorical_crossentropy(targets, tensor))
    expected = [brute_force(*pair) for pair in zip(targets, kept.tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    (slope,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(targets, s)), [tensor]
    )
    assert np.all(np.isfinite(slope))
    # Each of the two sums of exponentials moves by 1 at most.
    assert np.all(np.abs(slope) <= 1.001)


@pytest.mark.parametrize("hidden", [-np.inf, -1e12, -1e30])
def test_classes_at_minus_infinity_do_not_count(hidden):
    scores = np.array([[1.0, hidden, -2.0, hidden]], "float32")
    targets = np.array([[1.0, 1.0, 0.0, 0.0]], "float32")
    found = array(multilabel_categorical_crossentropy(targets, scores))
    expected = array(
        multilabel_categorical_crossentropy(targets[:, [0, 2]], scores[:, [0, 2]])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    (slope,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(targets, s)), [scores]
    )
    assert np.all(np.isfinite(slope))
    np.testing.assert_array_equal(slope[0, [1, 3]], 0)


def test_gradient_by_differences():
    rng = np.random.RandomState(3)
    scores = rng.normal(size=(1, CLASSES))
    targets = np.array([[1, 0, 0.3, 0.9, 0]])
    (slope,) = gradients(
        lambda s: ops.sum(multilabel_categorical_crossentropy(targets, s)),
        [scores.astype("float32")],
    )
    for i in range(CLASSES):
        step = np.eye(CLASSES)[i] * 1e-5
        difference = brute_force(targets[0], (scores + step)[0]) - brute_force(
            targets[0], (scores - step)[0]
        )
        assert slope[0, i] == pytest.approx(difference / 2e-5, rel=1e-4, abs=1e-6)


def test_sparse_loss_without_any_target():
    scores = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")
    found = sparse_multilabel_categorical_crossentropy(np.zeros((2, 0), int), scores)
    expected = [brute_force([0, 0], row) for row in scores.tolist()]
    np.testing.assert_allclose(array(found), expected, rtol=1e-6)


def test_sparse_loss_over_several_axes():
    """As for spans: (batch, kinds, spans)."""
    scores = np.random.RandomState(0).normal(size=(2, 3, 6)).astype("float32")
    numbers = np.array([[[1, 2], [0, 0], [5, 1]], [[3, 3], [4, 0], [2, 5]]])
    found = array(sparse_multilabel_categorical_crossentropy(numbers, scores))
    dense = np.zeros_like(scores)
    np.put_along_axis(dense, numbers, 1, axis=-1)
    expected = array(multilabel_categorical_crossentropy(dense, scores))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_training_with_the_keras_loss(sparse, dtype, backend):
    keras.utils.set_random_seed(0)
    x = np.random.RandomState(0).normal(size=(32, 8)).astype("float32")
    dense = np.argsort(x[:, :CLASSES], axis=1)
    dense = (dense >= CLASSES - 2).astype("float32")
    numbers = np.argsort(-dense, axis=1, kind="stable")[:, :2]
    loss = (
        SparseMultilabelCategoricalCrossentropy()
        if sparse
        else MultilabelCategoricalCrossentropy()
    )
    metrics = [] if sparse else [MultilabelF1("micro"), MultilabelExactMatch()]
    dense_layer = keras.layers.Dense(CLASSES, dtype=dtype)
    model = keras.Sequential([keras.Input((8,)), dense_layer])
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=metrics)
    y = numbers if sparse else dense
    history = model.fit(x, y, epochs=8, batch_size=32, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    scores = model.predict(x, verbose=0).astype("float32")
    function = (
        sparse_multilabel_categorical_crossentropy
        if sparse
        else multilabel_categorical_crossentropy
    )
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        evaluated["loss"], array(function(y, scores)).mean(), rtol=1e-2
    )


@pytest.mark.parametrize(
    "loss",
    [
        MultilabelCategoricalCrossentropy(name="mine", reduction="none"),
        SparseMultilabelCategoricalCrossentropy(mask_zero=True),
    ],
)
def test_losses_come_back_from_their_configuration(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def f1(tp, predicted, present):
    return 2 * tp / (predicted + present) if predicted + present else 0.0


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=10)
def test_metrics_by_brute_force(seed):
    rng = np.random.RandomState(seed)
    y = (rng.uniform(size=(3, 4, CLASSES)) < 0.3).astype("float32")
    scores = rng.normal(size=y.shape).astype("float32")
    y[..., 0], scores[..., 0] = 0, -1  # a class neither present nor predicted
    scores[0, 0] = 2 * y[0, 0] - 1
    weight = rng.randint(0, 3, size=(3, 4)).astype("float32")
    weight[0, 0] = 1
    p = (scores > 0).astype("float32")
    counts = [(a * weight[..., None]).sum((0, 1)) for a in (y * p, p, y)]
    matches = (p == y).all(-1)
    expected = {
        "micro_f1": f1(*(c.sum() for c in counts)),
        "macro_f1": np.mean([f1(*c) for c in zip(*counts, strict=True)]),
        "exact_match": (matches * weight).sum() / weight.sum(),
    }
    for metric in (
        MultilabelF1("micro"),
        MultilabelF1("macro"),
        MultilabelExactMatch(),
    ):
        for i in range(3):
            metric.update_state(y[i], scores[i], sample_weight=weight[i])
        np.testing.assert_allclose(
            array(metric.result()), expected[metric.name], rtol=1e-5
        )
        metric.reset_state()
        assert array(metric.result()) == 0


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
def test_metrics_take_integer_targets(dtype):
    y = ops.convert_to_tensor(np.array([[1, 0], [1, 0]], dtype))
    for metric, expected in ((MultilabelF1(), 0.8), (MultilabelExactMatch(), 0.5)):
        metric.update_state(y, [[2.0, -1.0], [2.0, 1.0]])
        assert float(metric.result()) == pytest.approx(expected)


def test_unknown_average_is_named():
    with pytest.raises(ValueError, match="average='weighted'"):
        MultilabelF1("weighted")


@pytest.mark.parametrize("metric", [MultilabelF1("macro"), MultilabelExactMatch()])
def test_metrics_come_back_from_their_configuration(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
