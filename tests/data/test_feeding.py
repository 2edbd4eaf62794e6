"""Batches through `fit`, `evaluate` and `predict`, on the backend under test."""

import itertools

import keras
import numpy as np
import pytest

from bert4keras.data import DataGenerator, PaddedBatches, sequence_padding
from bert4keras.data.arrays import softmax
from bert4keras.data.feeding import as_keras_batch, open_spec

# Equal lengths first: Keras must not take them for the lengths of all.
LENGTHS = [5, 5, 5, 5, 3, 3]
RNG = np.random.default_rng(0)
TOKENS = [RNG.integers(1, 20, n).tolist() for n in LENGTHS]
SEGMENTS = [[i % 2 for i in range(n)] for n in LENGTHS]
LABELS = [0, 1, 2, 0, 1, 2]
# XLA compiles every shape of batch; TensorFlow needs it not, JAX is slower without it.
COMPILED = keras.backend.backend() == "jax"


class Classification(DataGenerator):
    """Written as scripts for bert4keras 0.11.5 write it."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (token_ids, segment_ids, label) in self.sample(random):
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([label])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch_token_ids = sequence_padding(batch_token_ids)
                batch_segment_ids = sequence_padding(batch_segment_ids)
                batch_labels = sequence_padding(batch_labels)
                yield [batch_token_ids, batch_segment_ids], batch_labels
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


def two_input_model(per_token=False):
    tokens = keras.Input((None,), name="Input-Token")
    segments = keras.Input((None,), name="Input-Segment")
    x = keras.layers.Embedding(20, 4)(tokens)
    x = keras.layers.Add()([x, keras.layers.Embedding(2, 4)(segments)])
    if not per_token:
        real = keras.ops.cast(keras.ops.not_equal(tokens, 0), "float32")
        x = keras.ops.sum(x * keras.ops.expand_dims(real, -1), axis=1)
    x = keras.layers.Dense(3, activation="softmax")(x)
    return keras.Model([tokens, segments], x)


@pytest.fixture(scope="module")
def classifier():
    model = two_input_model()
    model.compile(
        "sgd",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=COMPILED,
    )
    return model


@pytest.fixture
def generator():
    data = list(zip(TOKENS, SEGMENTS, LABELS, strict=True))
    return Classification(data, batch_size=2)


def scores_of_tokens(model):
    """What `two_input_model` computes for the tokens of each example, in NumPy."""
    tokens, segments, kernel, bias = model.get_weights()
    pairs = zip(TOKENS, SEGMENTS, strict=True)
    return [
        (tokens[t] + segments[s]).astype("float64") @ kernel + bias for t, s in pairs
    ]


def probabilities(model):
    """The model's classes for each example: the bias counts only once."""
    bias = model.get_weights()[-1]
    return softmax(
        np.array([(s - bias).sum(0) + bias for s in scores_of_tokens(model)])
    )


def test_fit_takes_a_generator_as_old_scripts_write_it(classifier, generator):
    history = classifier.fit(
        generator.forfit(), steps_per_epoch=len(generator), epochs=2, verbose=0
    )
    assert len(history.history["loss"]) == 2
    assert np.isfinite(history.history["loss"]).all()


def test_predict_keeps_the_order_of_a_generator(classifier, generator):
    predicted = classifier.predict(generator.fortest(), steps=len(generator), verbose=0)
    np.testing.assert_allclose(predicted, probabilities(classifier), rtol=1e-5)


def test_fit_takes_a_generator_without_targets(generator):
    class Untargeted(Classification):
        def __iter__(self, random=False):
            for x, _ in super().__iter__(random):
                yield x, None

    class MeanLoss(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.mean(inputs))
            return inputs

    base = two_input_model()
    model = keras.Model(base.inputs, MeanLoss()(base.output))
    model.compile("sgd", jit_compile=COMPILED)
    data = Untargeted(generator.data, batch_size=2)
    history = model.fit(data.forfit(), steps_per_epoch=len(data), verbose=0)
    # Probabilities of three classes average to a third.
    assert history.history["loss"] == pytest.approx([1 / 3], rel=1e-5)


def padded(**kwargs):
    return PaddedBatches(
        [TOKENS, SEGMENTS],
        [[n] for n in LABELS],
        batch_size=2,
        window=2,
        seed=3,
        **kwargs,
    )


def test_padded_batches_fit_evaluate_predict(classifier):
    batches = padded()
    classifier.fit(
        batches.forfit(),
        steps_per_epoch=len(batches),
        epochs=2,
        validation_data=batches.foreval(),
        verbose=0,
    )
    expected = probabilities(classifier)
    predicted = classifier.predict(batches.fortest(), verbose=0)
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)
    loss, accuracy = classifier.evaluate(batches.foreval(), verbose=0)
    chosen = expected[np.arange(len(LABELS)), LABELS]
    assert loss == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert accuracy == pytest.approx(np.mean(expected.argmax(-1) == LABELS))


