"""Batches through `fit`, `evaluate` and `predict`, on the backend under test."""

import keras
import numpy as np
import pytest

from bert4keras.data import DataGenerator, PaddedBatches, sequence_padding

# Equal lengths first: Keras must not take them for the lengths of all.
LENGTHS = [5, 5, 5, 5, 3, 2, 7, 4, 1]
RNG = np.random.default_rng(0)
TOKENS = [RNG.integers(1, 20, n).tolist() for n in LENGTHS]
SEGMENTS = [[i % 2 for i in range(n)] for n in LENGTHS]
LABELS = [n % 3 for n in LENGTHS]


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
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def generator():
    data = list(zip(TOKENS, SEGMENTS, LABELS, strict=True))
    return Classification(data, batch_size=2)


def alone(model):
    """The model's prediction for each example by itself."""
    pairs = zip(TOKENS, SEGMENTS, strict=True)
    inputs = [(np.array([t]), np.array([s])) for t, s in pairs]
    return np.concatenate([model.predict_on_batch(x) for x in inputs])


def test_fit_takes_a_generator_as_old_scripts_write_it(classifier, generator):
    history = classifier.fit(
        generator.forfit(), steps_per_epoch=len(generator), epochs=3, verbose=0
    )
    assert len(history.history["loss"]) == 3
    assert np.isfinite(history.history["loss"]).all()


def test_predict_keeps_the_order_of_a_generator(classifier, generator):
    predicted = classifier.predict(generator.fortest(), steps=len(generator), verbose=0)
    np.testing.assert_allclose(predicted, alone(classifier), rtol=1e-5)


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
    model.compile("sgd")
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
    expected = alone(classifier)
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
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    losses = -np.log(alone(model)[np.arange(len(LABELS)), LABELS])
    planned = [losses[i].mean() for epoch in range(2) for i in batches.order(epoch)]

    def seen(feed, steps):
        history = model.fit(feed, steps_per_epoch=1, epochs=steps, verbose=0)
        return history.history["loss"]

    np.testing.assert_allclose(seen(batches.forfit(), 10), planned, rtol=1e-5)
    resumed = seen(batches.forfit(epoch=1, batch=2), 3)
    np.testing.assert_allclose(resumed, planned[7:], rtol=1e-5)


def test_labels_and_weights_of_tokens():
    model = two_input_model(per_token=True)
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
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
    right = [
        (
            model.predict_on_batch((np.array([t]), np.array([s]))).argmax(-1)[0] == s
        ).sum()
        for t, s in zip(TOKENS, SEGMENTS, strict=True)
    ]
    expected = np.divide(right, size).sum() / np.divide(LENGTHS, size).sum()
    accuracy = model.evaluate(batches.foreval(), verbose=0)[1]
    assert accuracy == pytest.approx(expected, rel=1e-5)
