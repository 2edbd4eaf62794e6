"""Adam against a float64 transcription of its paper, and its options."""

import keras
import numpy as np
import pytest
from optimizer_cases import make_gradients, make_variables, run, train

from bert4keras.optimizers import Adam


def expected_path(sequence, rate, epsilon, corrected, beta_1=0.9, beta_2=0.999):
    values = [np.array(v, dtype="float64") for v in make_variables()]
    means = [np.zeros_like(v) for v in values]
    squares = [np.zeros_like(v) for v in values]
    path = []
    for step, gradients in enumerate(sequence, 1):
        for i, gradient in enumerate(gradients):
            gradient = gradient.astype("float64")
            means[i] = beta_1 * means[i] + (1 - beta_1) * gradient
            squares[i] = beta_2 * squares[i] + (1 - beta_2) * gradient**2
            m, v = means[i], squares[i]
            if corrected:
                m, v = m / (1 - beta_1**step), v / (1 - beta_2**step)
            values[i] = values[i] - rate * m / (np.sqrt(v) + epsilon)
        path.append(list(values))
    return path


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_follows_the_paper(corrected, epsilon):
    sequence = make_gradients(6)
    optimizer = Adam(0.02, epsilon=epsilon, bias_correction=corrected)
    expected = expected_path(sequence, 0.02, epsilon, corrected)
    for ours, theirs in zip(run(optimizer, sequence), expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_repeated_tokens_are_summed_on_every_backend():
    # PyTorch and JAX hand over a sum; TensorFlow hands over one slice a token.
    optimizer = Adam(0.1, weight_decay=0.1)
    weights = train(optimizer, batch_size=24)
    if keras.backend.backend() == "tensorflow":
        from tensorflow import convert_to_tensor

        class Dense(Adam):
            def update_step(self, gradient, variable, learning_rate):
                gradient = convert_to_tensor(gradient)
                super().update_step(gradient, variable, learning_rate)

        summed = train(Dense(0.1, weight_decay=0.1), batch_size=24)
        for a, b in zip(weights, summed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_config_round_trip():
    optimizer = Adam(0.3, 0.8, 0.99, 1e-4, bias_correction=False, clipnorm=1.0)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is Adam
    assert again.get_config() == optimizer.get_config()
    assert again.bias_correction is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("beta_1", 1.0), ("beta_1", -0.1), ("beta_2", 1), ("beta_2", "x")],
        *[("epsilon", -1e-6), ("epsilon", None), ("epsilon", float("inf"))],
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=name):
        Adam(**{name: value})