def test_training_continues_at_any_batch():
    """`fit` sees exactly the planned batches, in one run or from the middle on."""
    batches = padded()
    model = two_input_model()
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        jit_compile=COMPILED,
    )
    losses = -np.log(probabilities(model)[np.arange(len(LABELS)), LABELS])
    planned = [losses[i].mean() for epoch in range(2) for i in batches.order(epoch)]

    def seen(feed, steps):
        history = model.fit(feed, steps_per_epoch=1, epochs=steps, verbose=0)
        return history.history["loss"]

    np.testing.assert_allclose(seen(batches.forfit(), 6), planned, rtol=1e-5)
    resumed = seen(batches.forfit(epoch=1, batch=1), 2)
    np.testing.assert_allclose(resumed, planned[4:], rtol=1e-5)


def test_labels_and_weights_of_tokens():
    model = two_input_model(per_token=True)
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
        jit_compile=COMPILED,
    )
    batches = PaddedBatches(
        {"Input-Token": TOKENS, "Input-Segment": SEGMENTS},
        labels=SEGMENTS,
        sample_weights=[[1.0] * n for n in LENGTHS],
        label_padding=0,
        pad_to_multiple=4,
        batch_size=2,
    )
    history = model.fit(batches.forfit(), steps_per_epoch=len(batches), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    # Keras first averages within each padded sequence: here of 4 or of 8 tokens.
    size = [4 if n <= 4 else 8 for n in LENGTHS]
    pairs = zip(scores_of_tokens(model), SEGMENTS, strict=True)
    right = [(scores.argmax(-1) == labels).sum() for scores, labels in pairs]
    expected = np.divide(right, size).sum() / np.divide(LENGTHS, size).sum()
    accuracy = model.evaluate(batches.foreval(), verbose=0)[1]
    assert accuracy == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        # one class for each example; as many labels as classes; one for each token
        ([(2, 1), (2, 1)], (None, 1)),
        ([(2, 9), (2, 9)], (None, 9)),
        ([(2, 5), (2, 5)], (None, None)),
        ([(2, 3), (2, 4)], (None, None)),
        ([(2,), (1,)], (None,)),
        # scores of pairs of tokens for each of 3 labels; 2 lists of 4 pairs of tokens
        ([(2, 3, 5, 5), (2, 3, 5, 5)], (None, None, None, None)),
        ([(2, 2, 4, 1), (2, 2, 4, 1)], (None, None, None, 1)),
    ],
)
def test_which_lengths_are_left_open(targets, expected):
    inputs = {"a": np.zeros((2, 5), "int32"), "b": np.zeros((2, 1), "float32")}
    x, y = open_spec([(inputs, np.zeros(shape)) for shape in targets])
    assert {name: (k.shape, k.dtype) for name, k in x.items()} == {
        "a": ((None, None), "int32"),
        "b": ((None, None), "float32"),
    }
    assert y.shape == expected


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (([1, 2], 3), ((1, 2), 3)),
        ([[1, 2], 3], ((1, 2), 3)),
        (([1, 2], None), ((1, 2),)),
        ((1, [2, 3], 4), (1, (2, 3), 4)),
        ({"a": 1}, ({"a": 1},)),
        ("x", ("x",)),
    ],
)
def test_form_of_a_batch(batch, expected):
    assert as_keras_batch(batch) == expected


def test_data_without_a_batch_are_reported(generator):
    spent = Classification(iter(generator.data), batch_size=2)
    assert len(list(spent)) == 3
    with pytest.raises(ValueError, match=r"gave no batch.*read to its end"):
        next(iter(spent.forfit()))


def test_an_endless_stream_loses_nothing():
    class Counting(DataGenerator):
        def __iter__(self, random=False):
            for _, n in self.sample(random):
                yield np.full((1, 2 + n % 3), n), np.array([[n]])

    feed = iter(Counting(itertools.count(), batch_size=1).forfit(random=False))
    assert [int(x[0, 0]) for x, _ in itertools.islice(feed, 6)] == list(range(6))


def test_a_single_column_is_given_bare():
    model = keras.Sequential([keras.layers.Embedding(20, 2)])
    batches = PaddedBatches([TOKENS], batch_size=4, pad_to_multiple=5)
    predicted = model.predict(batches.fortest(), verbose=0)
    assert predicted.shape == (len(TOKENS), 5, 2)


def test_fit_says_what_to_give_it_instead(classifier):
    with pytest.raises(ValueError, match=r"6 examples in 3 batches; .*\.forfit\(\)"):
        classifier.fit(padded(), verbose=0)
